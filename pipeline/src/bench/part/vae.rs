//! The two networks of the autoencoder's decoder.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use sora_models::Result;
use sora_models::bundle::PartName;
use sora_models::footprint::frames_at_once;
use sora_models::probe::NoProbe;
use sora_models::vae::{SpatialPass, TemporalPass};

use super::{BuiltPart, PartMaker, latent_side};

/// A micro batch of square frames through the spatial decoder, to pixels.
///
/// As many frames are decoded at once as in the graph, which may be fewer than a micro batch: the pixels are the same,
/// and larger groups take memory for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaeSpatialPart {
    /// Pixels of a side, a multiple of 8.
    pub side_px: usize,
}

impl VaeSpatialPart {
    pub(super) fn build(&self, maker: &PartMaker) -> Result<BuiltPart> {
        let config = maker.preset.vae_config()?;
        let side = latent_side(self.side_px, config.spatial_factor())?;
        let pass = SpatialPass::load(&maker.weights(PartName::Vae), &config)?;
        let (channels, frames) = (config.spatial.latent_channels, config.spatial.micro_batch_size);
        let latents = maker.input(&[1, channels, frames, side, side])?;
        let at_once = frames_at_once(&config, side, side, maker.dtype);
        Ok(Box::new(move || {
            let mut stream = pass.frames_by(at_once, latents.clone());
            let mut frames = Vec::new();
            while let Some(next) = stream.next_frames(&mut NoProbe)? {
                frames.push(next);
            }
            Ok(Tensor::cat(&frames, 2)?)
        }))
    }

    pub(super) fn description(&self) -> String {
        format!("spatial decoder, one micro batch of frames of {0}x{0} pixels", self.side_px)
    }
}

/// A chunk of square frames through the temporal decoder, to spatial latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaeTemporalPart {
    /// Pixels of a side, a multiple of 8.
    pub side_px: usize,
}

impl VaeTemporalPart {
    pub(super) fn build(&self, maker: &PartMaker) -> Result<BuiltPart> {
        let config = maker.preset.vae_config()?;
        let side = latent_side(self.side_px, config.spatial_factor())?;
        let pass = TemporalPass::load(&maker.weights(PartName::Vae), &config)?;
        let frames = config.micro_frame_size;
        let latent_frames = config.latent_frames(frames);
        let latents = maker.input(&[1, config.latent_channels(), latent_frames, side, side])?;
        Ok(Box::new(move || pass.frame_latents(&latents, frames, &mut NoProbe)))
    }

    pub(super) fn description(&self) -> String {
        format!("temporal decoder, one chunk of frames of {0}x{0} pixels", self.side_px)
    }
}
