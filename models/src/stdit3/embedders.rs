//! What turns latents, timesteps, frame rates and text features into tokens of the transformer's width.

use candle_core::{Module, Tensor};

use super::config::Stdit3Config;
use crate::error::Result;
use crate::nn::{Linear, gelu, silu, sinusoidal_embedding};
use crate::weights::Weights;

/// Width of the sinusoidal embedding that the timestep and frame rate embedders start from.
///
/// # Source
/// `frequency_embedding_size` of `TimestepEmbedder`, Open-Sora's `layers/blocks.py`.
const FREQUENCY_EMBEDDING_SIZE: usize = 256;

/// The patch embedding: one token for each patch of a latent frame.
pub(super) struct PatchEmbedding {
    projection: candle_nn::Linear,
    patch: (usize, usize),
}

impl PatchEmbedding {
    /// Reads `proj.weight` `[hidden, channels, 1, patch rows, patch columns]` and `proj.bias`.
    pub(super) fn load(weights: &Weights, config: &Stdit3Config) -> Result<Self> {
        let [frames, rows, columns] = config.patch_size;
        let shape = (config.hidden_size, config.in_channels, frames, rows, columns);
        let weights = weights.pp("proj");
        // Patches do not overlap, so the convolution is a matrix product on cut-out patches.
        let weight = weights.tensor("weight", shape)?.flatten_from(1)?;
        let bias = weights.tensor("bias", config.hidden_size)?;
        Ok(Self { projection: candle_nn::Linear::new(weight, Some(bias)), patch: (rows, columns) })
    }

    /// # Shapes
    /// `[B, C, T, H, W]` to `[B, T * S, hidden]`; odd sizes are padded with zeros below and on the right.
    pub(super) fn forward(&self, latent: &Tensor) -> Result<Tensor> {
        let (batch, channels, frames, height, width) = latent.dims5()?;
        let (patch_rows, patch_columns) = self.patch;
        let (rows, columns) = (height.div_ceil(patch_rows), width.div_ceil(patch_columns));
        let padded = latent.pad_with_zeros(3, 0, rows * patch_rows - height)?.pad_with_zeros(
            4,
            0,
            columns * patch_columns - width,
        )?;
        let patches = padded
            .reshape(vec![batch, channels, frames, rows, patch_rows, columns, patch_columns])?
            .permute(vec![0, 2, 3, 5, 1, 4, 6])?
            .reshape((batch, frames * rows * columns, channels * patch_rows * patch_columns))?;
        Ok(self.projection.forward(&patches)?)
    }
}

/// Embeds a number (the timestep, the frame rate) through a sinusoidal embedding and an MLP.
pub(super) struct ScalarEmbedder {
    first: Linear,
    second: Linear,
}

impl ScalarEmbedder {
    /// Reads `mlp.0` and `mlp.2`.
    pub(super) fn load(weights: &Weights, hidden: usize) -> Result<Self> {
        let mlp = weights.pp("mlp");
        let first = Linear::load(&mlp.pp(0), FREQUENCY_EMBEDDING_SIZE, hidden)?;
        Ok(Self { first, second: Linear::load(&mlp.pp(2), hidden, hidden)? })
    }

    /// `n` values to `[n, hidden]`, on the device and in the dtype of `like`.
    pub(super) fn forward(&self, values: &[f32], like: &Weights) -> Result<Tensor> {
        let embedding = sinusoidal_embedding(values, FREQUENCY_EMBEDDING_SIZE, like.device())?;
        self.second.forward(&silu(&self.first.forward(&embedding.to_dtype(like.dtype())?)?)?)
    }
}

/// Projects text features, and holds the trained features of the null caption.
pub(super) struct CaptionEmbedder {
    first: Linear,
    second: Linear,
    null_caption: Tensor,
}

impl CaptionEmbedder {
    /// Reads `y_proj.fc1`, `y_proj.fc2` and `y_embedding` `[model_max_length, caption_channels]`.
    pub(super) fn load(weights: &Weights, config: &Stdit3Config) -> Result<Self> {
        let (channels, hidden) = (config.caption_channels, config.hidden_size);
        let projection = weights.pp("y_proj");
        Ok(Self {
            first: Linear::load(&projection.pp("fc1"), channels, hidden)?,
            second: Linear::load(&projection.pp("fc2"), hidden, hidden)?,
            null_caption: weights.tensor("y_embedding", (config.model_max_length, channels))?,
        })
    }

    /// `[..., caption_channels]` to `[..., hidden]`.
    pub(super) fn forward(&self, text: &Tensor) -> Result<Tensor> {
        self.second.forward(&gelu(&self.first.forward(text)?)?)
    }

    /// Features of the null caption, `[model_max_length, caption_channels]`.
    pub(super) fn null_caption(&self) -> &Tensor {
        &self.null_caption
    }
}
