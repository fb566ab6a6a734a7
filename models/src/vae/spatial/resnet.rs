//! Two convolutions around a residual connection.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{Conv2d, GroupNorm, Window};
use crate::vae::{SpatialVaeConfig, norm_silu};
use crate::weights::Weights;

/// # Source
/// `ResnetBlock2D` of diffusers, without time embedding.
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    /// Matches the channels of the residual connection where they change.
    shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(super) fn load(
        weights: &Weights,
        config: &SpatialVaeConfig,
        in_channels: usize,
        out_channels: usize,
    ) -> Result<Self> {
        let norm = |name: &str, channels| {
            GroupNorm::load(&weights.pp(name), config.norm_num_groups, channels, config.norm_eps)
        };
        let conv = |name: &str, channels, kernel| {
            Conv2d::load(&weights.pp(name), channels, out_channels, Window::same(kernel))
        };
        let changes = in_channels != out_channels;
        Ok(Self {
            norm1: norm("norm1", in_channels)?,
            conv1: conv("conv1", in_channels, 3)?,
            norm2: norm("norm2", out_channels)?,
            conv2: conv("conv2", out_channels, 3)?,
            shortcut: changes.then(|| conv("conv_shortcut", in_channels, 1)).transpose()?,
        })
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to `[N, out_channels, H, W]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.conv1.forward(&norm_silu(&self.norm1, x)?)?;
        let hidden = self.conv2.forward(&norm_silu(&self.norm2, &hidden)?)?;
        let residual = match &self.shortcut {
            Some(shortcut) => &shortcut.forward(x)?,
            None => x,
        };
        Ok((residual + hidden)?)
    }
}
