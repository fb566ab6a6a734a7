//! Kernels on a CPU in f32, laid out for the tiles that multiply them.

use candle_core::{Shape, Tensor};

use super::bands::Convolution;
use super::window::Window;
use super::winograd::{self, WinogradConvolution};
use crate::error::Result;
use crate::nn::microkernel::panel_rows;
use crate::nn::rows::with_values;
use crate::nn::simd::SimdLevel;

/// The kernel of a convolution over `[time, height, width]` and its bias.
pub(super) struct PackedKernel {
    pub(super) level: SimdLevel,
    /// One for each output position of a `scale x scale` square, row by row.
    pub(super) phases: Vec<Phase>,
    /// How much larger than the windows say height and width become.
    pub(super) scale: usize,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) out_channels: usize,
    pub(super) in_channels: usize,
    pub(super) windows: [Window; 3],
}

/// What one of the output positions multiplies.
pub(super) struct Phase {
    /// Which taps of the windows it reads.
    pub(super) taps: Vec<usize>,
    /// For each panel of output channels `[in_channels, taps, rows]`.
    pub(super) weights: Vec<f32>,
}

impl PackedKernel {
    /// `weight` is `[out_channels, in_channels, taps...]` in f32 on a CPU; the level must be one of this processor's.
    pub(super) fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        windows: [Window; 3],
        level: SimdLevel,
    ) -> Result<Self> {
        let (out_channels, in_channels) = (weight.dim(0)?, weight.dim(1)?);
        let taps = weight.elem_count() / (out_channels * in_channels);
        let phase = with_values(weight, |weights| {
            Phase::lay_out(level, out_channels, in_channels * taps, |channel, column| {
                weights[channel * in_channels * taps + column]
            })
        })?;
        Ok(Self {
            level,
            phases: vec![Phase { taps: (0..taps).collect(), weights: phase }],
            scale: 1,
            bias: bias.map(|bias| bias.to_vec1()).transpose()?,
            out_channels,
            in_channels,
            windows,
        })
    }

    /// Elements that [`PackedKernel::doubling`] takes beyond those of its weights, for so many pairs of channels: four
    /// kernels of four taps, for one of nine.
    pub(super) const fn doubling_growth(channel_pairs: usize) -> usize {
        channel_pairs * (4 * 4 - 9)
    }

    /// A kernel that does what doubling height and width, every value becoming four, and then convolving with `weight`
    /// `[out_channels, in_channels, 3, 3]` would do.
    ///
    /// Three neighbours in the doubled picture are only two different values, so each of the four positions that a
    /// value becomes has a kernel of 2x2 taps: sums of the weights that meet the same value.
    pub(super) fn doubling(
        weight: &Tensor,
        bias: Option<&Tensor>,
        level: SimdLevel,
    ) -> Result<Self> {
        let (out_channels, in_channels, _, _) = weight.dims4()?;
        let phases = with_values(weight, |weights| {
            Self::doubling_phases(weights, out_channels, in_channels, level)
        })?;
        Ok(Self {
            level,
            phases,
            scale: 2,
            bias: bias.map(|bias| bias.to_vec1()).transpose()?,
            out_channels,
            in_channels,
            windows: [Window::same(1), Window::same(3), Window::same(3)],
        })
    }

    fn doubling_phases(
        weights: &[f32],
        out_channels: usize,
        in_channels: usize,
        level: SimdLevel,
    ) -> Vec<Phase> {
        /// The taps that meet the first and the second value, for an even and for an odd position.
        const MET: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];
        let mut phases = Vec::with_capacity(4);
        for (odd_row, rows) in MET.iter().enumerate() {
            for (odd_column, columns) in MET.iter().enumerate() {
                let laid_out =
                    Phase::lay_out(level, out_channels, 4 * in_channels, |channel, column| {
                        let kernel = &weights[(channel * in_channels + column / 4) * 9..][..9];
                        let (rows, columns) = (rows[column / 2 % 2], columns[column % 2]);
                        let met = rows.iter().flat_map(|h| columns.iter().map(move |w| h * 3 + w));
                        met.map(|tap| f64::from(kernel[tap])).sum::<f64>() as f32
                    });
                let first = odd_row * 3 + odd_column;
                let taps = vec![first, first + 1, first + 3, first + 4];
                phases.push(Phase { taps, weights: laid_out });
            }
        }
        phases
    }

    /// # Shapes
    /// `x` `[B, in_channels, T, H, W]`, to `[B, out_channels, T', H', W']`.
    pub(super) fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, frames, rows, columns) = x.dims5()?;
        if channels != self.in_channels {
            return Err(candle_core::Error::UnexpectedShape {
                msg: "the convolution has another number of channels".into(),
                expected: Shape::from((batch, self.in_channels, frames, rows, columns)),
                got: x.shape().clone(),
            }
            .into());
        }
        let input = [frames, rows, columns];
        let mut steps = input;
        for (size, window) in steps.iter_mut().zip(self.windows) {
            *size = window.outputs(*size)?;
        }
        if winograd::suits(self) {
            let convolution = WinogradConvolution { kernel: self, batch, input, output: steps };
            return Ok(x.contiguous()?.apply_op1_no_bwd(&convolution)?);
        }
        self.convolve_directly(x, input, steps)
    }

    pub(super) fn convolve_directly(
        &self,
        x: &Tensor,
        input: [usize; 3],
        steps: [usize; 3],
    ) -> Result<Tensor> {
        let convolution = Convolution { kernel: self, batch: x.dim(0)?, input, steps };
        Ok(x.contiguous()?.apply_op1_no_bwd(&convolution)?)
    }

    /// Panels of output channels: the first channel and the rows of each.
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        panels(self.level, self.out_channels)
    }
}

impl Phase {
    /// `weight` gives the weight of an output channel and one of the `columns`.
    fn lay_out(
        level: SimdLevel,
        out_channels: usize,
        columns: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Vec<f32> {
        let rows = panels(level, out_channels).map(|(_, rows)| rows).sum::<usize>();
        let mut weights = Vec::with_capacity(rows * columns);
        for (first, rows) in panels(level, out_channels) {
            for column in 0..columns {
                weights.extend((first..first + rows).map(|channel| {
                    if channel < out_channels { weight(channel, column) } else { 0.0 }
                }));
            }
        }
        weights
    }
}

fn panels(level: SimdLevel, out_channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let first_panel = (out_channels > 0).then_some(0);
    let rows = move |first| panel_rows(level, out_channels - first);
    std::iter::successors(first_panel, move |&first| {
        Some(first + rows(first)).filter(|&next| next < out_channels)
    })
    .map(move |first| (first, rows(first)))
}
