//! Convolutions in two and three dimensions.

mod kernel;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use crate::error::Result;
use crate::weights::Weights;

use kernel::Kernel;
pub use kernel::Window;

/// A two-dimensional convolution with bias.
pub struct Conv2d(Kernel);

impl Conv2d {
    /// Reads `weight` `[out_channels, in_channels, k, k]` and `bias` `[out_channels]`; `window` holds for both axes.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    ///
    /// # Source
    /// `torch.nn.Conv2d`.
    pub fn load(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        window: Window,
    ) -> Result<Self> {
        let shape = (out_channels, in_channels, window.kernel, window.kernel);
        let (weight, bias) =
            (weights.tensor("weight", shape)?, weights.tensor("bias", out_channels)?);
        Ok(Self(Kernel::new(&weight, Some(bias), [Window::same(1), window, window])?))
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to `[N, out_channels, H', W']`.
    ///
    /// # Errors
    /// The input has another number of channels, or is too small for the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.convolve(&x.transpose(0, 1)?)?.transpose(0, 1)?.contiguous()?)
    }
}

/// A three-dimensional convolution that is causal in time: frame `t` of the result reads no later frame.
pub struct CausalConv3d(Kernel);

impl CausalConv3d {
    /// Reads `conv.weight` `[out_channels, in_channels, k, k, k]` and `conv.bias` `[out_channels]`, for an odd
    /// `kernel` at stride `time_stride` in time and 1 in space.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    ///
    /// # Source
    /// `CausalConv3d` of `vae_temporal.py`.
    pub fn load(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        time_stride: usize,
    ) -> Result<Self> {
        let bias = weights.pp("conv").tensor("bias", out_channels)?;
        Self::read(weights, in_channels, out_channels, kernel, time_stride, Some(bias))
    }

    /// Like [`CausalConv3d::load`] at stride 1, for a convolution that has no bias.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn load_without_bias(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Result<Self> {
        Self::read(weights, in_channels, out_channels, kernel, 1, None)
    }

    fn read(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        time_stride: usize,
        bias: Option<Tensor>,
    ) -> Result<Self> {
        let shape = (out_channels, in_channels, kernel, kernel, kernel);
        let weight = weights.pp("conv").tensor("weight", shape)?;
        let space = Window::same(kernel);
        let windows = [Window::causal(kernel, time_stride), space, space];
        Ok(Self(Kernel::new(&weight, bias, windows)?))
    }

    /// # Shapes
    /// `[B, in_channels, T, H, W]` to `[B, out_channels, ceil(T / time_stride), H, W]` when `T` divides.
    ///
    /// # Errors
    /// The input has another number of channels, or too few frames for the stride.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let samples: Vec<_> =
            (0..x.dim(0)?).map(|sample| self.0.convolve(&x.get(sample)?)).collect::<Result<_>>()?;
        Ok(Tensor::stack(&samples, 0)?)
    }
}
