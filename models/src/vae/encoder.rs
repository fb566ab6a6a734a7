//! Pixels to latents: both encoders in a row.

use candle_core::Tensor;

use super::VaeConfig;
use super::posterior::{Posterior, PosteriorNoise};
use super::spatial::SpatialEncoder;
use super::temporal::TemporalEncoder;
use super::video_vae::{SPATIAL_WEIGHTS, TEMPORAL_WEIGHTS};
use crate::error::{ModelError, Result};
use crate::probe::Probe;
use crate::weights::Weights;

/// # Source
/// `VideoAutoencoderPipeline.encode` of `vae.py`, before the latents are normalised.
pub(super) struct VideoEncoder {
    spatial: SpatialEncoder,
    temporal: TemporalEncoder,
}

impl VideoEncoder {
    pub(super) fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            spatial: SpatialEncoder::load(&weights.pp(SPATIAL_WEIGHTS), &config.spatial)?,
            temporal: TemporalEncoder::load(&weights.pp(TEMPORAL_WEIGHTS), &config.temporal)?,
        })
    }

    /// # Shapes
    /// `[B, 3, F, H, W]` to `[B, latent channels, T, H / 8, W / 8]`.
    pub(super) fn forward(
        &self,
        config: &VaeConfig,
        video: &Tensor,
        noise: Option<&PosteriorNoise>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let frames = self.encode_frames(config, video, noise, probe)?;
        self.encode_time(config, &frames, noise, probe)
    }

    fn encode_frames(
        &self,
        config: &VaeConfig,
        video: &Tensor,
        noise: Option<&PosteriorNoise>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let (batch, channels, num_frames, height, width) = video.dims5()?;
        let factor = config.spatial_factor();
        let fits = |pixels: usize| pixels > 0 && pixels.is_multiple_of(factor);
        if channels != config.spatial.in_channels
            || num_frames == 0
            || !fits(height)
            || !fits(width)
        {
            return Err(ModelError::bad_input(format!(
                "a video of shape {:?} cannot be encoded: expected [B, {}, F, H, W] with at least one frame, H and W \
                 multiples of {factor}",
                video.dims(),
                config.spatial.in_channels
            )));
        }
        let frames = video.transpose(1, 2)?.flatten(0, 1)?;
        let micro_batch = config.spatial.micro_batch_size;
        let mut moments = Vec::new();
        for first in (0..batch * num_frames).step_by(micro_batch) {
            let count = micro_batch.min(batch * num_frames - first);
            moments.push(self.spatial.forward(&frames.narrow(0, first, count)?)?);
        }
        let posterior = Posterior::new(&Tensor::cat(&moments, 0)?)?;
        probe.tap("spatial_mean", &posterior.mean);
        probe.tap("spatial_logvar", &posterior.log_variance);
        let latents = posterior.latent(noise.map(|noise| &noise.spatial))?;
        let latents = (latents * config.spatial.scaling_factor)?;
        let shape = (batch, num_frames, (), height / factor, width / factor);
        Ok(latents.reshape(shape)?.transpose(1, 2)?.contiguous()?)
    }

    fn encode_time(
        &self,
        config: &VaeConfig,
        frames: &Tensor,
        noise: Option<&PosteriorNoise>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let num_frames = frames.dim(2)?;
        let mut moments = Vec::new();
        for first in (0..num_frames).step_by(config.micro_frame_size) {
            let count = config.micro_frame_size.min(num_frames - first);
            let padding = count.next_multiple_of(config.temporal.time_factor()) - count;
            let chunk = frames.narrow(2, first, count)?.pad_with_zeros(2, padding, 0)?;
            if first == 0 {
                probe.tap("temporal_in_chunk0", &chunk);
            }
            moments.push(self.temporal.forward(&chunk)?);
        }
        let posterior = Posterior::new(&Tensor::cat(&moments, 2)?)?;
        probe.tap("temporal_mean", &posterior.mean);
        probe.tap("temporal_logvar", &posterior.log_variance);
        posterior.latent(noise.map(|noise| &noise.temporal))
    }
}
