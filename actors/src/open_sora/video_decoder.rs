//! Latents through the video autoencoder, a few frames at a time.

use std::ops::ControlFlow;

use candle_core::{DType, Device};
use sora_models::ModelError;
use sora_models::probe::NoProbe;
use sora_models::vae::{VideoVae, to_rgb8};

use crate::compute::{Computed, DecodeLatent};
use crate::messages::{Latent, VideoChunk};

/// The autoencoder's decoder.
pub struct VideoDecoder {
    vae: VideoVae,
    device: Device,
}

impl VideoDecoder {
    /// Decodes with `vae`, whose weights are on `device`.
    pub fn new(vae: VideoVae, device: &Device) -> Self {
        Self { vae, device: device.clone() }
    }
}

impl DecodeLatent for VideoDecoder {
    fn decode(
        &self,
        latent: &Latent,
        emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()> {
        let tensor = latent.to_tensor(DType::F32, &self.device)?;
        let mut stream = self.vae.decode_chunks(&tensor, latent.num_frames)?;
        let mut first_frame = 0;
        while let Some(frames) = stream.next_frames(&mut NoProbe)? {
            let frames = to_rgb8(&frames.squeeze(0).map_err(ModelError::from)?)?;
            let chunk = VideoChunk::from_tensor(first_frame, &frames)?;
            first_frame += chunk.frames.len();
            if emit(chunk).is_break() {
                break;
            }
        }
        Ok(())
    }
}
