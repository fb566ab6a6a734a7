//! Convolutions of 3x3 taps with four ninths of the multiplications.
//!
//! Tiles of 2x2 outputs are transformed, multiplied with transformed weights position by position, and transformed back.
//! Taps in time are further channels. Weights are transformed for each call: that takes a few hundredths of the call's
//! time, and transformed weights would take 16/9 of the memory for as long as the network is loaded.
//!
//! The tiles of a frame start at its first row and column, whatever band they are computed in, so a value's bits depend on
//! neither bands nor threads.

mod transforms;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use rayon::prelude::*;

use self::transforms::{PRODUCTS, SIDE};
use super::band::{Band, split_into_bands};
use super::packed::PackedKernel;
use super::window::Window;
use crate::nn::microkernel::{ONE_TAP, Tile, lanes, largest_tile};
use crate::nn::simd::vectorised;

/// Tiles of a band, about. Our choice: their transformed inputs are used with all weights while an outer cache holds them.
const BAND_TILES: usize = 96;

/// Output channels whose products are made before they are transformed back. Our choice: their sums stay in an inner cache
/// beside one position's inputs.
const GROUP_CHANNELS: usize = 64;

/// With fewer channels on either side, the transforms take longer than what they save. Our choice, measured.
const FEWEST_CHANNELS: usize = 32;

/// Whether a kernel is one for [`WinogradConvolution`].
pub(super) fn suits(kernel: &PackedKernel) -> bool {
    let [time, height, width] = kernel.windows;
    let is_square = |window: Window| window.kernel == 3 && window.stride == 1;
    let enough = kernel.in_channels.min(kernel.out_channels) >= FEWEST_CHANNELS;
    kernel.scale == 1 && time.stride == 1 && is_square(height) && is_square(width) && enough
}

/// A kernel on an input of a known size.
pub(super) struct WinogradConvolution<'a> {
    pub(super) kernel: &'a PackedKernel,
    pub(super) batch: usize,
    /// Frames, rows and columns of the input.
    pub(super) input: [usize; 3],
    /// Frames, rows and columns of the output.
    pub(super) output: [usize; 3],
}

/// Transformed weights: for each panel of output channels, and each position of a tile, `[channels and taps in time, rows]`.
struct Weights {
    values: Vec<f32>,
    /// First output channel, rows and start of each panel.
    panels: Vec<(usize, usize, usize)>,
}

/// What a thread computes in.
#[derive(Default)]
struct Scratch {
    /// One channel's rows of tiles, padded: `[2 * rows of tiles + 2, columns]`.
    padded: Vec<f32>,
    /// The same after the transform along the height, `[4, columns]`, and its even and odd columns.
    turned: Vec<f32>,
    columns: Vec<f32>,
    /// Transformed inputs, `[16, channels and taps in time, tiles]`.
    inputs: Vec<f32>,
    /// Products of a group of output channels, `[16, channels, tiles]`.
    products: Vec<f32>,
    /// One channel's products after the transform along the height.
    halves: Vec<f32>,
}

impl WinogradConvolution<'_> {
    /// Channels and taps in time: what a value of the output is a sum over, besides a tile's taps.
    fn depth(&self) -> usize {
        self.kernel.in_channels * self.kernel.windows[0].kernel
    }

    fn transform_weights(&self) -> Weights {
        let PackedKernel { in_channels, windows, .. } = self.kernel;
        let (taps, depth) = (windows[0].kernel, self.depth());
        let mut panels = Vec::new();
        let mut start = 0;
        for (channel, rows) in self.kernel.panels() {
            panels.push((channel, rows, start));
            start += PRODUCTS * depth * rows;
        }
        let mut values = vec![0f32; start];
        let mut places = Vec::with_capacity(panels.len());
        let mut rest = values.as_mut_slice();
        for &(channel, rows, _) in &panels {
            let (place, others) = rest.split_at_mut(PRODUCTS * depth * rows);
            places.push((channel, rows, place));
            rest = others;
        }
        places.into_par_iter().for_each(|(channel, rows, to)| {
            let from = &self.kernel.phases[0].weights[channel * in_channels * taps * 9..];
            let from = &from[..in_channels * taps * 9 * rows];
            vectorised(|| match rows {
                8 => transform_panel::<8>(from, depth, to),
                6 => transform_panel::<6>(from, depth, to),
                _ => transform_panel::<4>(from, depth, to),
            });
        });
        Weights { values, panels }
    }

    fn compute(&self, x: &[f32], weights: &Weights, band: Band, scratch: &mut Scratch) {
        let tile_columns = self.output[2].div_ceil(2);
        let band_rows = band.rows(self.output[2]);
        let tiles = band_rows.div_ceil(2) * tile_columns;
        let level = self.kernel.level;
        let pitch = tiles.next_multiple_of(lanes(level));
        self.transform_inputs(x, &band, tiles, pitch, scratch);
        let mut channels = band.channels;
        let mut panels = weights.panels.as_slice();
        while !panels.is_empty() {
            let first = panels[0].0;
            let count = panels.partition_point(|panel| panel.0 < first + GROUP_CHANNELS);
            let (group, others) = panels.split_at(count);
            let padded: usize = group.iter().map(|panel| panel.1).sum();
            scratch.products.resize(PRODUCTS * padded * pitch, 0.0);
            self.multiply(weights, group, padded, pitch, scratch);
            let rest = channels.split_off(padded.min(channels.len()));
            for (index, to) in channels.into_iter().enumerate() {
                let bias = self.kernel.bias.as_ref().map_or(0.0, |bias| bias[first + index]);
                let from = [index, padded, pitch];
                vectorised(|| self.transform_back(from, bias, to, tile_columns, scratch));
            }
            (channels, panels) = (rest, others);
        }
    }

    fn transform_inputs(
        &self,
        x: &[f32],
        band: &Band,
        tiles: usize,
        pitch: usize,
        scratch: &mut Scratch,
    ) {
        let [time, height, width] = self.kernel.windows;
        let [frames, rows, columns] = self.input;
        let tile_columns = self.output[2].div_ceil(2);
        let padded_columns = 2 * tile_columns + 2;
        let tile_rows = tiles / tile_columns;
        let depth = self.depth();
        scratch.padded.resize((2 * tile_rows + 2) * padded_columns, 0.0);
        scratch.turned.resize(SIDE * padded_columns, 0.0);
        scratch.columns.resize(padded_columns, 0.0);
        scratch.inputs.resize(PRODUCTS * depth * pitch, 0.0);
        let Scratch { padded, turned, columns: halves, inputs, .. } = scratch;
        for channel in 0..self.kernel.in_channels {
            for tap in 0..time.kernel {
                let index = channel * time.kernel + tap;
                let frame = (band.frame + tap).checked_sub(time.before).filter(|&f| f < frames);
                let Some(frame) = frame else {
                    for position in 0..PRODUCTS {
                        inputs[(position * depth + index) * pitch..][..pitch].fill(0.0);
                    }
                    continue;
                };
                let first = (band.sample * self.kernel.in_channels + channel) * frames + frame;
                let values = &x[first * rows * columns..][..rows * columns];
                for (row, to) in padded.chunks_exact_mut(padded_columns).enumerate() {
                    to.fill(0.0);
                    let row = (band.first_row + row).checked_sub(height.before);
                    if let Some(row) = row.filter(|&row| row < rows) {
                        let length = columns.min(padded_columns - width.before);
                        to[width.before..][..length]
                            .copy_from_slice(&values[row * columns..][..length]);
                    }
                }
                vectorised(|| {
                    for tile_row in 0..tile_rows {
                        let four = |row: usize| {
                            &padded[(2 * tile_row + row) * padded_columns..][..padded_columns]
                        };
                        let [a, b, c, d] = four_parts(turned, padded_columns);
                        transforms::inputs([four(0), four(1), four(2), four(3)], [a, b, c, d]);
                        for (line, turned) in turned.chunks_exact(padded_columns).enumerate() {
                            let at = index * pitch + tile_row * tile_columns;
                            transform_line(turned, halves, inputs, |column| {
                                (line * SIDE + column) * depth * pitch + at
                            });
                        }
                    }
                });
            }
        }
    }

    /// Products of all tiles with a group of output channels, position by position.
    fn multiply(
        &self,
        weights: &Weights,
        group: &[(usize, usize, usize)],
        padded: usize,
        pitch: usize,
        scratch: &mut Scratch,
    ) {
        let (level, depth) = (self.kernel.level, self.depth());
        let (lanes, most_vectors) = (lanes(level), largest_tile(level).1);
        for position in 0..PRODUCTS {
            let inputs = &scratch.inputs[position * depth * pitch..][..depth * pitch];
            let mut row = position * padded;
            for &(_, rows, start) in group {
                let weights = &weights.values[start + position * depth * rows..][..depth * rows];
                for vector in (0..pitch / lanes).step_by(most_vectors) {
                    Tile {
                        scalars: weights,
                        rows,
                        vectors: &inputs[vector * lanes..],
                        channels: depth,
                        channel_pitch: pitch,
                        taps: ONE_TAP,
                        sums: &mut scratch.products[row * pitch + vector * lanes..],
                        sums_pitch: pitch,
                        width: most_vectors.min(pitch / lanes - vector),
                        add: false,
                    }
                    .compute(level);
                }
                row += rows;
            }
        }
    }

    /// Writes one output channel's rows of a band from its products.
    #[inline(always)]
    fn transform_back(
        &self,
        [index, padded, pitch]: [usize; 3],
        bias: f32,
        to: &mut [f32],
        tile_columns: usize,
        scratch: &mut Scratch,
    ) {
        let columns = self.output[2];
        scratch.halves.resize(2 * SIDE * tile_columns, 0.0);
        let Scratch { products, halves, .. } = scratch;
        for (tile_row, to) in to.chunks_mut(2 * columns).enumerate() {
            let at = tile_row * tile_columns;
            let product = |line: usize, column: usize| {
                let position = line * SIDE + column;
                &products[(position * padded + index) * pitch + at..][..tile_columns]
            };
            // Along the height: each of the four columns of a tile becomes two values.
            let (upper, lower) = halves.split_at_mut(SIDE * tile_columns);
            for column in 0..SIDE {
                let place = column * tile_columns..(column + 1) * tile_columns;
                transforms::sums(
                    std::array::from_fn(|line| product(line, column)),
                    [&mut upper[place.clone()], &mut lower[place]],
                );
            }
            for (half, to) in [&*upper, &*lower].into_iter().zip(to.chunks_mut(columns)) {
                let part = |column: usize| &half[column * tile_columns..][..tile_columns];
                let values = part(0).iter().zip(part(1)).zip(part(2).iter().zip(part(3)));
                let (pairs, last) = to.as_chunks_mut::<2>();
                let mut values =
                    values.map(|((a, b), (c, d))| [a + b + c + bias, b - c - d + bias]);
                pairs.iter_mut().zip(&mut values).for_each(|(pair, value)| *pair = value);
                if let ([last], Some([value, _])) = (last, values.next()) {
                    *last = value;
                }
            }
        }
    }
}

/// Transforms the weights `[depth, 9, rows]` of a panel into `[16, depth, rows]`.
#[inline(always)]
fn transform_panel<const ROWS: usize>(from: &[f32], depth: usize, to: &mut [f32]) {
    let (from, _) = from.as_chunks::<ROWS>();
    let (to, _) = to.as_chunks_mut::<ROWS>();
    for (index, taps) in from.chunks_exact(9).enumerate() {
        let lines: [_; 3] = std::array::from_fn(|line| {
            transforms::weights([taps[line * 3], taps[line * 3 + 1], taps[line * 3 + 2]])
        });
        for column in 0..SIDE {
            let four = transforms::weights([lines[0][column], lines[1][column], lines[2][column]]);
            for (line, weights) in four.into_iter().enumerate() {
                to[(line * SIDE + column) * depth + index] = weights;
            }
        }
    }
}

/// Transforms a row of columns along the width, and writes it for each of the four columns of a tile where `place` says.
#[inline(always)]
fn transform_line(row: &[f32], halves: &mut [f32], to: &mut [f32], place: impl Fn(usize) -> usize) {
    let tiles = row.len() / 2 - 1;
    let (even, odd) = halves.split_at_mut(tiles + 1);
    let pairs = row.as_chunks::<2>().0.iter().zip(even.iter_mut().zip(odd.iter_mut()));
    pairs.for_each(|(&[a, b], (even, odd))| (*even, *odd) = (a, b));
    let difference = |to: &mut [f32], a: &[f32], b: &[f32]| {
        to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = a - b);
    };
    difference(&mut to[place(0)..][..tiles], even, &even[1..]);
    let sums = odd.iter().zip(&even[1..]);
    to[place(1)..][..tiles].iter_mut().zip(sums).for_each(|(to, (a, b))| *to = a + b);
    difference(&mut to[place(2)..][..tiles], &even[1..], odd);
    difference(&mut to[place(3)..][..tiles], odd, &odd[1..]);
}

fn four_parts(values: &mut [f32], length: usize) -> [&mut [f32]; SIDE] {
    let (a, rest) = values.split_at_mut(length);
    let (b, rest) = rest.split_at_mut(length);
    let (c, d) = rest.split_at_mut(length);
    [a, b, c, d]
}

impl CustomOp1 for WinogradConvolution<'_> {
    fn name(&self) -> &'static str {
        "winograd-convolution"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or(candle_core::Error::RequiresContiguous { op: self.name() })?;
        let x = &storage.as_slice::<f32>()?[start..end];
        let [frames, rows, columns] = self.output;
        let out_channels = self.kernel.out_channels;
        let shape = Shape::from((self.batch, out_channels, frames, rows, columns));
        let mut result = vec![0f32; shape.elem_count()];
        let weights = self.transform_weights();
        let band_rows = 2 * (BAND_TILES / columns.div_ceil(2)).max(1);
        let bands = split_into_bands(&mut result, out_channels, [frames, rows], columns, band_rows);
        bands.into_par_iter().with_max_len(1).for_each_init(Scratch::default, |scratch, band| {
            self.compute(x, &weights, band, scratch);
        });
        Ok((CpuStorage::F32(result), shape))
    }
}
