//! The whole autoencoder: what the rest of the project sees.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::VaeConfig;
use super::encoder::VideoEncoder;
use super::frame_stream::{SpatialPass, TemporalPass};
use super::posterior::PosteriorNoise;
use crate::error::{ModelError, Result};
use crate::probe::Probe;
use crate::weights::{LoadGroup, ParameterRecorder, Weights};

/// Where the checkpoint keeps the spatial network.
pub(super) const SPATIAL_WEIGHTS: &str = "spatial_vae.module";
/// Where the checkpoint keeps the temporal network.
pub(super) const TEMPORAL_WEIGHTS: &str = "temporal_vae";

/// The video autoencoder of Open-Sora v1.2.
///
/// # Source
/// `VideoAutoencoderPipeline` of `opensora/models/vae/vae.py`.
pub struct VideoVae {
    config: VaeConfig,
    temporal: TemporalPass,
    spatial: SpatialPass,
    encoder: Option<VideoEncoder>,
}

impl VideoVae {
    /// Loads what decoding needs, which is all that text to video needs.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the config asks for.
    pub fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            temporal: TemporalPass::load(weights, config)?,
            spatial: SpatialPass::load(weights, config)?,
            encoder: None,
        })
    }

    /// Loads both directions, for image and video conditioning.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the config asks for.
    pub fn load_with_encoder(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let encoder = Some(VideoEncoder::load(weights, config)?);
        Ok(Self { encoder, ..Self::load(weights, config)? })
    }

    /// Every parameter of both directions of an autoencoder of these sizes: official name to shape.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn parameters(config: &VaeConfig) -> Result<BTreeMap<String, Vec<usize>>> {
        ParameterRecorder::record(|weights| Self::load_with_encoder(weights, config).map(drop))
    }

    /// The same parameters by when they are needed: the temporal decoder, the spatial decoder, and what only the encoder
    /// needs.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn load_groups(config: &VaeConfig) -> Result<Vec<LoadGroup>> {
        let mut temporal =
            LoadGroup::record("temporal decoder", |weights| Self::load(weights, config).map(drop))?;
        let mut encoder = LoadGroup::record("encoder", |weights| {
            Self::load_with_encoder(weights, config).map(drop)
        })?;
        encoder.parameters.retain(|parameter| !temporal.parameters.contains(parameter));
        let of_frames = |(name, _): &mut (String, _)| name.starts_with(SPATIAL_WEIGHTS);
        let spatial = temporal.parameters.extract_if(.., of_frames).collect();
        let spatial = LoadGroup { name: "spatial decoder".into(), parameters: spatial };
        Ok(vec![temporal, spatial, encoder])
    }

    /// The shapes that it was loaded with.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Latents, as the diffusion model produces them, to pixels, all at once.
    ///
    /// # Shapes
    /// `latents` `[B, C, T, h, w]` to `[B, 3, num_frames, 8 * h, 8 * w]`, nominally in [-1, 1], not clamped.
    ///
    /// # Units
    /// `num_frames` counts pixel frames.
    ///
    /// # Errors
    /// `latents` are not those of `num_frames` frames; a tensor operation fails.
    pub fn decode(
        &self,
        latents: &Tensor,
        num_frames: usize,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let frame_latents = self.temporal.frame_latents(latents, num_frames, probe)?;
        probe.tap("x_z", &frame_latents);
        let mut stream = self.spatial.frames(frame_latents);
        let mut frames = Vec::new();
        while let Some(next) = stream.next_frames(probe)? {
            frames.push(next);
        }
        Ok(Tensor::cat(&frames, 2)?)
    }

    /// Pixels to latents: posterior means, or posterior samples when `noise` is given.
    ///
    /// # Shapes
    /// `video` `[B, 3, F, H, W]` in [-1, 1] to `[B, C, T, H / 8, W / 8]`.
    ///
    /// # Errors
    /// The encoder was not loaded; `H` or `W` is no multiple of 8; the noise has another shape; a tensor
    /// operation fails.
    pub fn encode(
        &self,
        video: &Tensor,
        noise: Option<&PosteriorNoise>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let encoder = self.encoder.as_ref().ok_or_else(|| {
            ModelError::bad_input(
                "the video autoencoder was loaded without its encoder: load it with the encoder to encode",
            )
        })?;
        let video = video.to_dtype(self.temporal.dtype())?;
        self.temporal.normalise(&encoder.forward(&self.config, &video, noise, probe)?)
    }
}
