//! Latents through the two networks of the video autoencoder's decoder.

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use sora_models::ModelError;
use sora_models::device_work::{finish_work, free_dropped, releasing};
use sora_models::footprint::{decoding_bytes, frames_at_once};
use sora_models::nn::release_workspaces;
use sora_models::probe::NoProbe;
use sora_models::sizes::{SPATIAL_FACTOR, VideoSize};
use sora_models::vae::{SpatialPass, VaeConfig, to_rgb8};
use sora_telemetry::timeline;

use super::loading::{DecoderPart, DeviceBlock};
use crate::block_loader::{BlockFeed, LoadedBlock};
use crate::compute::{Computed, DecodeLatent};
use crate::error::StageFailure;
use crate::messages::{Latent, VideoChunk};

/// The autoencoder's decoder.
pub struct VideoDecoder {
    parts: BlockFeed<DeviceBlock<DecoderPart>>,
    config: VaeConfig,
    /// The larger of the two networks.
    part_bytes: u64,
    dtype: DType,
    device: Device,
}

impl VideoDecoder {
    /// Decodes with the networks out of `parts`, the larger of which has `part_bytes`, in `dtype` on `device`.
    pub fn new(
        parts: BlockFeed<DeviceBlock<DecoderPart>>,
        config: VaeConfig,
        part_bytes: u64,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self { parts, config, part_bytes, dtype, device: device.clone() }
    }

    fn frame_latents(&mut self, latent: &Latent) -> Computed<Tensor> {
        let part = self.parts.acquire(0)?;
        let DecoderPart::Temporal(temporal) = &**part else { return Err(out_of_order()) };
        let latents = latent.to_tensor(DType::F32, &self.device)?;
        let frames = temporal.frame_latents(&latents, latent.num_frames, &mut NoProbe)?;
        // Before this network is dropped.
        finish_work(&self.device)?;
        Ok(frames)
    }

    fn emit_frames(
        &self,
        spatial: &SpatialPass,
        latents: Tensor,
        emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()> {
        let (_, _, _, rows, columns) = latents.dims5().map_err(ModelError::from)?;
        let at_once = frames_at_once(&self.config, rows, columns, self.dtype);
        let mut stream = spatial.frames_by(at_once, latents);
        let mut first_frame = 0;
        loop {
            let decoding = timeline::decode_frames(first_frame);
            let chunk = releasing(|| {
                let Some(frames) = stream.next_frames(&mut NoProbe)? else { return Ok(None) };
                let frames = to_rgb8(&frames.squeeze(0).map_err(ModelError::from)?)?;
                let chunk = VideoChunk::from_tensor(first_frame, &frames)?;
                finish_work(&self.device)?;
                Ok::<_, StageFailure>(Some(chunk))
            })?;
            let Some(chunk) = chunk else { break };
            first_frame += chunk.frames.len();
            drop(decoding);
            if emit(chunk).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl DecodeLatent for VideoDecoder {
    fn working_bytes(&self, latent: &Latent) -> u64 {
        let [_, _, rows, columns] = latent.shape;
        let size = VideoSize {
            height_px: rows * SPATIAL_FACTOR,
            width_px: columns * SPATIAL_FACTOR,
            frames: latent.num_frames,
        };
        // A latent that is no video's fails when it is decoded, whatever memory it gets.
        self.part_bytes + decoding_bytes(&self.config, size, self.dtype, &self.device).unwrap_or(0)
    }

    fn decode(
        &mut self,
        latent: &Latent,
        emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()> {
        let frame_latents = self.frame_latents(latent)?;
        let part: LoadedBlock<DeviceBlock<DecoderPart>> = self.parts.acquire(1)?;
        let DecoderPart::Spatial(spatial) = &**part else { return Err(out_of_order()) };
        self.emit_frames(spatial, frame_latents, emit)
    }

    fn rest(&mut self) {
        self.parts.rest();
        release_workspaces();
        free_dropped(&self.device);
    }
}

fn out_of_order() -> StageFailure {
    StageFailure::StageDied { reason: "its networks came in the wrong order".into() }
}
