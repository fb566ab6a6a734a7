//! The normal distribution that each of the two encoders gives instead of one latent.

use candle_core::Tensor;

use crate::error::{ModelError, Result};

/// Standard normal noise that turns posterior means into posterior samples.
#[derive(Debug, Clone)]
pub struct PosteriorNoise {
    /// For the spatial posterior: `[B * F, latent channels, H / 8, W / 8]`, all frames of the first sample first.
    pub spatial: Tensor,
    /// For the temporal posterior: `[B, latent channels, T, H / 8, W / 8]`.
    pub temporal: Tensor,
}

/// A normal distribution with independent axes.
pub(super) struct Posterior {
    pub(super) mean: Tensor,
    pub(super) log_variance: Tensor,
}

impl Posterior {
    /// Splits an encoder's output.
    ///
    /// # Shapes
    /// `moments` `[N, 2 * C, ...]`: means, then logarithms of variances.
    ///
    /// # Source
    /// `DiagonalGaussianDistribution`, with the same clamp, of diffusers and of `opensora/models/vae/utils.py`.
    pub(super) fn new(moments: &Tensor) -> Result<Self> {
        let channels = moments.dim(1)? / 2;
        let mean = moments.narrow(1, 0, channels)?.contiguous()?;
        let log_variance = moments.narrow(1, channels, channels)?.clamp(-30f32, 20f32)?;
        Ok(Self { mean, log_variance })
    }

    /// The mean without noise, else `mean + std * noise`.
    pub(super) fn latent(&self, noise: Option<&Tensor>) -> Result<Tensor> {
        let Some(noise) = noise else { return Ok(self.mean.clone()) };
        if noise.dims() != self.mean.dims() {
            return Err(ModelError::bad_input(format!(
                "posterior noise has shape {:?}; expected {:?}",
                noise.dims(),
                self.mean.dims()
            )));
        }
        let deviation = (&self.log_variance * 0.5)?.exp()?;
        Ok((&self.mean + (deviation * noise.to_dtype(self.mean.dtype())?)?)?)
    }
}
