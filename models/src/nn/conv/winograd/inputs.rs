//! Transformed inputs of all tiles of a slab.

use rayon::prelude::*;

use super::transforms::{self, OUTPUTS, PRODUCTS, SIDE};
use super::{Slab, at_least};
use crate::nn::conv::patch::spread;
use crate::nn::simd::vectorised;

/// Channels that a thread transforms at a time. Our choice: few enough to share out among threads.
const SHARE_CHANNELS: usize = 8;

/// For each position of a tile and each channel, all tiles of the slab, frame after frame: first those of the frames of zeros
/// before the input, so that a tap in time reads at a fixed distance.
#[derive(Default)]
pub(super) struct TransformedInputs {
    pub(super) values: Vec<f32>,
    /// Distance between two channels.
    pub(super) pitch: usize,
}

/// What a thread transforms in.
#[derive(Default)]
struct Scratch {
    /// Six rows of the input with the zeros around them.
    rows: Vec<f32>,
    /// The same after the transform along the height.
    turned: Vec<f32>,
    /// One of those, split by the place of its columns within tiles.
    columns: Vec<f32>,
}

impl TransformedInputs {
    /// Takes in a slab of `x`, one sample, `[channels, frames, rows, columns]`.
    pub(super) fn transform(&mut self, x: &[f32], channels: usize, slab: &Slab, lanes: usize) {
        let tiles = (slab.zero_frames + slab.input[0]) * slab.tiles();
        // The last tiles are read in whole vectors.
        let pitch = spread(tiles + lanes);
        self.pitch = pitch;
        let values = at_least(&mut self.values, PRODUCTS * channels * pitch);
        let mut shares: Vec<Vec<&mut [f32]>> = Vec::new();
        shares.resize_with(channels.div_ceil(SHARE_CHANNELS), Vec::new);
        for position in values.chunks_exact_mut(channels * pitch) {
            let parts = position.chunks_mut(SHARE_CHANNELS * pitch);
            shares.iter_mut().zip(parts).for_each(|(share, part)| share.push(part));
        }
        let sample_channel = slab.input.iter().product::<usize>();
        let from = x.par_chunks(SHARE_CHANNELS * sample_channel);
        shares.into_par_iter().zip(from).with_max_len(1).for_each_init(
            Scratch::default,
            |scratch, (mut share, x)| {
                for (channel, x) in x.chunks_exact(sample_channel).enumerate() {
                    let to: Vec<_> = share
                        .iter_mut()
                        .map(|part| &mut part[channel * pitch..][..tiles])
                        .collect();
                    vectorised(|| transform_channel(x, slab, to, scratch));
                }
            },
        );
    }
}

/// Transforms one channel; `to` is where its tiles go for each position.
#[inline(always)]
fn transform_channel(x: &[f32], slab: &Slab, mut to: Vec<&mut [f32]>, scratch: &mut Scratch) {
    let [_, rows, columns] = slab.input;
    let tile_columns = slab.tile_columns;
    let padded = OUTPUTS * (tile_columns + 1);
    let Scratch { rows: six, turned, columns: split, .. } = scratch;
    six.resize(SIDE * padded, 0.0);
    turned.resize(SIDE * padded, 0.0);
    split.resize(OUTPUTS * (tile_columns + 1), 0.0);
    for line in &mut to {
        line[..slab.zero_frames * slab.tiles()].fill(0.0);
    }
    for (frame, x) in x.chunks_exact(rows * columns).enumerate() {
        for tile_row in 0..slab.tile_rows {
            for (line, to) in six.chunks_exact_mut(padded).enumerate() {
                let row = (OUTPUTS * (slab.first_tile_row + tile_row) + line)
                    .checked_sub(slab.zero_rows)
                    .filter(|&row| row < rows);
                to.fill(0.0);
                if let Some(row) = row {
                    let length = columns.min(padded - slab.zero_columns);
                    let row = &x[row * columns..][..length];
                    to[slab.zero_columns..][..length].copy_from_slice(row);
                }
            }
            transforms::inputs(parts(six, padded), parts_mut(turned, padded));
            let at = ((slab.zero_frames + frame) * slab.tile_rows + tile_row) * tile_columns;
            for (line, turned) in turned.chunks_exact(padded).enumerate() {
                // Column `j` of tile `t` is value `4 t + j`, so the last two of a tile are the first two of the next.
                let [a, b, c, d] = parts_mut::<OUTPUTS>(split, tile_columns + 1);
                let groups = turned.as_chunks::<OUTPUTS>().0.iter();
                let places = a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut().zip(d.iter_mut()));
                for (&group, ((a, b), (c, d))) in groups.zip(places) {
                    [*a, *b, *c, *d] = group;
                }
                let from = [&*a, &*b, &*c, &*d, &a[1..], &b[1..]];
                let mut lines = to[line * SIDE..][..SIDE].iter_mut();
                let to = std::array::from_fn(|_| {
                    let line = lines.next().expect("invariant: six columns of a tile");
                    &mut line[at..][..tile_columns]
                });
                transforms::inputs(from, to);
            }
        }
    }
}

/// The first `N` stretches of `length` values.
fn parts<const N: usize>(values: &[f32], length: usize) -> [&[f32]; N] {
    std::array::from_fn(|part| &values[part * length..][..length])
}

fn parts_mut<const N: usize>(values: &mut [f32], length: usize) -> [&mut [f32]; N] {
    let mut chunks = values.chunks_exact_mut(length);
    std::array::from_fn(|_| chunks.next().expect("invariant: as many stretches as asked for"))
}
