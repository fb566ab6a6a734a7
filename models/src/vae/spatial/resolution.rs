//! The blocks of one resolution, and the way to the next one.

use candle_core::Tensor;

use super::resnet::{ResnetBlock, load_resnet};
use crate::error::Result;
use crate::nn::{Conv2d, DoublingConv2d, Window};
use crate::vae::SpatialVaeConfig;
use crate::weights::Weights;

/// How height and width change behind the blocks.
#[derive(Clone, Copy)]
pub(super) enum Resize {
    Halve,
    Double,
    Keep,
}

/// # Source
/// `DownEncoderBlock2D` and `UpDecoderBlock2D` of diffusers.
pub(super) struct ResolutionBlock {
    resnets: Vec<ResnetBlock>,
    resizing: Option<Resizing>,
}

/// The convolution that changes height and width.
enum Resizing {
    Halving(Conv2d),
    Doubling(DoublingConv2d),
}

impl ResolutionBlock {
    /// `layers` residual blocks, of which the first goes from `in_channels` to `out_channels`.
    pub(super) fn load(
        weights: &Weights,
        config: &SpatialVaeConfig,
        layers: usize,
        (in_channels, out_channels): (usize, usize),
        resize: Resize,
    ) -> Result<Self> {
        let resnets = (0..layers)
            .map(|layer| {
                let channels = if layer == 0 { in_channels } else { out_channels };
                let weights = weights.pp("resnets").pp(layer);
                load_resnet(&weights, config, channels, out_channels)
            })
            .collect::<Result<_>>()?;
        let channels = out_channels;
        let resizing = match resize {
            Resize::Halve => {
                let place = weights.pp("downsamplers.0.conv");
                let conv = Conv2d::load(&place, channels, channels, Window::halving())?;
                Some(Resizing::Halving(conv))
            }
            Resize::Double => {
                let place = weights.pp("upsamplers.0.conv");
                Some(Resizing::Doubling(DoublingConv2d::load(&place, channels, channels)?))
            }
            Resize::Keep => None,
        };
        Ok(Self { resnets, resizing })
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to `[N, out_channels, H', W']`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.resizing {
            Some(Resizing::Halving(conv)) => conv.forward(&x),
            Some(Resizing::Doubling(conv)) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
