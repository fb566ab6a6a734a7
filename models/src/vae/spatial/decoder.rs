//! Latents of frames to their pixels.

use candle_core::Tensor;

use super::mid_block::MidBlock;
use super::resolution::{Resize, ResolutionBlock};
use crate::error::Result;
use crate::nn::{Conv2d, GroupNorm, Window};
use crate::probe::Probe;
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// # Source
/// `Decoder` of diffusers' `autoencoders/vae.py`, and `post_quant_conv`.
pub(in crate::vae) struct SpatialDecoder {
    post_quant_conv: Conv2d,
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<ResolutionBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl SpatialDecoder {
    /// `weights` is the place that holds `decoder` and `post_quant_conv`.
    pub(in crate::vae) fn load(weights: &Weights, config: &SpatialVaeConfig) -> Result<Self> {
        let decoder = weights.pp("decoder");
        let channels: Vec<_> = config.block_out_channels.iter().rev().copied().collect();
        let (coarsest, finest) = (channels[0], channels[channels.len() - 1]);
        let latent = config.latent_channels;
        let up_blocks = channels
            .iter()
            .enumerate()
            .map(|(level, &out_channels)| {
                let in_channels = channels[level.saturating_sub(1)];
                let is_last = level + 1 == channels.len();
                ResolutionBlock::load(
                    &decoder.pp("up_blocks").pp(level),
                    config,
                    config.layers_per_block + 1,
                    (in_channels, out_channels),
                    if is_last { Resize::Keep } else { Resize::Double },
                )
            })
            .collect::<Result<_>>()?;
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let (same, post_quant) = (Window::same(3), weights.pp("post_quant_conv"));
        Ok(Self {
            post_quant_conv: Conv2d::load(&post_quant, latent, latent, Window::same(1))?,
            conv_in: Conv2d::load(&decoder.pp("conv_in"), latent, coarsest, same)?,
            mid_block: MidBlock::load(&decoder.pp("mid_block"), config, coarsest)?,
            up_blocks,
            norm_out: GroupNorm::load(&decoder.pp("conv_norm_out"), groups, finest, eps)?,
            conv_out: Conv2d::load(&decoder.pp("conv_out"), finest, config.out_channels, same)?,
        })
    }

    /// # Shapes
    /// `[N, latent_channels, h, w]` to `[N, out_channels, 8 * h, 8 * w]`.
    pub(in crate::vae) fn forward(
        &self,
        latents: &Tensor,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let x = self.post_quant_conv.forward(latents)?;
        probe.tap("spatial.post_quant", &x);
        let mut x = self.mid_block.forward(&self.conv_in.forward(&x)?)?;
        probe.tap("spatial.mid", &x);
        for (level, block) in self.up_blocks.iter().enumerate() {
            x = block.forward(&x)?;
            probe.tap(&format!("spatial.up{level}"), &x.narrow(0, 0, 1)?);
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}
