//! Shapes of the video autoencoder, as its `config.json` gives them.

mod file;

use std::path::Path;

use serde::Deserialize;

use crate::error::{ModelError, Result};

/// The video autoencoder's configuration; [`Default`] is the published v1.2.
///
/// It reads the official `config.json`, which names the two networks and leaves their shapes to the code that builds
/// them; shapes that are written out (in `vae_2d` and `vae_temporal`) replace the published ones. `shift` and
/// `scale` are not read here: the checkpoint holds them as tensors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "file::ConfigFile")]
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
    /// Encoded frames are multiplied by this, and divided before decoding. Open-Sora fixes 0.18215 in its code,
    /// whatever the spatial checkpoint's own configuration says.
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
            micro_frame_size: file::default_micro_frame_size(),
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
    pub(in crate::vae) fn micro_latent_frames(&self) -> usize {
        self.micro_frame_size.div_ceil(self.temporal.time_factor())
    }
}

impl TemporalVaeConfig {
    /// How many pixel frames one latent frame stands for.
    pub fn time_factor(&self) -> usize {
        1 << self.temporal_downsample.iter().filter(|&&halves| halves).count()
    }

    /// Channels of the widest level, and of what comes before time is doubled there.
    pub fn widest(&self) -> usize {
        2 * self.level_channels().into_iter().max().unwrap_or(0)
    }

    /// Channels of each level, the full frame rate first.
    pub(in crate::vae) fn level_channels(&self) -> Vec<usize> {
        self.channel_multipliers
            .iter()
            .map(|multiplier| self.filters.saturating_mul(*multiplier))
            .collect()
    }
}
