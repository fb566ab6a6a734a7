//! Shapes of the video autoencoder, as its `config.json` gives them.

use std::path::Path;

use serde::Deserialize;

use crate::error::{ModelError, Result};

/// The video autoencoder's configuration; [`Default`] is the published v1.2.
///
/// It reads the official `config.json`, which names the two networks and leaves their shapes to the code that builds
/// them; shapes that are written out (in `vae_2d` and `vae_temporal`) replace the published ones. `shift` and `scale` are
/// not read here: the checkpoint holds them as tensors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "ConfigFile")]
pub struct VaeConfig {
    /// Pixel frames that the temporal network encodes and decodes together.
    pub micro_frame_size: usize,
    /// The network on single frames.
    pub spatial: SpatialVaeConfig,
    /// The network over time.
    pub temporal: TemporalVaeConfig,
}

/// Shapes of the spatial network: `AutoencoderKL` of diffusers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct SpatialVaeConfig {
    /// Which network this is.
    #[serde(rename = "type")]
    pub architecture: SpatialArchitecture,
    /// Frames that are encoded or decoded at once.
    pub micro_batch_size: usize,
    /// Channels of a picture that is encoded.
    pub in_channels: usize,
    /// Channels of a picture that is decoded.
    pub out_channels: usize,
    /// Channels between the spatial and the temporal network.
    pub latent_channels: usize,
    /// Channels of each resolution, finest first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each resolution in the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// Added to the variance in every group norm.
    pub norm_eps: f64,
    /// The activation function.
    pub act_fn: Activation,
    /// Encoded frames are multiplied by this, and divided before decoding. Open-Sora fixes 0.18215 in its code, whatever
    /// the spatial checkpoint's own configuration says.
    #[serde(rename = "scaling_factor_used")]
    pub scaling_factor: f64,
}

/// Shapes of the temporal network: `VAE_Temporal` of Open-Sora.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TemporalVaeConfig {
    /// Which network this is.
    #[serde(rename = "type")]
    pub architecture: TemporalArchitecture,
    /// Channels between the spatial and the temporal network.
    pub in_out_channels: usize,
    /// Channels between encoder or decoder and their 1x1x1 convolution.
    pub latent_embed_dim: usize,
    /// Channels of the video's latents.
    pub embed_dim: usize,
    /// Channels that the multipliers multiply.
    pub filters: usize,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Channels of each level over `filters`, the full frame rate first.
    pub channel_multipliers: Vec<usize>,
    /// Whether time halves between each level and the next.
    pub temporal_downsample: Vec<bool>,
    /// Groups of every group norm.
    pub num_groups: usize,
    /// Added to the variance in every group norm.
    pub norm_eps: f64,
}

/// The spatial networks that this crate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SpatialArchitecture {
    /// `AutoencoderKL` of diffusers, frame by frame.
    VideoAutoencoderKL,
}

/// The temporal networks that this crate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TemporalArchitecture {
    /// The causal network of Open-Sora v1.2.
    #[serde(rename = "VAE_Temporal_SD")]
    VaeTemporalSd,
}

/// The activation functions that this crate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            micro_frame_size: default_micro_frame_size(),
            spatial: SpatialVaeConfig::default(),
            temporal: TemporalVaeConfig::default(),
        }
    }
}

impl Default for SpatialVaeConfig {
    fn default() -> Self {
        Self {
            architecture: SpatialArchitecture::VideoAutoencoderKL,
            micro_batch_size: 4,
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            norm_num_groups: 32,
            norm_eps: 1e-6,
            act_fn: Activation::Silu,
            scaling_factor: 0.18215,
        }
    }
}

impl Default for TemporalVaeConfig {
    fn default() -> Self {
        Self {
            architecture: TemporalArchitecture::VaeTemporalSd,
            in_out_channels: 4,
            latent_embed_dim: 4,
            embed_dim: 4,
            filters: 128,
            num_res_blocks: 4,
            channel_multipliers: vec![1, 2, 2, 4],
            temporal_downsample: vec![false, true, true],
            num_groups: 32,
            norm_eps: 1e-5,
        }
    }
}

impl VaeConfig {
    /// Reads the text of a `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`ModelError::Config`], naming the field that is missing, malformed or contradicts another.
    pub fn from_json(text: &str, file: &Path) -> Result<Self> {
        serde_json::from_str(text).map_err(|cause| ModelError::Config {
            file: file.to_path_buf(),
            reason: cause.to_string(),
        })
    }

    /// Channels of the video's latents.
    pub fn latent_channels(&self) -> usize {
        self.temporal.embed_dim
    }

    /// How many pixels high and wide one latent is.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.spatial.block_out_channels.len() - 1)
    }

    /// Latent frames of a video of `num_frames`.
    ///
    /// # Units
    /// Pixel frames to latent frames.
    pub fn latent_frames(&self, num_frames: usize) -> usize {
        let (chunks, rest) =
            (num_frames / self.micro_frame_size, num_frames % self.micro_frame_size);
        chunks * self.micro_latent_frames() + rest.div_ceil(self.temporal.time_factor())
    }

    /// Latent frames of one full chunk.
    pub(super) fn micro_latent_frames(&self) -> usize {
        self.micro_frame_size.div_ceil(self.temporal.time_factor())
    }

    fn check(&self) -> Result<(), String> {
        ensure(self.micro_frame_size > 0, || "micro_frame_size is 0".into())?;
        self.spatial.check().map_err(|reason| format!("vae_2d: {reason}"))?;
        self.temporal.check().map_err(|reason| format!("vae_temporal: {reason}"))?;
        let (spatial, temporal) = (self.spatial.latent_channels, self.temporal.in_out_channels);
        ensure(spatial == temporal, || {
            format!(
                "vae_2d has latent_channels {spatial}, but vae_temporal has in_out_channels {temporal}: \
                 they must be equal"
            )
        })
    }
}

/// More levels than any network has; far fewer than would overflow a size.
const MOST_LEVELS: usize = 8;

impl SpatialVaeConfig {
    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("micro_batch_size", self.micro_batch_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("layers_per_block", self.layers_per_block),
            ("norm_num_groups", self.norm_num_groups),
        ];
        check_sizes(&sizes)?;
        check_levels("block_out_channels", &self.block_out_channels)?;
        check_groups("norm_num_groups", self.norm_num_groups, &self.block_out_channels)?;
        check_positive("norm_eps", self.norm_eps)?;
        check_positive("scaling_factor_used", self.scaling_factor)
    }
}

impl TemporalVaeConfig {
    /// How many pixel frames one latent frame stands for.
    pub fn time_factor(&self) -> usize {
        1 << self.temporal_downsample.iter().filter(|&&halves| halves).count()
    }

    /// Channels of each level, the full frame rate first.
    pub(super) fn level_channels(&self) -> Vec<usize> {
        self.channel_multipliers
            .iter()
            .map(|multiplier| self.filters.saturating_mul(*multiplier))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("in_out_channels", self.in_out_channels),
            ("latent_embed_dim", self.latent_embed_dim),
            ("embed_dim", self.embed_dim),
            ("filters", self.filters),
            ("num_res_blocks", self.num_res_blocks),
            ("num_groups", self.num_groups),
        ];
        check_sizes(&sizes)?;
        check_levels("channel_multipliers", &self.channel_multipliers)?;
        let (levels, steps) = (self.channel_multipliers.len(), self.temporal_downsample.len());
        ensure(steps + 1 == levels, || {
            format!("temporal_downsample has {steps} entries; {levels} levels need {}", levels - 1)
        })?;
        check_groups("num_groups", self.num_groups, &self.level_channels())?;
        check_positive("norm_eps", self.norm_eps)
    }
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    sizes.iter().try_for_each(|(name, size)| ensure(*size > 0, || format!("{name} is 0")))
}

fn check_levels(name: &str, levels: &[usize]) -> Result<(), String> {
    ensure((1..=MOST_LEVELS).contains(&levels.len()) && !levels.contains(&0), || {
        format!("{name} is {levels:?}; expected 1 to {MOST_LEVELS} numbers above 0")
    })
}

fn check_groups(name: &str, groups: usize, channels: &[usize]) -> Result<(), String> {
    channels.iter().try_for_each(|channels| {
        ensure(channels % groups == 0, || {
            format!("{name} {groups} does not divide {channels} channels")
        })
    })
}

fn check_positive(name: &str, value: f64) -> Result<(), String> {
    ensure(value.is_finite() && value > 0.0, || {
        format!("{name} is {value}; expected a number above 0")
    })
}

fn default_micro_frame_size() -> usize {
    17
}

/// `config.json` as it is written. The golden cases name the two networks `spatial` and `temporal` and put the micro
/// batch size beside them.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: Option<String>,
    #[serde(default = "default_micro_frame_size")]
    micro_frame_size: usize,
    micro_batch_size: Option<usize>,
    #[serde(default, alias = "spatial")]
    vae_2d: SpatialVaeConfig,
    #[serde(default, alias = "temporal")]
    vae_temporal: TemporalVaeConfig,
}

/// The `model_type` of the published `config.json`.
const MODEL_TYPE: &str = "VideoAutoencoderPipeline";

impl TryFrom<ConfigFile> for VaeConfig {
    type Error = String;

    fn try_from(file: ConfigFile) -> Result<Self, String> {
        if let Some(other) = file.model_type.filter(|model_type| model_type != MODEL_TYPE) {
            return Err(format!("model_type is `{other}`; expected `{MODEL_TYPE}`"));
        }
        let mut config = Self {
            micro_frame_size: file.micro_frame_size,
            spatial: file.vae_2d,
            temporal: file.vae_temporal,
        };
        config.spatial.micro_batch_size =
            file.micro_batch_size.unwrap_or(config.spatial.micro_batch_size);
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn read(document: serde_json::Value) -> Result<VaeConfig, String> {
        serde_json::from_value(document).map_err(|cause| cause.to_string())
    }

    #[test]
    fn the_official_file_means_the_published_shapes() {
        let config = read(json!({
            "model_type": "VideoAutoencoderPipeline",
            "micro_frame_size": 17,
            "shift": [-0.1, 0.34, 0.27, 0.98],
            "scale": [3.85, 2.32, 2.33, 3.06],
            "vae_2d": {
                "type": "VideoAutoencoderKL",
                "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
                "subfolder": "vae",
                "micro_batch_size": 4
            },
            "vae_temporal": { "type": "VAE_Temporal_SD", "from_pretrained": null }
        }));
        assert_eq!(config.unwrap(), VaeConfig::default());
    }

    #[test]
    fn shapes_that_are_written_out_win() {
        let config = read(json!({
            "vae_2d": { "block_out_channels": [8, 16], "norm_num_groups": 4, "micro_batch_size": 2 },
            "vae_temporal": { "filters": 64 }
        }));
        let config = config.unwrap();
        assert_eq!(config.spatial.block_out_channels, [8, 16]);
        assert_eq!((config.spatial.micro_batch_size, config.spatial_factor()), (2, 2));
        assert_eq!(config.temporal.level_channels(), [64, 128, 128, 256]);
    }

    #[test]
    fn latent_frames_follow_the_chunks() {
        let config = VaeConfig::default();
        for (frames, latents) in [(1, 1), (4, 1), (5, 2), (17, 5), (22, 7), (34, 10), (51, 15)] {
            assert_eq!(config.latent_frames(frames), latents, "{frames} frames");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_field_that_is_wrong() {
        let cases = [
            (json!({ "model_type": "STDiT3" }), "model_type"),
            (json!({ "micro_frame_size": 0 }), "micro_frame_size"),
            (json!({ "micro_batch_size": 0 }), "micro_batch_size"),
            (json!({ "vae_2d": { "type": "VQGAN" } }), "VideoAutoencoderKL"),
            (json!({ "vae_2d": { "act_fn": "gelu" } }), "silu"),
            (json!({ "vae_2d": { "block_out_channels": [] } }), "block_out_channels"),
            (json!({ "vae_2d": { "block_out_channels": [32, 48] } }), "norm_num_groups"),
            (json!({ "vae_2d": { "latent_channels": 8 } }), "in_out_channels 4"),
            (json!({ "vae_2d": { "scaling_factor_used": 0.0 } }), "scaling_factor_used"),
            (json!({ "vae_temporal": { "temporal_downsample": [true] } }), "temporal_downsample"),
            (json!({ "vae_temporal": { "filters": 24 } }), "num_groups"),
            (json!({ "vae_temporal": { "norm_eps": -1.0 } }), "norm_eps"),
        ];
        for (document, expected) in cases {
            let error = read(document.clone()).unwrap_err();
            assert!(error.contains(expected), "{document}: {error}");
        }
    }
}
