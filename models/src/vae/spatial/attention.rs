//! Every position of a frame attends to every other, with one head.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{GroupNorm, Linear, scaled_dot_product_attention};
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// # Source
/// The mid block's `Attention` of diffusers (`residual_connection`, one head of all channels).
pub(super) struct FrameAttention {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    channels: usize,
}

impl FrameAttention {
    pub(super) fn load(
        weights: &Weights,
        config: &SpatialVaeConfig,
        channels: usize,
    ) -> Result<Self> {
        let norm = weights.pp("group_norm");
        let linear = |name: &str| Linear::load(&weights.pp(name), channels, channels);
        Ok(Self {
            norm: GroupNorm::load(&norm, config.norm_num_groups, channels, config.norm_eps)?,
            query: linear("to_q")?,
            key: linear("to_k")?,
            value: linear("to_v")?,
            out: linear("to_out.0")?,
            channels,
        })
    }

    /// # Shapes
    /// `[N, channels, H, W]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let positions = self.norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let query = self.query.forward(&positions)?.unsqueeze(1)?;
        let key = self.key.forward(&positions)?.unsqueeze(1)?;
        let value = self.value.forward(&positions)?.unsqueeze(1)?;
        let scale = 1.0 / (self.channels as f64).sqrt();
        let attended = scaled_dot_product_attention(&query, &key, &value, scale, None)?;
        let attended = self.out.forward(&attended.squeeze(1)?)?;
        Ok((attended.transpose(1, 2)?.reshape(x.shape())? + x)?)
    }
}
