//! How a kernel moves along one axis.

use crate::error::{ModelError, Result};

/// How a kernel moves along one axis: its length, its step, and the zeros around the input.
///
/// Padding is always shorter than the kernel, so every position reads at least one real value.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Window {
    /// An odd `kernel` at stride 1 with the zeros that keep the axis' length.
    pub const fn same(kernel: usize) -> Self {
        Self { kernel, stride: 1, before: kernel / 2, after: kernel / 2 }
    }

    /// Kernel 3 at stride 2 with one zero behind the input and none in front.
    ///
    /// # Source
    /// `Downsample2D` of diffusers with `padding=0`.
    pub const fn halving() -> Self {
        Self { kernel: 3, stride: 2, before: 0, after: 1 }
    }

    /// Zeros in front only, so that no position reads what comes after it.
    ///
    /// # Source
    /// `CausalConv3d` of `vae_temporal.py`: `kernel - stride` zeros.
    pub const fn causal(kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, before: kernel.saturating_sub(stride), after: 0 }
    }

    pub(super) fn outputs(self, inputs: usize) -> Result<usize> {
        let padded = inputs + self.before + self.after;
        if inputs == 0 || padded < self.kernel {
            return Err(ModelError::bad_input(format!(
                "an axis of {inputs} values is too short for a convolution of {} taps",
                self.kernel
            )));
        }
        Ok((padded - self.kernel) / self.stride + 1)
    }
}
