//! The residual blocks of one level: two causal convolutions each.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{CausalConv3d, GroupNorm};
use crate::vae::TemporalVaeConfig;
use crate::vae::residual::ResidualBlock;
use crate::weights::Weights;

/// # Source
/// `ResBlock` of `vae_temporal.py`.
fn load_block(
    weights: &Weights,
    config: &TemporalVaeConfig,
    in_channels: usize,
    out_channels: usize,
) -> Result<ResidualBlock<CausalConv3d>> {
    ResidualBlock::load(
        weights,
        [in_channels, out_channels],
        "conv3",
        |place, channels| GroupNorm::load(place, config.num_groups, channels, config.norm_eps),
        |place, channels, kernel| {
            CausalConv3d::load_without_bias(place, channels, out_channels, kernel)
        },
    )
}

/// `num_res_blocks` residual blocks in a row.
pub(super) struct ResidualBlocks(Vec<ResidualBlock<CausalConv3d>>);

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
            load_block(&weights.pp(block), config, channels, out_channels)
        });
        Ok(Self(blocks.collect::<Result<_>>()?))
    }

    /// # Shapes
    /// `[B, in_channels, T, h, w]` to `[B, out_channels, T, h, w]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, block| block.forward(&x))
    }
}
