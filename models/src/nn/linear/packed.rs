//! A matrix of weights laid out for the tiles that multiply it, and products of rows with it.

use std::ops::Range;

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::nn::activation::gelu_value;
use crate::nn::aligned::AlignedValues;
use crate::nn::linear::laid_out_rows::{LaidOutRows, Threads, feature_blocks};
use crate::nn::microkernel::{ONE_TAP, Tile, fetch_to_write, lanes, largest_tile, panel_width};
use crate::nn::rows::with_values;
use crate::nn::simd::{SimdLevel, vectorised};
use crate::nn::turn::turn_panel;
use crate::weights::Weights;

/// Panels that pass a block of features before the next one is multiplied. Our choice, measured: with fewer, the rows are
/// fetched more often from outside a core's cache; with more, their sums do not stay in it.
const PANELS_TOGETHER: usize = 8;

/// Sums that a product keeps for each row.
pub(crate) fn sums_of_a_row() -> usize {
    PANELS_TOGETHER * panel_width(SimdLevel::best())
}

/// What is done with a value of the result once its sum is complete, bias included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    None,
    /// [`crate::nn::gelu`].
    Gelu,
    /// [`crate::nn::gelu`] of it times what is in its place already: [`crate::nn::gelu_gated`].
    GeluGate,
    /// Added to what is in its place already.
    Add,
}

/// The weights of an affine map on a CPU in f32.
pub(crate) struct PackedLinear {
    level: SimdLevel,
    /// For each panel of output features `[in_features, features of the panel]`.
    panels: AlignedValues,
    /// Zeros where the map has none, and up to whole panels.
    bias: Vec<f32>,
    in_features: usize,
    out_features: usize,
}

/// Where a thread computes products: reused from one to the next.
#[derive(Default)]
pub(crate) struct ProductScratch {
    rows: LaidOutRows,
    sums: AlignedValues,
}

impl PackedLinear {
    /// Reads `weight` `[out_features, in_features]` panel by panel, so that it is never in memory twice. `None` when the
    /// weights are not for a CPU in f32, or only recorded.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub(crate) fn load(
        weights: &Weights,
        in_features: usize,
        out_features: usize,
        bias: Option<&Tensor>,
    ) -> Result<Option<Self>> {
        Self::load_for(SimdLevel::best(), weights, in_features, out_features, bias)
    }

    /// [`PackedLinear::load`] for other vector instructions than the best.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub(super) fn load_for(
        level: SimdLevel,
        weights: &Weights,
        in_features: usize,
        out_features: usize,
        bias: Option<&Tensor>,
    ) -> Result<Option<Self>> {
        let computes = weights.device().is_cpu() && weights.dtype() == DType::F32;
        if !computes || in_features == 0 || out_features == 0 {
            return Ok(None);
        }
        let width = panel_width(level);
        let padded = out_features.next_multiple_of(width);
        weights.note_larger_layout((padded - out_features) * in_features);
        // Where rows are scattered over the file, each would cost as much as the whole.
        let whole = match weights.has_rows_in_one_piece("weight") {
            true => None,
            false => Some(weights.tensor("weight", (out_features, in_features))?),
        };
        let mut panels = AlignedValues::default();
        for first in (0..out_features).step_by(width) {
            let rows: Vec<u32> =
                (first..out_features.min(first + width)).map(|row| row as u32).collect();
            let strip = match &whole {
                None => weights.rows("weight", (out_features, in_features), &rows)?,
                Some(whole) => whole.narrow(0, first, rows.len())?,
            };
            // A parameter recorder hands out one value, broadcast; listing the parameters of a model must not cost the
            // memory of the model.
            if strip.stride().iter().all(|&stride| stride == 0) {
                return Ok(None);
            }
            if panels.is_empty() {
                panels = AlignedValues::zeros(padded * in_features);
            }
            let panel = &mut panels[first * in_features..][..width * in_features];
            with_values(&strip, |strip| {
                vectorised(|| turn_panel(strip, in_features, panel, width));
            })?;
        }
        let mut all_bias = vec![0f32; padded];
        if let Some(bias) = bias {
            with_values(bias, |bias| all_bias[..out_features].copy_from_slice(bias))?;
        }
        Ok(Some(Self { level, panels, bias: all_bias, in_features, out_features }))
    }

    /// Length of a row of the input.
    pub(crate) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Length of a row of the result.
    pub(crate) fn out_features(&self) -> usize {
        self.out_features
    }

    /// How many panels there are.
    pub(super) fn panels(&self) -> usize {
        self.bias.len() / panel_width(self.level)
    }

    /// The columns of the result that panels make: as many for each but the last.
    pub(super) fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        let width = panel_width(self.level);
        panels.start * width..self.out_features.min(panels.end * width)
    }

    /// Lays rows `[rows, in_features]` out for products with these weights, block by block on all threads.
    pub(super) fn lay_out(&self, x: &[f32]) -> LaidOutRows {
        let mut rows = LaidOutRows::default();
        rows.lay_out(x, self.in_features, self.level, Threads::All);
        rows
    }

    /// `activation(x W^T + b)` on this thread.
    ///
    /// # Shapes
    /// `x` `[rows, in_features]`, `to` `[rows, out_features]`.
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        activation: Activation,
        to: &mut [f32],
        scratch: &mut ProductScratch,
    ) {
        let ProductScratch { rows, sums } = scratch;
        rows.lay_out(x, self.in_features, self.level, Threads::One);
        let panels = self.panels();
        for first in (0..panels).step_by(PANELS_TOGETHER) {
            let together = first..panels.min(first + PANELS_TOGETHER);
            let columns = self.columns(&together);
            let rows_to = to.chunks_exact_mut(self.out_features);
            let mut to: Vec<_> = rows_to.map(|row| &mut row[columns.clone()]).collect();
            self.multiply_panels(together, rows, activation, &mut to, sums);
        }
    }

    /// The columns of some panels of [`PackedLinear::multiply`]. For each value the products are added in the order of the
    /// features, whatever rows and panels are computed beside it.
    ///
    /// # Shapes
    /// Each of the rows of `to` the panels' columns; `sums` is room for sums that are not complete.
    pub(super) fn multiply_panels(
        &self,
        panels: Range<usize>,
        rows: &LaidOutRows,
        activation: Activation,
        to: &mut [&mut [f32]],
        sums: &mut AlignedValues,
    ) {
        let width = panel_width(self.level);
        let blocks: Vec<_> = feature_blocks(self.in_features).collect();
        // Sums that are complete at once need no place but their tile's.
        let at_once = blocks.len() == 1;
        let kept_rows = if at_once { largest_tile(self.level).0 } else { rows.padded() };
        let kept_panels = if at_once { 1 } else { panels.len() };
        sums.set_length(kept_panels * kept_rows * width);
        for (index, block) in blocks.iter().enumerate() {
            let last = index + 1 == blocks.len();
            for panel in panels.clone() {
                // Weights come from memory, or from a cache far away: each tile fetches its part of those that follow.
                let next = match blocks.get(index + 1) {
                    _ if panel + 1 < panels.end => self.weights(panel + 1, block),
                    Some(block) => self.weights(panels.start, block),
                    None if panels.end < self.panels() => self.weights(panels.end, &blocks[0]),
                    None => &[],
                };
                let mut parts_of_next =
                    next.chunks(next.len().div_ceil(rows.tiles().len().max(1)).max(1));
                let weights = self.weights(panel, block);
                let bias = &self.bias[self.columns(&(panel..panel + 1))];
                let panels_before = panel - panels.start;
                let column = panels_before * width;
                for &tile in rows.tiles() {
                    let kept_at = if at_once { 0 } else { panels_before * kept_rows + tile.first };
                    let sums = &mut sums[kept_at * width..][..tile.rows * width];
                    let to_end = to.len().min(tile.first + tile.rows);
                    let to = &mut to[tile.first..to_end];
                    if last {
                        to.iter().for_each(|to| fetch_to_write(&to[column..][..bias.len()]));
                    }
                    let product = Tile {
                        scalars: rows.tile(block, tile),
                        rows: tile.rows,
                        vectors: weights,
                        channels: block.len(),
                        channel_pitch: width,
                        taps: ONE_TAP,
                        sums,
                        sums_pitch: width,
                        width: bias.len().div_ceil(lanes(self.level)),
                        add: index > 0,
                        next: parts_of_next.next().unwrap_or_default(),
                    };
                    product.compute(self.level);
                    if last {
                        finish(sums, width, bias, activation, to, column);
                    }
                }
            }
        }
    }

    /// A panel's weights of some features.
    fn weights(&self, panel: usize, features: &Range<usize>) -> &[f32] {
        let width = panel_width(self.level);
        &self.panels[(panel * self.in_features + features.start) * width..]
            [..features.len() * width]
    }
}

/// Adds the bias to a tile of sums, and hands the values over.
fn finish(
    sums: &[f32],
    width: usize,
    bias: &[f32],
    activation: Activation,
    to: &mut [&mut [f32]],
    column: usize,
) {
    vectorised(|| {
        for (to, sums) in to.iter_mut().zip(sums.chunks_exact(width)) {
            let to = to[column..][..bias.len()].iter_mut().zip(sums.iter().zip(bias));
            match activation {
                Activation::None => to.for_each(|(to, (sum, bias))| *to = sum + bias),
                Activation::Gelu => to.for_each(|(to, (sum, bias))| *to = gelu_value(sum + bias)),
                Activation::GeluGate => {
                    to.for_each(|(to, (sum, bias))| *to *= gelu_value(sum + bias));
                }
                Activation::Add => to.for_each(|(to, (sum, bias))| *to += sum + bias),
            }
        }
    });
}
