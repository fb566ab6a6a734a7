//! Convolutions in two and three dimensions.

mod band;
mod bands;
mod packed;
mod patch;
mod plain;
#[cfg(test)]
mod tests;
mod window;
mod winograd;

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::weights::Weights;

use super::simd::SimdLevel;
use packed::PackedKernel;
use plain::PlainKernel;
pub use window::Window;
pub use winograd::release_workspaces;
pub(crate) use winograd::workspace_bytes;

/// A convolution over `[time, height, width]`, in the fastest way that its device and dtype have.
enum Kernel {
    Packed(PackedKernel),
    Plain(PlainKernel),
}

impl Kernel {
    /// `weight` is `[out_channels, in_channels, taps...]`, as checkpoints store it.
    fn new(weight: &Tensor, bias: Option<Tensor>, windows: [Window; 3]) -> Result<Self> {
        if has_packed_kernel(weight) {
            let level = SimdLevel::best();
            return Ok(Self::Packed(PackedKernel::new(weight, bias.as_ref(), windows, level)?));
        }
        Ok(Self::Plain(PlainKernel::new(weight, bias, windows)?))
    }

    /// # Shapes
    /// `[B, in_channels, T, H, W]` to `[B, out_channels, T', H', W']`.
    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Packed(kernel) => kernel.convolve(x),
            Self::Plain(kernel) => {
                let samples: Vec<_> = (0..x.dim(0)?)
                    .map(|sample| kernel.convolve(&x.get(sample)?))
                    .collect::<Result<_>>()?;
                Ok(Tensor::stack(&samples, 0)?)
            }
        }
    }
}

/// Whether a kernel of these weights can be laid out for the CPU. A parameter recorder hands out one value, broadcast;
/// it stays so, or listing the parameters of a model would cost the memory of the model.
fn has_packed_kernel(weight: &Tensor) -> bool {
    let is_recorded = weight.stride().iter().all(|&stride| stride == 0);
    is_packed_dtype(weight) && !is_recorded
}

fn is_packed_dtype(weight: &Tensor) -> bool {
    weight.device().is_cpu() && weight.dtype() == DType::F32
}

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
        Ok(self.0.convolve(&x.unsqueeze(2)?)?.squeeze(2)?)
    }
}

/// A two-dimensional convolution of 3x3 taps behind a doubling of height and width, in which every value becomes four.
pub struct DoublingConv2d(Kernel);

impl DoublingConv2d {
    /// Reads `weight` `[out_channels, in_channels, 3, 3]` and `bias` `[out_channels]`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    ///
    /// # Source
    /// `Upsample2D` of diffusers: nearest neighbours, then `torch.nn.Conv2d`.
    pub fn load(weights: &Weights, in_channels: usize, out_channels: usize) -> Result<Self> {
        let weight = weights.tensor("weight", (out_channels, in_channels, 3, 3))?;
        let bias = weights.tensor("bias", out_channels)?;
        if is_packed_dtype(&weight) {
            weights.note_larger_layout(PackedKernel::doubling_growth(in_channels * out_channels));
        }
        if has_packed_kernel(&weight) {
            let kernel = PackedKernel::doubling(&weight, Some(&bias), SimdLevel::best())?;
            return Ok(Self(Kernel::Packed(kernel)));
        }
        let windows = [Window::same(1), Window::same(3), Window::same(3)];
        Ok(Self(Kernel::Plain(PlainKernel::new(&weight, Some(bias), windows)?)))
    }

    /// # Shapes
    /// `[N, in_channels, H, W]` to `[N, out_channels, 2 * H, 2 * W]`.
    ///
    /// # Errors
    /// The input has another number of channels.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let x = match self.0 {
            Kernel::Packed(_) => x,
            Kernel::Plain(_) => &x.upsample_nearest2d(2 * height, 2 * width)?,
        };
        Ok(self.0.convolve(&x.unsqueeze(2)?)?.squeeze(2)?)
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
        self.0.convolve(x)
    }
}
