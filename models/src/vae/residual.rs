//! The residual block that both networks are made of, over either convolution.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{CausalConv3d, Conv2d, GroupNorm};
use crate::weights::Weights;

/// What the two networks' convolutions have in common.
pub(super) trait Convolution {
    fn apply(&self, x: &Tensor) -> Result<Tensor>;
}

impl Convolution for Conv2d {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}

impl Convolution for CausalConv3d {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}

/// Two convolutions, each behind a norm, around a residual connection.
pub(super) struct ResidualBlock<C> {
    norm1: GroupNorm,
    conv1: C,
    norm2: GroupNorm,
    conv2: C,
    /// Matches the channels of the residual connection where they change.
    shortcut: Option<C>,
}

impl<C: Convolution> ResidualBlock<C> {
    /// `norm` reads a norm over so many channels; `conv` a convolution from so many channels with a kernel of that size
    /// to `out_channels`; `shortcut` is the name of the one that changes the channels.
    pub(super) fn load(
        weights: &Weights,
        [in_channels, out_channels]: [usize; 2],
        shortcut: &str,
        norm: impl Fn(&Weights, usize) -> Result<GroupNorm>,
        conv: impl Fn(&Weights, usize, usize) -> Result<C>,
    ) -> Result<Self> {
        let changes = in_channels != out_channels;
        let shortcut = changes.then(|| conv(&weights.pp(shortcut), in_channels, 1));
        Ok(Self {
            norm1: norm(&weights.pp("norm1"), in_channels)?,
            conv1: conv(&weights.pp("conv1"), in_channels, 3)?,
            norm2: norm(&weights.pp("norm2"), out_channels)?,
            conv2: conv(&weights.pp("conv2"), out_channels, 3)?,
            shortcut: shortcut.transpose()?,
        })
    }

    /// # Shapes
    /// `[B, in_channels, ...]` to `[B, out_channels, ...]`, the other axes as they are.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = {
            // Gone before the second convolution begins: tensors are wide here.
            let hidden = self.conv1.apply(&self.norm1.forward_silu(x)?)?;
            self.norm2.forward_silu(&hidden)?
        };
        let hidden = self.conv2.apply(&hidden)?;
        let residual = match &self.shortcut {
            Some(shortcut) => &shortcut.apply(x)?,
            None => x,
        };
        Ok((residual + hidden)?)
    }
}
