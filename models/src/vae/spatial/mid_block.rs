//! The block at the coarsest resolution of encoder and decoder: the only one with attention.

use candle_core::Tensor;

use super::attention::FrameAttention;
use super::resnet::{ResnetBlock, load_resnet};
use crate::error::Result;
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// # Source
/// `UNetMidBlock2D` of diffusers.
pub(super) struct MidBlock {
    before: ResnetBlock,
    attention: FrameAttention,
    after: ResnetBlock,
}

impl MidBlock {
    pub(super) fn load(
        weights: &Weights,
        config: &SpatialVaeConfig,
        channels: usize,
    ) -> Result<Self> {
        let resnet = |name: &str| load_resnet(&weights.pp(name), config, channels, channels);
        Ok(Self {
            before: resnet("resnets.0")?,
            attention: FrameAttention::load(&weights.pp("attentions.0"), config, channels)?,
            after: resnet("resnets.1")?,
        })
    }

    /// # Shapes
    /// `[N, channels, H, W]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.after.forward(&self.attention.forward(&self.before.forward(x)?)?)
    }
}
