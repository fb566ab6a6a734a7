//! Convolutions of tensor operations alone: for every device and dtype, in bounded memory.
//!
//! The output is computed in slabs: some frames, or some rows of one frame. For each slab the input values
//! below every kernel tap are gathered into a matrix `[taps * in_channels, output positions]`, which the kernel
//! `[out_channels, taps * in_channels]` multiplies. A 1x1 kernel needs no gathering and is a plain product.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::window::Window;
use crate::error::Result;

impl Window {
    /// What `outputs` read of `x` along `axis`, zeros included, in whole strides.
    fn read(self, x: &Tensor, axis: usize, outputs: Range<usize>) -> Result<Tensor> {
        let start = outputs.start * self.stride;
        let length = (outputs.len() - 1) * self.stride + self.kernel;
        let end = start + length.next_multiple_of(self.stride);
        let (first, last) = (self.before, self.before + x.dim(axis)?);
        let inside = start.max(first)..end.min(last);
        let values = x.narrow(axis, inside.start - first, inside.len())?;
        Ok(values.pad_with_zeros(axis, inside.start - start, end - inside.end)?)
    }

    /// The values below one tap, of an axis that is split into `[strides, stride]` at `axis` and `axis + 1`.
    fn tap(self, x: &Tensor, axis: usize, tap: usize, outputs: usize) -> Result<Tensor> {
        let x = x.narrow(axis, tap / self.stride, outputs)?;
        Ok(x.narrow(axis + 1, tap % self.stride, 1)?)
    }
}

/// The kernel of a convolution over `[time, height, width]` and its bias, as tensors.
pub(super) struct PlainKernel {
    /// `[out_channels, taps * in_channels]`.
    pub(super) matrix: Tensor,
    bias: Option<Tensor>,
    windows: [Window; 3],
}

impl PlainKernel {
    /// `weight` is `[out_channels, in_channels, taps...]`, as checkpoints store it.
    pub(super) fn new(weight: &Tensor, bias: Option<Tensor>, windows: [Window; 3]) -> Result<Self> {
        let (out_channels, columns) = (weight.dim(0)?, weight.elem_count() / weight.dim(0)?);
        let matrix = if weight.stride().iter().all(|&stride| stride == 0) {
            // One value, broadcast: what a parameter recorder hands out. It stays so, or listing the parameters of a
            // model would cost the memory of the model.
            let mut value = weight.clone();
            for axis in 0..weight.rank() {
                value = value.narrow(axis, 0, 1)?;
            }
            value.reshape(())?.broadcast_as((out_channels, columns))?
        } else {
            let (channels, taps) = (weight.dim(1)?, columns / weight.dim(1)?);
            let by_tap = weight.reshape((out_channels, channels, taps))?.transpose(1, 2)?;
            by_tap.contiguous()?.reshape((out_channels, columns))?
        };
        Ok(Self { matrix, bias, windows })
    }

    /// # Shapes
    /// `x` `[in_channels, T, H, W]` with any strides, to `[out_channels, T', H', W']`.
    pub(super) fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let (_, frames, rows, columns) = x.dims4()?;
        let [time, height, width] = self.windows;
        let (frames, rows) = (time.outputs(frames)?, height.outputs(rows)?);
        let columns = width.outputs(columns)?;
        let (frames_at_once, rows_at_once) = self.slab(frames, rows, columns);
        let mut slabs = Vec::new();
        for frames in pieces(frames, frames_at_once) {
            let x = time.read(x, 1, frames.clone())?;
            let mut bands = Vec::new();
            for rows in pieces(rows, rows_at_once) {
                let x = width.read(&height.read(&x, 2, rows.clone())?, 3, 0..columns)?;
                bands.push(self.multiply(&x, [frames.len(), rows.len(), columns])?);
            }
            slabs.push(Tensor::cat(&bands, 2)?);
        }
        Ok(Tensor::cat(&slabs, 1)?)
    }

    /// Gathers what lies below each tap and multiplies; `x` holds exactly what the outputs of `size` read.
    fn multiply(&self, x: &Tensor, size: [usize; 3]) -> Result<Tensor> {
        let [time, height, width] = self.windows;
        let (channels, frames, rows, columns) = x.dims4()?;
        let x = x.contiguous()?.reshape(vec![
            channels,
            frames / time.stride,
            time.stride,
            rows / height.stride,
            height.stride,
            columns / width.stride,
            width.stride,
        ])?;
        let mut taps = Vec::with_capacity(time.kernel * height.kernel * width.kernel);
        for t in 0..time.kernel {
            let x = time.tap(&x, 1, t, size[0])?;
            for h in 0..height.kernel {
                let x = height.tap(&x, 3, h, size[1])?;
                for w in 0..width.kernel {
                    taps.push(width.tap(&x, 5, w, size[2])?);
                }
            }
        }
        let gathered = Tensor::cat(&taps, 0)?.reshape((self.matrix.dim(1)?, ()))?;
        let product = self.matrix.matmul(&gathered)?;
        let product = match &self.bias {
            Some(bias) => product.broadcast_add(&bias.reshape((bias.elem_count(), 1))?)?,
            None => product,
        };
        Ok(product.reshape((self.matrix.dim(0)?, size[0], size[1], size[2]))?)
    }

    /// How many frames, and how many rows of each, to compute at once.
    pub(super) fn slab(&self, frames: usize, rows: usize, columns: usize) -> (usize, usize) {
        let row_columns = self.matrix.dims()[1] * columns;
        let row_bytes = row_columns * self.matrix.dtype().size_in_bytes();
        let affordable = (gathered_bytes(self.matrix.device()) / row_bytes.max(1)).max(1);
        if affordable < rows { (1, affordable) } else { ((affordable / rows).min(frames), rows) }
    }
}

/// How large a slab's gathered matrix may be. Our choice: on a CPU it should stay in the outer cache between being
/// gathered and being multiplied; a GPU wants few, large products, within what a phone can spare.
fn gathered_bytes(device: &Device) -> usize {
    if device.is_cpu() { 4 << 20 } else { 64 << 20 }
}

fn pieces(length: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(at_once).map(move |start| start..(start + at_once).min(length))
}
