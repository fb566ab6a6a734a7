//! Pixels of frames to the moments of their latents.

use candle_core::Tensor;

use super::mid_block::MidBlock;
use super::resolution::{Resize, ResolutionBlock};
use crate::error::Result;
use crate::nn::{Conv2d, GroupNorm, Window};
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// # Source
/// `Encoder` of diffusers' `autoencoders/vae.py`, and `quant_conv`.
pub(in crate::vae) struct SpatialEncoder {
    conv_in: Conv2d,
    down_blocks: Vec<ResolutionBlock>,
    mid_block: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Conv2d,
}

impl SpatialEncoder {
    /// `weights` is the place that holds `encoder` and `quant_conv`.
    pub(in crate::vae) fn load(weights: &Weights, config: &SpatialVaeConfig) -> Result<Self> {
        let encoder = weights.pp("encoder");
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let down_blocks = channels
            .iter()
            .enumerate()
            .map(|(level, &out_channels)| {
                let in_channels = channels[level.saturating_sub(1)];
                let is_last = level + 1 == channels.len();
                ResolutionBlock::load(
                    &encoder.pp("down_blocks").pp(level),
                    config,
                    config.layers_per_block,
                    (in_channels, out_channels),
                    if is_last { Resize::Keep } else { Resize::Halve },
                )
            })
            .collect::<Result<_>>()?;
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let same = Window::same(3);
        Ok(Self {
            conv_in: Conv2d::load(&encoder.pp("conv_in"), config.in_channels, first, same)?,
            down_blocks,
            mid_block: MidBlock::load(&encoder.pp("mid_block"), config, last)?,
            norm_out: GroupNorm::load(&encoder.pp("conv_norm_out"), groups, last, eps)?,
            conv_out: Conv2d::load(&encoder.pp("conv_out"), last, moments, same)?,
            quant_conv: Conv2d::load(&weights.pp("quant_conv"), moments, moments, Window::same(1))?,
        })
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to moments `[N, 2 * latent_channels, H / 8, W / 8]`.
    pub(in crate::vae) fn forward(&self, frames: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(frames)?;
        for block in &self.down_blocks {
            x = block.forward(&x)?;
        }
        let x = self.mid_block.forward(&x)?;
        let x = self.conv_out.forward(&self.norm_out.forward_silu(&x)?)?;
        self.quant_conv.forward(&x)
    }
}
