//! Latents to pixels in two passes: all of time first, then some frames at a time.
//!
//! Each pass needs the weights of one network only, so that they need not be in memory together. What lies between the
//! passes is small: a few kilobytes a frame.

use candle_core::{DType, Tensor};

use super::VaeConfig;
use super::spatial::SpatialDecoder;
use super::temporal::TemporalDecoder;
use super::video_vae::{SPATIAL_WEIGHTS, TEMPORAL_WEIGHTS};
use crate::error::{ModelError, Result};
use crate::probe::{NoProbe, Probe};
use crate::weights::Weights;

/// The first pass: the diffusion model's latents to the spatial latents of every frame.
///
/// # Source
/// `VideoAutoencoderPipeline.decode` of `vae.py`.
pub struct TemporalPass {
    config: VaeConfig,
    /// Latents are `(temporal latents - shift) / scale`; both are `[1, C, 1, 1, 1]`.
    scale: Tensor,
    shift: Tensor,
    decoder: TemporalDecoder,
}

impl TemporalPass {
    /// Reads the temporal decoder and the latents' scale from the checkpoint's root.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the config asks for.
    pub fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let channels = config.latent_channels();
        let per_channel = |name: &str| weights.tensor(name, (1, channels, 1, 1, 1));
        Ok(Self {
            config: config.clone(),
            scale: per_channel("scale")?,
            shift: per_channel("shift")?,
            decoder: TemporalDecoder::load(&weights.pp(TEMPORAL_WEIGHTS), &config.temporal)?,
        })
    }

    /// Runs chunk by chunk; `probe` sees the first one.
    ///
    /// # Shapes
    /// `latents` `[B, C, T, h, w]` to `[B, C, num_frames, h, w]`.
    ///
    /// # Units
    /// `num_frames` counts pixel frames.
    ///
    /// # Errors
    /// `latents` are not those of `num_frames` frames; a tensor operation fails.
    pub fn frame_latents(
        &self,
        latents: &Tensor,
        num_frames: usize,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        self.check(latents, num_frames)?;
        let latents = self.denormalise(latents)?;
        let (mut chunks, mut silent) = (Vec::new(), NoProbe);
        let (mut latents_used, mut frames_ahead) = (0, num_frames);
        while frames_ahead > 0 {
            let frames = self.config.micro_frame_size.min(frames_ahead);
            let latent_frames = frames.div_ceil(self.config.temporal.time_factor());
            let chunk = latents.narrow(2, latents_used, latent_frames)?;
            let probe: &mut dyn Probe = if latents_used == 0 { &mut *probe } else { &mut silent };
            let decoded = self.decoder.forward(&chunk, probe)?;
            // The encoder padded the chunk in front, so the surplus is in front too.
            chunks.push(decoded.narrow(2, decoded.dim(2)? - frames, frames)?);
            latents_used += latent_frames;
            frames_ahead -= frames;
        }
        Ok(Tensor::cat(&chunks, 2)?)
    }

    fn check(&self, latents: &Tensor, num_frames: usize) -> Result<()> {
        let channels = self.config.latent_channels();
        let frames = self.config.latent_frames(num_frames);
        let fits = match latents.dims() {
            [batch, c, t, h, w] => {
                num_frames > 0 && batch * h * w > 0 && (*c, *t) == (channels, frames)
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(ModelError::bad_input(format!(
            "latents of shape {:?} are not those of {num_frames} frames: \
             expected [B, {channels}, {frames}, h, w]",
            latents.dims()
        )))
    }

    /// The diffusion model's latents to the temporal decoder's, in the compute dtype.
    fn denormalise(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = latents.to_dtype(self.scale.dtype())?;
        Ok(latents.broadcast_mul(&self.scale)?.broadcast_add(&self.shift)?)
    }

    /// What it computes in.
    pub(super) fn dtype(&self) -> DType {
        self.scale.dtype()
    }

    /// The temporal encoder's latents to the diffusion model's.
    pub(super) fn normalise(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(latents.broadcast_sub(&self.shift)?.broadcast_div(&self.scale)?)
    }
}

/// The second pass: spatial latents to pixels, each frame by itself.
pub struct SpatialPass {
    micro_batch: usize,
    scaling_factor: f64,
    decoder: SpatialDecoder,
}

impl SpatialPass {
    /// Reads the spatial decoder from the checkpoint's root.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the config asks for.
    pub fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let config = &config.spatial;
        Ok(Self {
            micro_batch: config.micro_batch_size,
            scaling_factor: config.scaling_factor,
            decoder: SpatialDecoder::load(&weights.pp(SPATIAL_WEIGHTS), config)?,
        })
    }

    /// The pixels of what the first pass made, a micro batch at a time.
    pub fn frames(&self, frame_latents: Tensor) -> FrameStream<'_> {
        self.frames_by(self.micro_batch, frame_latents)
    }

    /// The same pixels, with at most `at_once` frames at a time.
    pub fn frames_by(&self, at_once: usize, frame_latents: Tensor) -> FrameStream<'_> {
        FrameStream { pass: self, latents: frame_latents, at_once: at_once.max(1), next: 0 }
    }
}

/// The frames of a video, decoded as they are asked for.
///
/// Each item is `[B, 3, n, H, W]` with the next `n` frames; `n` is less than asked for only at the end.
///
/// # Source
/// `VideoAutoencoderKL.decode` of `vae.py`. The micro batches run over all frames and across chunk borders, as there; only
/// samples of a batch never share one, which changes no value.
pub struct FrameStream<'a> {
    pass: &'a SpatialPass,
    /// `[B, C, F, h, w]`
    latents: Tensor,
    at_once: usize,
    next: usize,
}

impl FrameStream<'_> {
    /// The next frames, or `None` when all were handed out; `probe` sees the first micro batch of the first sample.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn next_frames(&mut self, probe: &mut dyn Probe) -> Result<Option<Tensor>> {
        let count = self.at_once.min(self.latents.dim(2)? - self.next);
        if count == 0 {
            return Ok(None);
        }
        let latents = self.latents.narrow(2, self.next, count)?;
        let (mut samples, mut silent) = (Vec::new(), NoProbe);
        for sample in 0..latents.dim(0)? {
            let first = self.next == 0 && sample == 0;
            let probe: &mut dyn Probe = if first { &mut *probe } else { &mut silent };
            let frames = (latents.get(sample)?.transpose(0, 1)? / self.pass.scaling_factor)?;
            samples.push(self.pass.decoder.forward(&frames, probe)?.transpose(0, 1)?);
        }
        self.next += count;
        Ok(Some(Tensor::stack(&samples, 0)?))
    }
}
