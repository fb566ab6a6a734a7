//! The residual blocks of one level: two causal convolutions each.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{CausalConv3d, GroupNorm};
use crate::vae::{TemporalVaeConfig, norm_silu};
use crate::weights::Weights;

/// # Source
/// `ResBlock` of `vae_temporal.py`.
struct ResidualBlock {
    norm1: GroupNorm,
    conv1: CausalConv3d,
    norm2: GroupNorm,
    conv2: CausalConv3d,
    /// Matches the channels of the residual connection where they change.
    shortcut: Option<CausalConv3d>,
}

impl ResidualBlock {
    fn load(
        weights: &Weights,
        config: &TemporalVaeConfig,
        in_channels: usize,
        out_channels: usize,
    ) -> Result<Self> {
        let norm = |name: &str, channels| {
            GroupNorm::load(&weights.pp(name), config.num_groups, channels, config.norm_eps)
        };
        let conv = |name: &str, channels, kernel| {
            CausalConv3d::load_without_bias(&weights.pp(name), channels, out_channels, kernel)
        };
        let changes = in_channels != out_channels;
        Ok(Self {
            norm1: norm("norm1", in_channels)?,
            conv1: conv("conv1", in_channels, 3)?,
            norm2: norm("norm2", out_channels)?,
            conv2: conv("conv2", out_channels, 3)?,
            shortcut: changes.then(|| conv("conv3", in_channels, 1)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.conv1.forward(&norm_silu(&self.norm1, x)?)?;
        let hidden = self.conv2.forward(&norm_silu(&self.norm2, &hidden)?)?;
        let residual = match &self.shortcut {
            Some(shortcut) => &shortcut.forward(x)?,
            None => x,
        };
        Ok((hidden + residual)?)
    }
}

/// `num_res_blocks` residual blocks in a row.
pub(super) struct ResidualBlocks(Vec<ResidualBlock>);

impl ResidualBlocks {
    /// The first block goes from `in_channels` to `out_channels`, the others stay there.
    pub(super) fn load(
        weights: &Weights,
        config: &TemporalVaeConfig,
        in_channels: usize,
        out_channels: usize,
    ) -> Result<Self> {
        let blocks = (0..config.num_res_blocks).map(|block| {
            let channels = if block == 0 { in_channels } else { out_channels };
            ResidualBlock::load(&weights.pp(block), config, channels, out_channels)
        });
        Ok(Self(blocks.collect::<Result<_>>()?))
    }

    /// # Shapes
    /// `[B, in_channels, T, h, w]` to `[B, out_channels, T, h, w]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, block| block.forward(&x))
    }
}
