//! Rows of an input laid out for the tiles that multiply them.

use std::ops::Range;

use rayon::prelude::*;

use crate::nn::microkernel::panel_rows;
use crate::nn::simd::{SimdLevel, vectorised};
use crate::nn::turn::{SQUARE, turn_tile};

/// Features of the input that are multiplied at a time. Our choice: the transformer's width, so that most of its sums are
/// complete at once. With more, the rows and a panel of weights do not stay in a core's cache while they pass each other.
const BLOCK_FEATURES: usize = 1152;

/// Blocks of about as many features each, in whole squares but for the last: always the same for the same number, so that sums
/// do not depend on anything else.
pub(super) fn feature_blocks(in_features: usize) -> impl Iterator<Item = Range<usize>> {
    let block = block_features(in_features);
    (0..in_features).step_by(block).map(move |first| first..in_features.min(first + block))
}

fn block_features(in_features: usize) -> usize {
    let blocks = in_features.div_ceil(BLOCK_FEATURES);
    in_features.div_ceil(blocks).next_multiple_of(SQUARE)
}

/// Some rows that are multiplied together; the last tile may have more rows than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowTile {
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// On how many threads rows are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    One,
    All,
}

/// For each block of features, for each tile of rows: `[features, rows]`, with zeros in place of rows that are missing in the
/// last tile.
#[derive(Default)]
pub(super) struct LaidOutRows {
    values: Vec<f32>,
    tiles: Vec<RowTile>,
}

impl LaidOutRows {
    /// Lays out `x` `[rows, in_features]`.
    pub(super) fn lay_out(
        &mut self,
        x: &[f32],
        in_features: usize,
        level: SimdLevel,
        threads: Threads,
    ) {
        self.tiles.clear();
        self.tiles.extend(row_tiles(level, x.len() / in_features));
        let padded = self.padded();
        let Self { values, tiles } = self;
        // Zeros that were never touched cost no pass over them.
        if values.len() < padded * in_features {
            *values = vec![0.0; padded * in_features];
        }
        let values = &mut values[..padded * in_features];
        let block = block_features(in_features);
        let lay_out = |(index, values): (usize, &mut [f32])| {
            let first = index * block;
            let features = values.len() / padded;
            vectorised(|| {
                for &RowTile { first: row, rows } in tiles.iter() {
                    let to = &mut values[row * features..][..rows * features];
                    let from = &x[row * in_features..x.len().min((row + rows) * in_features)];
                    turn_tile(from, in_features, first, rows, to);
                }
            });
        };
        let of_block = (padded * block).max(1);
        match threads {
            Threads::One => values.chunks_mut(of_block).enumerate().for_each(lay_out),
            Threads::All => values.par_chunks_mut(of_block).enumerate().for_each(lay_out),
        }
    }

    /// The tiles, in order.
    pub(super) fn tiles(&self) -> &[RowTile] {
        &self.tiles
    }

    /// Rows of all tiles.
    pub(super) fn padded(&self) -> usize {
        self.tiles.last().map_or(0, |tile| tile.first + tile.rows)
    }

    /// The tile's part of a block, `[features, rows]`.
    pub(super) fn tile(&self, block: &Range<usize>, tile: RowTile) -> &[f32] {
        let start = self.padded() * block.start + tile.first * block.len();
        &self.values[start..][..tile.rows * block.len()]
    }
}

fn row_tiles(level: SimdLevel, rows: usize) -> impl Iterator<Item = RowTile> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = rows.checked_sub(first).filter(|&left| left > 0)?;
        let tile = RowTile { first, rows: panel_rows(level, left) };
        first += tile.rows;
        Some(tile)
    })
}
