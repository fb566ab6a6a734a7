//! Transformed weights of some output channels.

use rayon::prelude::*;

use super::at_least;
use super::transforms::{self, PRODUCTS, SIDE};
use crate::nn::conv::packed::PackedKernel;
use crate::nn::simd::vectorised;

/// For each panel of output channels and each position of a tile `[channels and taps in time, rows]`.
#[derive(Default)]
pub(super) struct TransformedWeights {
    pub(super) values: Vec<f32>,
    pub(super) panels: Vec<Panel>,
}

/// A panel of output channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// Its rows, the last of which may be no channels.
    pub(super) rows: usize,
    /// Where its weights start.
    pub(super) start: usize,
}

impl TransformedWeights {
    /// Takes in the weights of these panels (first output channel, rows); `depth` is what each output is a sum over besides a tile's
    /// taps.
    pub(super) fn transform(
        &mut self,
        kernel: &PackedKernel,
        depth: usize,
        panels: &[(usize, usize)],
    ) {
        let mut start = 0;
        self.panels.clear();
        for &(_, rows) in panels {
            self.panels.push(Panel { rows, start });
            start += PRODUCTS * depth * rows;
        }
        let mut places = Vec::with_capacity(panels.len());
        let mut rest = at_least(&mut self.values, start);
        for &(channel, rows) in panels {
            let (place, others) = rest.split_at_mut(PRODUCTS * depth * rows);
            places.push((channel, rows, place));
            rest = others;
        }
        let taps = depth * TAPS;
        places.into_par_iter().for_each(|(channel, rows, to)| {
            let from = &kernel.phases[0].weights[channel * taps..][..taps * rows];
            vectorised(|| match rows {
                8 => transform_panel::<8>(from, depth, to),
                6 => transform_panel::<6>(from, depth, to),
                4 => transform_panel::<4>(from, depth, to),
                rows => unreachable!("invariant: no panel has {rows} rows"),
            });
        });
    }
}

/// Taps of a kernel within a frame.
const TAPS: usize = 9;

/// Transforms the weights `[depth, 9, rows]` of a panel into `[36, depth, rows]`.
#[inline(always)]
fn transform_panel<const ROWS: usize>(from: &[f32], depth: usize, to: &mut [f32]) {
    let (from, _) = from.as_chunks::<ROWS>();
    let (to, _) = to.as_chunks_mut::<ROWS>();
    for (index, taps) in from.chunks_exact(TAPS).enumerate() {
        let lines: [_; 3] = std::array::from_fn(|line| {
            transforms::weights([taps[line * 3], taps[line * 3 + 1], taps[line * 3 + 2]])
        });
        for column in 0..SIDE {
            let six = transforms::weights([lines[0][column], lines[1][column], lines[2][column]]);
            for (line, weights) in six.into_iter().enumerate() {
                to[(line * SIDE + column) * depth + index] = weights;
            }
        }
    }
}
