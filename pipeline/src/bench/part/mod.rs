//! The heavy parts of the model by themselves, with random weights and random inputs.
//!
//! A part is built once and then run again and again, as often as its time is taken. Weights and inputs follow from fixed
//! seeds, and nothing of the model but the part itself is in memory while it runs.

mod matmul;
mod stdit_pair;
mod t5_block;
mod vae;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sora_models::bundle::PartName;
use sora_models::checkpoint_tools::{Preset, RandomSource};
use sora_models::rflow::initial_noise;
use sora_models::weights::Weights;
use sora_models::{ModelError, Result};

pub use matmul::SquareMatmul;
pub use stdit_pair::StditPair;
pub use t5_block::T5BlockPart;
pub use vae::{VaeSpatialPart, VaeTemporalPart};

/// A part of the model, and the sizes of what it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum ModelPart {
    /// A spatial and a temporal block of the diffusion transformer.
    StditPair(StditPair),
    /// A block of the text encoder.
    T5Block(T5BlockPart),
    /// The autoencoder's spatial decoder.
    VaeSpatial(VaeSpatialPart),
    /// The autoencoder's temporal decoder.
    VaeTemporal(VaeTemporalPart),
    /// A dense layer by itself, which shows what the machine can do.
    Matmul(SquareMatmul),
}

/// A part of a model of known sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTask {
    /// The model's sizes.
    pub preset: Preset,
    /// The part.
    #[serde(flatten)]
    pub part: ModelPart,
}

/// A part that is built: each call runs it once.
pub(super) type BuiltPart = Box<dyn FnMut() -> Result<Tensor>>;

impl PartTask {
    /// Makes up weights and inputs.
    ///
    /// # Errors
    /// The sizes do not fit the model, or a tensor cannot be created on the device.
    pub(super) fn build(&self, dtype: DType, device: &Device) -> Result<BuiltPart> {
        let maker = PartMaker { preset: self.preset, dtype, device };
        match &self.part {
            ModelPart::StditPair(part) => part.build(&maker),
            ModelPart::T5Block(part) => part.build(&maker),
            ModelPart::VaeSpatial(part) => part.build(&maker),
            ModelPart::VaeTemporal(part) => part.build(&maker),
            ModelPart::Matmul(part) => part.build(&maker),
        }
    }

    /// What running it once takes: the products of dense layers, a multiplication and an addition each counted as one
    /// operation. Attention scores, norms and activations are left out; `None` for convolutions, which are computed
    /// with fewer operations than their definition has.
    ///
    /// # Units
    /// 10^9 floating point operations.
    ///
    /// # Errors
    /// None: the configs of presets are sound.
    pub fn gflop(&self) -> Result<Option<f64>> {
        let multiplications = match &self.part {
            ModelPart::StditPair(part) => part.multiplications(&self.preset.stdit3_config()?),
            ModelPart::T5Block(part) => part.multiplications(&self.preset.t5_config()?),
            ModelPart::Matmul(part) => part.multiplications(),
            ModelPart::VaeSpatial(_) | ModelPart::VaeTemporal(_) => return Ok(None),
        };
        Ok(Some(2.0 * multiplications as f64 / 1e9))
    }

    /// What it is, in words.
    pub fn description(&self) -> String {
        let part = match &self.part {
            ModelPart::StditPair(part) => part.description(),
            ModelPart::T5Block(part) => part.description(),
            ModelPart::VaeSpatial(part) => part.description(),
            ModelPart::VaeTemporal(part) => part.description(),
            ModelPart::Matmul(part) => return part.description(),
        };
        format!("{part}; sizes of {}", self.preset)
    }
}

/// What parts are made with.
struct PartMaker<'a> {
    preset: Preset,
    dtype: DType,
    device: &'a Device,
}

/// Our choice; the work is the same for every seed.
const SEED: u64 = 42;

impl PartMaker<'_> {
    /// The root of a network's random checkpoint.
    fn weights(&self, network: PartName) -> Weights {
        Weights::new(Arc::new(RandomSource::new(network, SEED)), self.dtype, self.device)
    }

    /// Normally distributed values in the compute dtype.
    fn input(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(initial_noise(SEED, shape, self.device)?.to_dtype(self.dtype)?)
    }
}

/// Latent values that `side_px` pixels are.
fn latent_side(side_px: usize, factor: usize) -> Result<usize> {
    if side_px == 0 || !side_px.is_multiple_of(factor) {
        let refusal =
            format!("a picture of {side_px} pixels a side: expected a multiple of {factor}");
        return Err(ModelError::BadInput(refusal));
    }
    Ok(side_px / factor)
}
