//! Latents to pixels, some frames at a time.

use candle_core::Tensor;

use super::VideoVae;
use crate::error::{ModelError, Result};
use crate::probe::{NoProbe, Probe};

/// The frames of a video, decoded as they are asked for.
///
/// Each item is `[B, 3, n, H, W]` with the next `n` frames; `n` is the micro batch size, and less only at the
/// end. What is kept between items are the spatial latents of at most one chunk and a micro batch, so memory
/// does not grow with the video. The items joined are [`VideoVae::decode`], bit for bit.
///
/// # Source
/// `VideoAutoencoderPipeline.decode` and `VideoAutoencoderKL.decode` of `vae.py`. The micro batches run over
/// all frames and across chunk borders, as there; only samples of a batch never share one, which changes no
/// value.
pub struct FrameStream<'a> {
    vae: &'a VideoVae,
    /// `[B, C, T, h, w]`, denormalised.
    latents: Tensor,
    /// Latent frames that went through the temporal decoder.
    latents_used: usize,
    /// Pixel frames that are not yet in `pending`.
    frames_ahead: usize,
    /// Spatial latents whose pixels were not asked for yet: `[B, C, n, h, w]`.
    pending: Option<Tensor>,
    emitted_any: bool,
}

impl<'a> FrameStream<'a> {
    /// # Errors
    /// `latents` are not those of `num_frames` frames.
    pub(super) fn new(vae: &'a VideoVae, latents: &Tensor, num_frames: usize) -> Result<Self> {
        let (channels, frames) =
            (vae.config().latent_channels(), vae.config().latent_frames(num_frames));
        let fits = match latents.dims() {
            [batch, c, t, h, w] => {
                num_frames > 0 && batch * h * w > 0 && (*c, *t) == (channels, frames)
            }
            _ => false,
        };
        if !fits {
            return Err(ModelError::bad_input(format!(
                "latents of shape {:?} are not those of {num_frames} frames: \
                 expected [B, {channels}, {frames}, h, w]",
                latents.dims()
            )));
        }
        Ok(Self {
            vae,
            latents: vae.denormalise(latents)?,
            latents_used: 0,
            frames_ahead: num_frames,
            pending: None,
            emitted_any: false,
        })
    }

    /// The next frames, or `None` when all were handed out; `probe` sees the first chunk, and the first
    /// micro batch of the first sample.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn next_frames(&mut self, probe: &mut dyn Probe) -> Result<Option<Tensor>> {
        let micro_batch = self.vae.config().spatial.micro_batch_size;
        while self.pending_frames() < micro_batch && self.frames_ahead > 0 {
            self.decode_chunk(probe)?;
        }
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let (available, count) = (pending.dim(2)?, micro_batch.min(pending.dim(2)?));
        if available > count {
            self.pending = Some(pending.narrow(2, count, available - count)?);
        }
        let mut samples = Vec::new();
        for sample in 0..pending.dim(0)? {
            let frames = pending.get(sample)?.narrow(1, 0, count)?.transpose(0, 1)?;
            let mut silent = NoProbe;
            let probe: &mut dyn Probe = if self.emitted_any { &mut silent } else { &mut *probe };
            self.emitted_any = true;
            samples.push(self.vae.decode_frames(&frames, probe)?.transpose(0, 1)?);
        }
        Ok(Some(Tensor::stack(&samples, 0)?))
    }

    /// Runs the temporal decoder over all that is left and returns every frame's spatial latents: `[B, C, F, h, w]`.
    pub(super) fn decode_all_chunks(&mut self, probe: &mut dyn Probe) -> Result<Option<&Tensor>> {
        while self.frames_ahead > 0 {
            self.decode_chunk(probe)?;
        }
        Ok(self.pending.as_ref())
    }

    fn pending_frames(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.dims()[2])
    }

    /// Moves the next chunk through the temporal decoder, into `pending`.
    fn decode_chunk(&mut self, probe: &mut dyn Probe) -> Result<()> {
        let config = self.vae.config();
        let frames = config.micro_frame_size.min(self.frames_ahead);
        let latent_frames = frames.div_ceil(config.temporal.time_factor());
        let chunk = self.latents.narrow(2, self.latents_used, latent_frames)?;
        let mut silent = NoProbe;
        let probe: &mut dyn Probe = if self.latents_used == 0 { probe } else { &mut silent };
        let decoded = self.vae.decode_time(&chunk, probe)?;
        // The encoder padded the chunk in front, so the surplus is in front too.
        let decoded = decoded.narrow(2, decoded.dim(2)? - frames, frames)?;
        self.pending = Some(match self.pending.take() {
            Some(pending) => Tensor::cat(&[&pending, &decoded], 2)?,
            None => decoded,
        });
        self.latents_used += latent_frames;
        self.frames_ahead -= frames;
        Ok(())
    }
}
