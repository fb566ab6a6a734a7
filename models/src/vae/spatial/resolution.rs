//! The blocks of one resolution, and the way to the next one.

use candle_core::Tensor;

use super::resnet::{ResnetBlock, load_resnet};
use crate::error::Result;
use crate::nn::{Conv2d, Window};
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
    resize: Resize,
    conv: Option<Conv2d>,
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
        let conv = |name: &str, window| {
            Conv2d::load(&weights.pp(name), out_channels, out_channels, window)
        };
        let conv = match resize {
            Resize::Halve => Some(conv("downsamplers.0.conv", Window::halving())?),
            Resize::Double => Some(conv("upsamplers.0.conv", Window::same(3))?),
            Resize::Keep => None,
        };
        Ok(Self { resnets, resize, conv })
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to `[N, out_channels, H', W']`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        if let Resize::Double = self.resize {
            let (_, _, height, width) = x.dims4()?;
            x = x.upsample_nearest2d(2 * height, 2 * width)?;
        }
        match &self.conv {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
