//! The spatial network's residual block.

use crate::error::Result;
use crate::nn::{Conv2d, GroupNorm, Window};
use crate::vae::SpatialVaeConfig;
use crate::vae::residual::ResidualBlock;
use crate::weights::Weights;

/// On `[N, C, H, W]`.
pub(super) type ResnetBlock = ResidualBlock<Conv2d>;

/// Reads a block from `in_channels` to `out_channels`.
///
/// # Source
/// `ResnetBlock2D` of diffusers, without time embedding.
pub(super) fn load_resnet(
    weights: &Weights,
    config: &SpatialVaeConfig,
    in_channels: usize,
    out_channels: usize,
) -> Result<ResnetBlock> {
    ResidualBlock::load(
        weights,
        [in_channels, out_channels],
        "conv_shortcut",
        |place, channels| GroupNorm::load(place, config.norm_num_groups, channels, config.norm_eps),
        |place, channels, kernel| Conv2d::load(place, channels, out_channels, Window::same(kernel)),
    )
}
