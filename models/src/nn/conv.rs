//! Convolutions in two and three dimensions, as matrix products over gathered neighbourhoods.
//!
//! There is one algorithm for both, for every device, and its memory is bounded: the output is computed in slabs (some
//! frames, or some rows of one frame); for each slab the input values below every kernel tap are gathered into a matrix
//! `[taps * in_channels, output positions]`, which the kernel `[out_channels, taps * in_channels]` multiplies. A 1x1
//! kernel needs no gathering and is a plain product.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::Weights;

/// How a kernel moves along one axis: its length, its step, and the zeros around the input.
///
/// Padding is always shorter than the kernel, so every position reads at least one real value.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
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

    fn outputs(self, inputs: usize) -> Result<usize> {
        let padded = inputs + self.before + self.after;
        if inputs == 0 || padded < self.kernel {
            return Err(ModelError::bad_input(format!(
                "an axis of {inputs} values is too short for a convolution of {} taps",
                self.kernel
            )));
        }
        Ok((padded - self.kernel) / self.stride + 1)
    }

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

/// The kernel of a convolution over `[time, height, width]` and its bias.
struct Kernel {
    /// `[out_channels, taps * in_channels]`.
    matrix: Tensor,
    bias: Option<Tensor>,
    windows: [Window; 3],
}

impl Kernel {
    /// `weight` is `[out_channels, in_channels, taps...]`, as checkpoints store it.
    fn new(weight: &Tensor, bias: Option<Tensor>, windows: [Window; 3]) -> Result<Self> {
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
    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
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
    fn slab(&self, frames: usize, rows: usize, columns: usize) -> (usize, usize) {
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
    /// Reads `conv.weight` `[out_channels, in_channels, k, k, k]` and `conv.bias` `[out_channels]`, for an odd `kernel`
    /// at stride `time_stride` in time and 1 in space.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, IndexOp};

    use super::*;

    /// Values that are all different and of both signs, without a random generator.
    fn values(dims: &[usize]) -> Tensor {
        let count = dims.iter().product::<usize>();
        let values: Vec<_> = (0..count).map(|i| (i as f32 * 0.7318).sin()).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    /// The definition of a convolution, one multiplication at a time.
    fn naive(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, windows: [Window; 3]) -> Tensor {
        let (channels, frames, rows, columns) = x.dims4().unwrap();
        let (out_channels, _, kt, kh, kw) = weight.dims5().unwrap();
        let size = [frames, rows, columns];
        let outputs: Vec<_> =
            windows.iter().zip(size).map(|(window, size)| window.outputs(size).unwrap()).collect();
        let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        let weight: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
        let bias = bias.map(|bias| bias.to_vec1::<f32>().unwrap());
        let mut result = Vec::new();
        for o in 0..out_channels {
            for position in 0..outputs.iter().product::<usize>() {
                let at = [
                    position / (outputs[1] * outputs[2]),
                    position / outputs[2] % outputs[1],
                    position % outputs[2],
                ];
                let mut sum = bias.as_ref().map_or(0.0, |bias| bias[o]);
                for (c, t, h, w) in (0..channels * kt * kh * kw).map(|tap| {
                    (tap / (kt * kh * kw), tap / (kh * kw) % kt, tap / kw % kh, tap % kw)
                }) {
                    let read: Option<Vec<usize>> = [t, h, w]
                        .iter()
                        .enumerate()
                        .map(|(axis, tap)| {
                            let padded = at[axis] * windows[axis].stride + tap;
                            let inside = padded.checked_sub(windows[axis].before)?;
                            (inside < size[axis]).then_some(inside)
                        })
                        .collect();
                    if let Some(read) = read {
                        let value =
                            x[((c * frames + read[0]) * rows + read[1]) * columns + read[2]];
                        let tap = (((o * channels + c) * kt + t) * kh + h) * kw + w;
                        sum += value * weight[tap];
                    }
                }
                result.push(sum);
            }
        }
        Tensor::from_vec(result, (out_channels, outputs[0], outputs[1], outputs[2]), &Device::Cpu)
            .unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn every_window_agrees_with_the_definition() {
        let axes = [Window::same(1), Window::same(3), Window::same(5), Window::halving()];
        let times = [Window::causal(1, 1), Window::causal(3, 1), Window::causal(3, 2)];
        for (frames, rows, columns) in [(2, 3, 2), (5, 7, 9), (4, 6, 5)] {
            for space in axes {
                for time in times {
                    let x = values(&[3, frames, rows, columns]);
                    let weight =
                        values(&[2, 3, time.kernel, space.kernel, space.kernel]).affine(1.0, 0.1);
                    let (weight, bias) = (weight.unwrap(), values(&[2]));
                    let windows = [time, space, space];
                    let kernel = Kernel::new(&weight, Some(bias.clone()), windows).unwrap();
                    let expected = naive(&x, &weight, Some(&bias), windows);
                    let difference = largest_difference(&kernel.convolve(&x).unwrap(), &expected);
                    assert!(difference < 1e-4, "{windows:?} on {:?}: {difference}", x.dims());
                }
            }
        }
    }

    #[test]
    fn slabs_of_frames_and_of_rows_join_without_seams() {
        let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
        let weight = values(&[4, 3, 3, 3, 3]);
        let kernel = Kernel::new(&weight, None, windows).unwrap();
        // Sizes of which four megabytes hold five of twelve frames, then a band of rows of one frame.
        for dims in [[3, 12, 8, 300], [3, 2, 40, 400]] {
            let (frames, rows) = kernel.slab(dims[1], dims[2], dims[3]);
            assert!(frames * rows < dims[1] * dims[2], "{dims:?} fits one slab: nothing to join");
            let x = values(&dims);
            let difference = largest_difference(
                &kernel.convolve(&x).unwrap(),
                &naive(&x, &weight, None, windows),
            );
            assert!(difference < 1e-4, "{dims:?}: {difference}");
        }
    }

    #[test]
    fn later_frames_do_not_change_earlier_ones() {
        let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
        let conv = CausalConv3d(Kernel::new(&values(&[4, 2, 3, 3, 3]), None, windows).unwrap());
        let x = values(&[2, 2, 6, 4, 5]);
        let other_end = (x.narrow(2, 4, 2).unwrap() * 3.0).unwrap();
        let other = Tensor::cat(&[&x.narrow(2, 0, 4).unwrap(), &other_end], 2).unwrap();
        let (ours, others) = (conv.forward(&x).unwrap(), conv.forward(&other).unwrap());
        let start = |x: &Tensor| x.narrow(2, 0, 4).unwrap();
        assert_eq!(largest_difference(&start(&ours), &start(&others)), 0.0);
        assert!(largest_difference(&ours, &others) > 0.1, "the last frames should differ");
    }

    #[test]
    fn samples_do_not_mix() {
        let conv = Conv2d(
            Kernel::new(
                &values(&[4, 2, 3, 3]),
                Some(values(&[4])),
                [Window::same(1), Window::same(3), Window::same(3)],
            )
            .unwrap(),
        );
        let x = values(&[3, 2, 5, 4]);
        let together = conv.forward(&x).unwrap();
        for sample in 0..3 {
            let alone = conv.forward(&x.narrow(0, sample, 1).unwrap()).unwrap();
            assert!(largest_difference(&together.i(sample..=sample).unwrap(), &alone) < 1e-5);
        }
    }

    #[test]
    fn an_input_smaller_than_the_kernel_is_an_error() {
        let window = Window::halving();
        let kernel =
            Kernel::new(&values(&[1, 1, 3, 3]), None, [Window::same(1), window, window]).unwrap();
        let error = kernel.convolve(&values(&[1, 1, 1, 4])).unwrap_err().to_string();
        assert!(error.contains("too short"), "{error}");
    }

    #[test]
    fn a_recorded_weight_stays_one_value() {
        let weight = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        let weight = weight.broadcast_as((4, 2, 3, 3)).unwrap();
        let kernel = Kernel::new(&weight, None, [Window::same(3); 3]).unwrap();
        assert_eq!((kernel.matrix.dims(), kernel.matrix.stride()), (&[4, 18][..], &[0, 0][..]));
    }
}
