//! A denoised latent on its way to the decoder.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{check_count, check_version};
use crate::error::PayloadError;

/// The result of denoising, before the decoder: enough to decode it later, or on another machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latent {
    /// [`Latent::FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// `[C, T, H, W]` in latent units.
    pub shape: [usize; 4],
    /// The values, row-major. Narrower compute dtypes widen to f32 without loss.
    pub values: Vec<f32>,
    /// How many frames the video shall have; the latent's T follows from it, but not the other way round.
    pub num_frames: usize,
}

impl Latent {
    /// Version of this payload's layout.
    pub const FORMAT_VERSION: u32 = 1;

    /// Takes one sample's latent out of a tensor.
    ///
    /// # Shapes
    /// `latent`: `[1, C, T, H, W]`, any float dtype.
    ///
    /// # Errors
    /// Another shape, or the tensor cannot be copied to the CPU.
    pub fn from_tensor(latent: &Tensor, num_frames: usize) -> Result<Self, PayloadError> {
        let &[1, channels, frames, height, width] = latent.dims() else {
            return Err(PayloadError::Tensor {
                payload: "latent",
                expected: "[1, C, T, H, W]",
                shape: latent.dims().to_vec(),
                dtype: latent.dtype(),
            });
        };
        let values = latent.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(Self {
            format_version: Self::FORMAT_VERSION,
            shape: [channels, frames, height, width],
            values: values.flatten_all()?.to_vec1()?,
            num_frames,
        })
    }

    /// The latent as a tensor.
    ///
    /// # Shapes
    /// `[1, C, T, H, W]`.
    ///
    /// # Errors
    /// Another version, values that do not fill the shape, or the device refuses.
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Result<Tensor, PayloadError> {
        self.check()?;
        let [channels, frames, height, width] = self.shape;
        let shape = (1, channels, frames, height, width);
        Ok(Tensor::from_slice(&self.values, shape, &Device::Cpu)?
            .to_device(device)?
            .to_dtype(dtype)?)
    }

    pub(super) fn check(&self) -> Result<(), PayloadError> {
        check_version("latent", self.format_version, Self::FORMAT_VERSION)?;
        check_count("latent", &self.shape, self.values.len())
    }
}
