//! One chunk of spatial latents to the moments of its temporal latents.

use candle_core::Tensor;

use super::residual::ResidualBlocks;
use crate::error::Result;
use crate::nn::{CausalConv3d, GroupNorm};
use crate::vae::TemporalVaeConfig;
use crate::weights::Weights;

/// # Source
/// `Encoder` of `vae_temporal.py`, and `quant_conv`.
pub(in crate::vae) struct TemporalEncoder {
    conv_in: CausalConv3d,
    /// Each level, and the convolution that halves time behind it.
    levels: Vec<(ResidualBlocks, Option<CausalConv3d>)>,
    res_blocks: ResidualBlocks,
    norm_out: GroupNorm,
    conv_out: CausalConv3d,
    quant_conv: CausalConv3d,
}

impl TemporalEncoder {
    /// `weights` is the place that holds `encoder` and `quant_conv`.
    pub(in crate::vae) fn load(weights: &Weights, config: &TemporalVaeConfig) -> Result<Self> {
        let encoder = weights.pp("encoder");
        let channels = config.level_channels();
        let (first, last) = (config.filters, channels[channels.len() - 1]);
        let (hidden, moments) = (2 * config.latent_embed_dim, 2 * config.embed_dim);
        let mut levels = Vec::with_capacity(channels.len());
        let mut before = first;
        for (level, &out_channels) in channels.iter().enumerate() {
            let blocks = encoder.pp("block_res_blocks").pp(level);
            let blocks = ResidualBlocks::load(&blocks, config, before, out_channels)?;
            let halves = config.temporal_downsample.get(level).copied().unwrap_or(false);
            let conv = encoder.pp("conv_blocks").pp(level);
            let conv = halves.then(|| CausalConv3d::load(&conv, out_channels, out_channels, 3, 2));
            levels.push((blocks, conv.transpose()?));
            before = out_channels;
        }
        let norm = encoder.pp("norm1");
        Ok(Self {
            conv_in: CausalConv3d::load_without_bias(
                &encoder.pp("conv_in"),
                config.in_out_channels,
                first,
                3,
            )?,
            levels,
            res_blocks: ResidualBlocks::load(&encoder.pp("res_blocks"), config, last, last)?,
            norm_out: GroupNorm::load(&norm, config.num_groups, last, config.norm_eps)?,
            conv_out: CausalConv3d::load(&encoder.pp("conv2"), last, hidden, 1, 1)?,
            quant_conv: CausalConv3d::load(&weights.pp("quant_conv"), hidden, moments, 1, 1)?,
        })
    }

    /// # Shapes
    /// `[B, in_out_channels, F, h, w]`, `F` a multiple of the time factor, to moments `[B, 2 * embed_dim, T, h, w]`.
    pub(in crate::vae) fn forward(&self, chunk: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(chunk)?;
        for (blocks, halving) in &self.levels {
            x = blocks.forward(&x)?;
            if let Some(conv) = halving {
                x = conv.forward(&x)?;
            }
        }
        let x = self.res_blocks.forward(&x)?;
        let x = self.conv_out.forward(&self.norm_out.forward_silu(&x)?)?;
        self.quant_conv.forward(&x)
    }
}
