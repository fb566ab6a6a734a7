//! Cases of kind `stdit3`: one call of the diffusion transformer.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::case::Case;
use super::compare::Comparison;
use crate::error::Result;
use crate::probe::Probe;
use crate::stdit3::{MergeSteps, PromptInput, Stdit3, Stdit3Config, StepInput, TemporalTokenMerge};

#[derive(Deserialize)]
struct Params {
    step: usize,
    merge_steps: usize,
}

pub(super) fn run(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let params: Params = case.part("/params")?;
    let model = load(case, device)?;
    let floats = |name: &str| -> Result<Vec<f32>> {
        Ok(case.tensor(name, &Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()?)
    };
    let latent = case.tensor("x", device)?;
    let (_, _, frames, height, width) = latent.dims5()?;
    let (height_px, width_px) = (floats("height")?, floats("width")?);
    let prompt = model.ends().prepare(
        &PromptInput {
            text: &case.tensor("y", device)?,
            text_mask: &case.tensor("mask", device)?,
            frames_per_second: &floats("fps")?,
            picture_px: (first(case, &height_px)?, first(case, &width_px)?),
            latent_size: [frames, height, width],
        },
        comparison,
    )?;
    let merges = MergeSteps::First(params.merge_steps).includes(params.step);
    let frame_mask: Option<Tensor> = case.optional_tensor("x_mask", device)?;
    let step = StepInput {
        latent: &latent,
        timesteps: &floats("timestep")?,
        frame_mask: frame_mask.as_ref(),
        merge: merges.then(TemporalTokenMerge::default),
    };
    // Once with a look into the blocks, which take the plain path then, and once in the fastest way.
    model.forward(&prompt, &step, comparison)?;
    model.forward(&prompt, &step, &mut OutsideBlocks(comparison))?;
    Ok(())
}

/// Compares what comes out of blocks, and not what happens within.
struct OutsideBlocks<'a, 'b>(&'a mut Comparison<'b>);

impl Probe for OutsideBlocks<'_, '_> {
    fn tap(&mut self, name: &str, tensor: &Tensor) {
        self.0.tap(name, tensor);
    }

    fn looks_inside_blocks(&self) -> bool {
        false
    }
}

/// The case's model, with its config checked as a checkpoint's is.
pub(super) fn load(case: &Case, device: &Device) -> Result<Stdit3> {
    let config: serde_json::Value = case.part("/config")?;
    let config = Stdit3Config::from_json(&config.to_string(), &case.dir.join("case.json"))?;
    Stdit3::load(&case.weights(None, device)?, &config)
}

fn first(case: &Case, values: &[f32]) -> Result<f64> {
    let value = values.first().ok_or_else(|| case.unusable("an input tensor is empty".into()))?;
    Ok(f64::from(*value))
}
