//! A matrix of weights laid out for the tiles that multiply it, and products of rows with it.

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::nn::activation::gelu_value;
use crate::nn::aligned::AlignedValues;
use crate::nn::microkernel::{
    ONE_TAP, Tile, fetch_to_write, lanes, largest_tile, panel_rows, panel_width,
};
use crate::nn::rows::with_values;
use crate::nn::simd::{SimdLevel, vectorised};
use crate::weights::Weights;

/// Features of the input that are multiplied at a time. Our choice, measured: with more, a panel of weights does not stay in
/// a core's cache while all rows pass it; with fewer, sums are fetched and stored more often.
const BLOCK_FEATURES: usize = 1536;

/// Columns by which rows are turned at a time while they are packed. Our choice: a cache line of values.
const TURNED_FEATURES: usize = 16;

/// What is done with a value of the result once its sum is complete, bias included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    None,
    /// [`crate::nn::gelu`].
    Gelu,
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
    /// Rows of the input, in tiles `[features, rows]`.
    packed: Vec<f32>,
    /// One tile of the result.
    tile: AlignedValues,
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
        if !weights.device().is_cpu() || weights.dtype() != DType::F32 || out_features == 0 {
            return Ok(None);
        }
        let level = SimdLevel::best();
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
            with_values(&strip, |strip| turn(strip, in_features, panel, width))?;
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

    /// Features of a panel, and how many panels there are.
    pub(crate) fn panels(&self) -> (usize, usize) {
        let width = panel_width(self.level);
        (width, self.bias.len() / width)
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
        let (_, panels) = self.panels();
        let mut rows: Vec<_> = to.chunks_exact_mut(self.out_features).collect();
        self.multiply_panels(x, activation, 0..panels, &mut rows, scratch);
    }

    /// The columns of some panels of [`PackedLinear::multiply`]. For each value the products are added in the order of
    /// the features, whatever rows and panels it is computed with.
    ///
    /// # Shapes
    /// `x` `[rows, in_features]`; each of the rows of `to` the features of these panels.
    pub(crate) fn multiply_panels(
        &self,
        x: &[f32],
        activation: Activation,
        panels: std::ops::Range<usize>,
        to: &mut [&mut [f32]],
        scratch: &mut ProductScratch,
    ) {
        let width = panel_width(self.level);
        let first_column = panels.start * width;
        let blocks = self.in_features.div_ceil(BLOCK_FEATURES).max(1);
        let block = self.in_features.div_ceil(blocks);
        scratch.tile.set_length(largest_tile(self.level).0 * width);
        let tiles = row_tiles(self.level, to.len()).count().max(1);
        for first in (0..self.in_features).step_by(block) {
            let features = block.min(self.in_features - first);
            pack_rows(x, self.in_features, first, features, self.level, &mut scratch.packed);
            let last = first + features == self.in_features;
            let weights_of = |panel: usize| {
                &self.panels[(panel * self.in_features + first) * width..][..features * width]
            };
            for panel in panels.clone() {
                let column = panel * width - first_column;
                let bias =
                    &self.bias[panel * width..][..width.min(self.out_features - panel * width)];
                // Weights come from memory, or from a cache far away: each tile fetches its part of the next panel.
                let next = if panel + 1 < panels.end { weights_of(panel + 1) } else { &[] };
                let mut parts_of_next = next.chunks((features * width).div_ceil(tiles));
                for (row, tile_rows) in row_tiles(self.level, to.len()) {
                    let last_row = to.len().min(row + tile_rows);
                    let to = &mut to[row..last_row];
                    to.iter().for_each(|to| fetch_to_write(&to[column..][..bias.len()]));
                    let tile = Tile {
                        scalars: &scratch.packed[row * features..][..tile_rows * features],
                        rows: tile_rows,
                        vectors: weights_of(panel),
                        channels: features,
                        channel_pitch: width,
                        taps: ONE_TAP,
                        sums: &mut scratch.tile,
                        sums_pitch: width,
                        width: bias.len().div_ceil(lanes(self.level)),
                        add: false,
                        next: parts_of_next.next().unwrap_or_default(),
                    };
                    tile.compute(self.level);
                    let finish = Finish { bias, activation, add: first > 0, last };
                    finish.rows(&scratch.tile, width, to, column);
                }
            }
        }
    }
}

/// What becomes of a tile of sums.
struct Finish<'a> {
    bias: &'a [f32],
    activation: Activation,
    /// Whether sums of features before these are there already.
    add: bool,
    /// Whether none follow.
    last: bool,
}

impl Finish<'_> {
    fn rows(&self, tile: &[f32], width: usize, to: &mut [&mut [f32]], column: usize) {
        let Self { bias, activation, add, last } = *self;
        vectorised(|| {
            for (to, sums) in to.iter_mut().zip(tile.chunks_exact(width)) {
                let to = to[column..][..bias.len()].iter_mut().zip(sums).zip(bias);
                let total = |to: &f32, sum: f32| if add { *to + sum } else { sum };
                match activation {
                    _ if !last => to.for_each(|((to, &sum), _)| *to = total(to, sum)),
                    Activation::None => {
                        to.for_each(|((to, &sum), bias)| *to = total(to, sum) + bias);
                    }
                    Activation::Gelu => {
                        to.for_each(|((to, &sum), bias)| *to = gelu_value(total(to, sum) + bias));
                    }
                }
            }
        });
    }
}

/// The first row and the rows of each tile; the last tile may have more rows than there are.
fn row_tiles(level: SimdLevel, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let first = row;
        let tile_rows = panel_rows(level, rows.checked_sub(first).filter(|&left| left > 0)?);
        row += tile_rows;
        Some((first, tile_rows))
    })
}

/// Lays some features of all rows out in tiles `[features, rows of the tile]`, with zeros in place of rows that are
/// missing in the last one.
fn pack_rows(
    x: &[f32],
    in_features: usize,
    first: usize,
    features: usize,
    level: SimdLevel,
    packed: &mut Vec<f32>,
) {
    let rows = x.len() / in_features;
    let padded: usize = row_tiles(level, rows).map(|(_, tile_rows)| tile_rows).sum();
    packed.resize(padded * features, 0.0);
    vectorised(|| {
        for (row, tile_rows) in row_tiles(level, rows) {
            let tile = &mut packed[row * features..][..tile_rows * features];
            let from = &x[row * in_features..x.len().min((row + tile_rows) * in_features)];
            match tile_rows {
                8 => pack_tile::<8>(from, in_features, first, tile),
                6 => pack_tile::<6>(from, in_features, first, tile),
                4 => pack_tile::<4>(from, in_features, first, tile),
                rows => unreachable!("invariant: no tile has {rows} rows"),
            }
        }
    });
}

/// Packs the rows of one tile, square by square.
#[inline(always)]
fn pack_tile<const ROWS: usize>(from: &[f32], in_features: usize, first: usize, tile: &mut [f32]) {
    let (tile, _) = tile.as_chunks_mut::<ROWS>();
    for (square, to) in tile.chunks_mut(TURNED_FEATURES).enumerate() {
        let start = first + square * TURNED_FEATURES;
        let mut values = [[0f32; TURNED_FEATURES]; ROWS];
        for (values, row) in values.iter_mut().zip(from.chunks_exact(in_features)) {
            values[..to.len()].copy_from_slice(&row[start..][..to.len()]);
        }
        for (feature, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|row| values[row][feature]);
        }
    }
}

/// Turns rows of weights `[features of the panel, in_features]` into a panel `[in_features, width]`, square by square.
fn turn(strip: &[f32], in_features: usize, panel: &mut [f32], width: usize) {
    vectorised(|| {
        for (square, rows) in strip.chunks(TURNED_FEATURES * in_features).enumerate() {
            let first_row = square * TURNED_FEATURES;
            for start in (0..in_features).step_by(TURNED_FEATURES) {
                let count = TURNED_FEATURES.min(in_features - start);
                let mut values = [[0f32; TURNED_FEATURES]; TURNED_FEATURES];
                for (values, row) in values.iter_mut().zip(rows.chunks_exact(in_features)) {
                    values[..count].copy_from_slice(&row[start..][..count]);
                }
                let rows = rows.len() / in_features;
                for feature in 0..count {
                    let to = &mut panel[(start + feature) * width + first_row..][..rows];
                    to.iter_mut().zip(&values).for_each(|(to, values)| *to = values[feature]);
                }
            }
        }
    });
}
