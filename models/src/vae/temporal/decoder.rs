//! One chunk of temporal latents to the spatial latents of its frames.

use candle_core::Tensor;

use super::residual::ResidualBlocks;
use crate::error::Result;
use crate::nn::{CausalConv3d, GroupNorm};
use crate::probe::Probe;
use crate::vae::TemporalVaeConfig;
use crate::weights::Weights;

/// # Source
/// `Decoder` of `vae_temporal.py`, and `post_quant_conv`.
pub(in crate::vae) struct TemporalDecoder {
    post_quant_conv: CausalConv3d,
    conv_in: CausalConv3d,
    res_blocks: ResidualBlocks,
    /// Each level, the lowest frame rate first, and the convolution that doubles time behind it.
    levels: Vec<(ResidualBlocks, Option<CausalConv3d>)>,
    norm_out: GroupNorm,
    conv_out: CausalConv3d,
}

impl TemporalDecoder {
    /// `weights` is the place that holds `decoder` and `post_quant_conv`.
    pub(in crate::vae) fn load(weights: &Weights, config: &TemporalVaeConfig) -> Result<Self> {
        let decoder = weights.pp("decoder");
        let channels = config.level_channels();
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let hidden = config.latent_embed_dim;
        let mut levels = Vec::with_capacity(channels.len());
        let mut before = last;
        for (level, &out_channels) in channels.iter().enumerate().rev() {
            let blocks = decoder.pp("block_res_blocks").pp(level);
            let blocks = ResidualBlocks::load(&blocks, config, before, out_channels)?;
            // `temporal_downsample` and `conv_blocks` count the steps between levels; this one leads to the
            // level above.
            let step = level.checked_sub(1).filter(|&step| config.temporal_downsample[step]);
            let conv = step.map(|step| {
                let weights = decoder.pp("conv_blocks").pp(step);
                CausalConv3d::load(&weights, out_channels, 2 * out_channels, 3, 1)
            });
            levels.push((blocks, conv.transpose()?));
            before = out_channels;
        }
        let (norm, post_quant) = (decoder.pp("norm1"), weights.pp("post_quant_conv"));
        Ok(Self {
            post_quant_conv: CausalConv3d::load(&post_quant, config.embed_dim, hidden, 1, 1)?,
            conv_in: CausalConv3d::load(&decoder.pp("conv1"), hidden, last, 3, 1)?,
            res_blocks: ResidualBlocks::load(&decoder.pp("res_blocks"), config, last, last)?,
            levels,
            norm_out: GroupNorm::load(&norm, config.num_groups, first, config.norm_eps)?,
            conv_out: CausalConv3d::load(
                &decoder.pp("conv_out"),
                first,
                config.in_out_channels,
                3,
                1,
            )?,
        })
    }

    /// # Shapes
    /// `[B, embed_dim, T, h, w]` to `[B, in_out_channels, time factor * T, h, w]`.
    pub(in crate::vae) fn forward(&self, chunk: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let x = self.post_quant_conv.forward(chunk)?;
        probe.tap("temporal.post_quant", &x);
        let x = self.conv_in.forward(&x)?;
        probe.tap("temporal.conv1", &x);
        let mut x = self.res_blocks.forward(&x)?;
        probe.tap("temporal.res", &x);
        for (index, (blocks, doubling)) in self.levels.iter().enumerate() {
            x = blocks.forward(&x)?;
            probe.tap(&format!("temporal.level{}", self.levels.len() - 1 - index), &x);
            if let Some(conv) = doubling {
                x = channels_to_time(&conv.forward(&x)?)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}

/// Neighbouring pairs of channels become neighbouring frames.
///
/// # Shapes
/// `[B, 2 * C, T, h, w]` to `[B, C, 2 * T, h, w]`.
fn channels_to_time(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, frames, height, width) = x.dims5()?;
    let x = x.reshape((batch, channels / 2, 2, frames, height * width))?.transpose(2, 3)?;
    Ok(x.reshape((batch, channels / 2, 2 * frames, height, width))?)
}
