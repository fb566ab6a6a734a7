//! Every position of a frame attends to every other, with one head.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{GroupNorm, Linear, scaled_dot_product_attention};
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// How many positions ask at once. Our choice: the scores of a whole frame grow with the square of its
/// positions (0.8 GB at 720p); those of 1024 stay below 60 MB there, and smaller frames still go through in one
/// piece.
const QUERIES_AT_ONCE: usize = 1024;

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
        let count = positions.dim(1)?;
        let query = self.query.forward(&positions)?.unsqueeze(1)?;
        let key = self.key.forward(&positions)?.unsqueeze(1)?;
        let value = self.value.forward(&positions)?.unsqueeze(1)?;
        let scale = 1.0 / (self.channels as f64).sqrt();
        let mut frames = Vec::new();
        for frame in 0..x.dim(0)? {
            let of_frame = |tensor: &Tensor| tensor.narrow(0, frame, 1);
            let (query, key, value) = (of_frame(&query)?, of_frame(&key)?, of_frame(&value)?);
            let mut answers = Vec::new();
            for first in (0..count).step_by(QUERIES_AT_ONCE) {
                let asking = query.narrow(2, first, QUERIES_AT_ONCE.min(count - first))?;
                answers.push(scaled_dot_product_attention(&asking, &key, &value, scale, None)?);
            }
            frames.push(Tensor::cat(&answers, 2)?);
        }
        let attended = self.out.forward(&Tensor::cat(&frames, 0)?.squeeze(1)?)?;
        Ok((attended.transpose(1, 2)?.reshape(x.shape())? + x)?)
    }
}
