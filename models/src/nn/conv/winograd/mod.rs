//! Convolutions of 3x3 taps with a quarter of the multiplications.
//!
//! Tiles of 4x4 outputs are transformed, multiplied with transformed weights position by position, and transformed back.
//! Taps in time are further channels. Weights are transformed for each call, some output channels at a time: that takes a
//! few hundredths of the call's time, and transformed weights would take four times the memory for as long as the network
//! is loaded.
//!
//! The tiles of a frame start at its first row and column, whatever they are computed together with, so a value's bits
//! depend on neither slabs nor threads.

mod inputs;
mod transforms;
mod weights;
mod workspace;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use rayon::prelude::*;

use self::inputs::TransformedInputs;
use self::transforms::{OUTPUTS, PRODUCTS, SIDE};
use self::weights::TransformedWeights;
use self::workspace::Workspace;
use super::packed::PackedKernel;
use super::patch::spread;
use super::window::Window;
use crate::nn::microkernel::{Tile, lanes, largest_tile};
use crate::nn::rows::values_in_order;
use crate::nn::simd::vectorised;

pub use self::workspace::release_workspaces;
pub(crate) use self::workspace::workspace_bytes;

/// What is in memory at a time, in values. Our choices, measured with the networks of full size: the transformed inputs of one
/// position stay in a core's cache while all weights pass them, weights are not transformed too often, and all together is
/// small beside a network's weights.
const POSITION_VALUES: usize = 1 << 17;
const WEIGHT_VALUES: usize = 4 << 20;
const PRODUCT_VALUES: usize = 4 << 20;

/// With fewer channels on either side, convolutions are direct. Our choice: by their operations, the transforms would take a
/// tenth of what they save with so many, and they vectorise less well than products.
const FEWEST_CHANNELS: usize = 32;

/// Whether a kernel is one for [`WinogradConvolution`].
pub(super) fn suits(kernel: &PackedKernel) -> bool {
    let [time, height, width] = kernel.windows;
    let is_square = |window: Window| window.kernel == 3 && window.stride == 1;
    let enough = kernel.in_channels.min(kernel.out_channels) >= FEWEST_CHANNELS;
    let is_causal = time.stride == 1 && time.after == 0;
    kernel.scale == 1 && is_causal && is_square(height) && is_square(width) && enough
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

/// Some rows of tiles of all frames of one sample.
struct Slab {
    /// Frames, rows and columns of the input.
    input: [usize; 3],
    /// Zeros in front of the input along each axis.
    zero_frames: usize,
    zero_rows: usize,
    zero_columns: usize,
    first_tile_row: usize,
    tile_rows: usize,
    tile_columns: usize,
}

impl Slab {
    /// Tiles of a frame.
    fn tiles(&self) -> usize {
        self.tile_rows * self.tile_columns
    }
}

impl WinogradConvolution<'_> {
    /// Channels and taps in time: what a value of the output is a sum over, besides a tile's taps.
    fn depth(&self) -> usize {
        self.kernel.in_channels * self.kernel.windows[0].kernel
    }

    /// The slabs of one sample.
    fn slabs(&self) -> impl Iterator<Item = Slab> {
        let [time, height, width] = self.kernel.windows;
        let [frames, rows, columns] = [self.input[0], self.output[1], self.output[2]];
        let (all_rows, tile_columns) = (rows.div_ceil(OUTPUTS), columns.div_ceil(OUTPUTS));
        let row_values = self.kernel.in_channels * (frames + time.before) * tile_columns;
        let most = (POSITION_VALUES / row_values.max(1)).clamp(1, all_rows);
        // As many rows in each, or nearly.
        let most = all_rows.div_ceil(all_rows.div_ceil(most));
        let input = self.input;
        (0..all_rows).step_by(most).map(move |first_tile_row| Slab {
            input,
            zero_frames: time.before,
            zero_rows: height.before,
            zero_columns: width.before,
            first_tile_row,
            tile_rows: most.min(all_rows - first_tile_row),
            tile_columns,
        })
    }

    /// Panels whose transformed weights and products are in memory together, with so many tiles.
    fn groups(&self, tiles: usize) -> Vec<Vec<(usize, usize)>> {
        let by_weights = WEIGHT_VALUES / (PRODUCTS * self.depth());
        let by_products = PRODUCT_VALUES / (PRODUCTS * tiles);
        let mut groups: Vec<Vec<(usize, usize)>> = Vec::new();
        for panel in self.kernel.panels() {
            match groups.last_mut() {
                Some(group) if panel.0 + panel.1 <= group[0].0 + by_weights.min(by_products) => {
                    group.push(panel);
                }
                _ => groups.push(vec![panel]),
            }
        }
        groups
    }

    /// Convolves one sample, `[in_channels, frames, rows, columns]`.
    fn convolve(&self, x: &[f32], result: &mut [f32], workspace: &mut Workspace) {
        let [frames, rows, columns] = self.output;
        let lanes = lanes(self.kernel.level);
        let Workspace { inputs, weights, products } = workspace;
        for slab in self.slabs() {
            inputs.transform(x, self.kernel.in_channels, &slab, lanes);
            let tiles = frames * slab.tiles();
            let mut channels: Vec<_> =
                result.chunks_exact_mut(frames * rows * columns).enumerate().collect();
            for group in self.groups(tiles) {
                weights.transform(self.kernel, self.depth(), &group);
                self.multiply(&slab, inputs, weights, products);
                let count = products.channels.min(channels.len());
                let rest = channels.split_off(count);
                channels.into_par_iter().for_each_init(Vec::new, |halves, (channel, to)| {
                    let bias = self.kernel.bias.as_ref().map_or(0.0, |bias| bias[channel]);
                    let index = channel - group[0].0;
                    vectorised(|| self.transform_back(&slab, products, index, bias, to, halves));
                });
                channels = rest;
            }
        }
    }

    /// Products of all tiles of a slab with a group of output channels; each thread takes one position at a time.
    fn multiply(
        &self,
        slab: &Slab,
        inputs: &TransformedInputs,
        weights: &TransformedWeights,
        products: &mut Products,
    ) {
        let (level, in_channels, depth) =
            (self.kernel.level, self.kernel.in_channels, self.depth());
        let lanes = lanes(level);
        let vectors = (self.output[0] * slab.tiles()).div_ceil(lanes);
        let pitch = spread(vectors * lanes);
        let channels: usize = weights.panels.iter().map(|panel| panel.rows).sum();
        (products.channels, products.pitch) = (channels, pitch);
        let values = at_least(&mut products.values, PRODUCTS * channels * pitch);
        let taps: Vec<_> =
            (0..self.kernel.windows[0].kernel).map(|tap| tap * slab.tiles()).collect();
        // Tiles as wide as one another: a narrow one at the end would be slow.
        let width = vectors.div_ceil(vectors.div_ceil(largest_tile(level).1));
        let positions = values.par_chunks_exact_mut(channels * pitch).enumerate();
        positions.with_max_len(1).for_each(|(position, mut to)| {
            let vectors_of_all = &inputs.values[position * in_channels * inputs.pitch..];
            for panel in &weights.panels {
                let scalars = &weights.values[panel.start + position * depth * panel.rows..];
                let (sums, rest) = to.split_at_mut(panel.rows * pitch);
                to = rest;
                for vector in (0..vectors).step_by(width) {
                    Tile {
                        scalars: &scalars[..depth * panel.rows],
                        rows: panel.rows,
                        vectors: &vectors_of_all[vector * lanes..],
                        channels: in_channels,
                        channel_pitch: inputs.pitch,
                        taps: &taps,
                        sums: &mut sums[vector * lanes..],
                        sums_pitch: pitch,
                        width: width.min(vectors - vector),
                        add: false,
                        next: &[],
                    }
                    .compute(level);
                }
            }
        });
    }

    /// Writes a slab's rows of one output channel, `[frames, rows, columns]`, from its products.
    #[inline(always)]
    fn transform_back(
        &self,
        slab: &Slab,
        products: &Products,
        index: usize,
        bias: f32,
        to: &mut [f32],
        halves: &mut Vec<f32>,
    ) {
        let [_, rows, columns] = self.output;
        let tile_columns = slab.tile_columns;
        halves.resize(OUTPUTS * SIDE * tile_columns, 0.0);
        for (frame, to) in to.chunks_exact_mut(rows * columns).enumerate() {
            let tile_rows = to.chunks_mut(OUTPUTS * columns).skip(slab.first_tile_row);
            for (tile_row, to) in tile_rows.take(slab.tile_rows).enumerate() {
                let at = (frame * slab.tile_rows + tile_row) * tile_columns;
                // Along the height: each of the six columns of a tile becomes four values.
                for column in 0..SIDE {
                    let six: [_; SIDE] = std::array::from_fn(|line| {
                        products.tiles(line * SIDE + column, index, at, tile_columns)
                    });
                    let place = |row: usize| (row * SIDE + column) * tile_columns;
                    transforms::sums_of_lines(six, halves, place);
                }
                for (row, to) in to.chunks_mut(columns).enumerate() {
                    let six: [_; SIDE] = std::array::from_fn(|column| {
                        &halves[(row * SIDE + column) * tile_columns..][..tile_columns]
                    });
                    write_row(six, bias, to);
                }
            }
        }
    }
}

/// Products of a group of output channels, for each position `[channels, tiles]`.
#[derive(Default)]
struct Products {
    values: Vec<f32>,
    channels: usize,
    /// Distance between two channels.
    pitch: usize,
}

impl Products {
    fn tiles(&self, position: usize, channel: usize, first: usize, count: usize) -> &[f32] {
        &self.values[(position * self.channels + channel) * self.pitch + first..][..count]
    }
}

/// Transforms six columns of some tiles into one row of the output.
#[inline(always)]
fn write_row(six: [&[f32]; SIDE], bias: f32, to: &mut [f32]) {
    let four = |tile: usize| transforms::sums(six.map(|line| line[tile])).map(|sum| sum + bias);
    let (groups, last) = to.as_chunks_mut::<OUTPUTS>();
    let whole = groups.len();
    let six = six.map(|line| &line[..whole]);
    for (tile, group) in groups.iter_mut().enumerate() {
        *group = transforms::sums(six.map(|line| line[tile])).map(|sum| sum + bias);
    }
    if !last.is_empty() {
        last.copy_from_slice(&four(whole)[..last.len()]);
    }
}

/// The first `length` values of a buffer that is reused, whatever is in them; it grows where it is shorter.
fn at_least(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
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
        let x = values_in_order(storage, layout, self.name())?;
        let [frames, rows, columns] = self.output;
        let out_channels = self.kernel.out_channels;
        let shape = Shape::from((self.batch, out_channels, frames, rows, columns));
        let mut result = vec![0f32; shape.elem_count()];
        let sample = self.kernel.in_channels * self.input.iter().product::<usize>();
        let results = result.chunks_exact_mut(out_channels * frames * rows * columns);
        Workspace::with(|workspace| {
            let samples = x.chunks_exact(sample).zip(results);
            samples.for_each(|(x, result)| self.convolve(x, result, workspace));
        });
        Ok((CpuStorage::F32(result), shape))
    }
}
