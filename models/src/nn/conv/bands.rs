//! Convolutions on a CPU in f32, without a gathered matrix: small packed pieces of the input, tiles in registers.
//!
//! The output is computed in bands of some rows of one frame, each on whatever thread is free. For each band, some
//! channels of the input at a time are packed, and tiles of the output add up their products with those channels'
//! weights. The order in which a value's products are added depends on the kernel's shape alone.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use rayon::prelude::*;

use super::band::{Band, split_into_bands};
use super::packed::PackedKernel;
use super::patch::{Channel, PatchLayout};
use crate::nn::microkernel::{PRODUCTS_ON_ONE_THREAD, Tile, lanes, largest_tile};
use crate::nn::rows::values_in_order;
use crate::nn::scratch::ScratchPool;

/// Positions of a band. Our choice: few enough to give every core bands of a small picture, many enough to use the
/// weights often while they are in a cache.
const BAND_POSITIONS: usize = 512;

/// Weights of an output channel that are used on a tile at a time. Our choice: what a tile reads of the input for so
/// many stays in the innermost cache.
const BLOCK_WEIGHTS: usize = 288;

/// A kernel on an input of a known size.
pub(super) struct Convolution<'a> {
    pub(super) kernel: &'a PackedKernel,
    pub(super) batch: usize,
    /// Frames, rows and columns of the input.
    pub(super) input: [usize; 3],
    /// Steps that the windows take along each axis.
    pub(super) steps: [usize; 3],
}

/// Where everything lies, for all bands.
struct Plan {
    layout: PatchLayout,
    /// The distances of each phase's taps.
    taps: Vec<Vec<usize>>,
    /// Steps along the height that a band has, unless it is the last.
    band_rows: usize,
    /// Channels that are packed at a time.
    block: usize,
    /// Output channels in whole panels.
    padded_channels: usize,
}

/// What a thread computes in.
#[derive(Default)]
struct Scratch {
    patch: Vec<f32>,
    /// `[phases, output channels in whole panels, positions in whole vectors]`.
    sums: Vec<f32>,
}

impl CustomOp1 for Convolution<'_> {
    fn name(&self) -> &'static str {
        "packed-convolution"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = values_in_order(storage, layout, self.name())?;
        let [frames, rows, columns] = self.steps;
        let (scale, out_channels) = (self.kernel.scale, self.kernel.out_channels);
        let shape = Shape::from((self.batch, out_channels, frames, scale * rows, scale * columns));
        let mut result = vec![0f32; shape.elem_count()];
        let plan = self.plan();
        let row = scale * scale * columns;
        let bands =
            split_into_bands(&mut result, out_channels, [frames, rows], row, plan.band_rows);
        let work = shape.elem_count() * plan.taps[0].len() * self.kernel.in_channels;
        let compute = |scratch: &mut Scratch, band| self.compute(values, &plan, band, scratch);
        if work <= PRODUCTS_ON_ONE_THREAD || bands.len() == 1 || rayon::current_num_threads() == 1 {
            let mut scratch = Scratch::default();
            bands.into_iter().for_each(|band| compute(&mut scratch, band));
        } else {
            let pool = ScratchPool::<Scratch>::new();
            let bands = bands.into_par_iter().with_max_len(1);
            bands.for_each(|band| pool.with(|scratch| compute(scratch, band)));
        }
        Ok((CpuStorage::F32(result), shape))
    }
}

impl Convolution<'_> {
    fn plan(&self) -> Plan {
        let [_, rows, columns] = self.steps;
        let band_rows = (BAND_POSITIONS / columns).clamp(1, rows);
        let layout = PatchLayout::new(self.kernel.windows, band_rows, columns);
        let distances = |taps: &Vec<usize>| taps.iter().map(|&tap| layout.taps[tap]).collect();
        let taps: Vec<Vec<_>> =
            self.kernel.phases.iter().map(|phase| distances(&phase.taps)).collect();
        let block = (BLOCK_WEIGHTS / taps[0].len()).clamp(1, self.kernel.in_channels);
        let padded_channels = self.kernel.panels().map(|(_, rows)| rows).sum();
        Plan { layout, taps, band_rows, block, padded_channels }
    }

    fn compute(&self, x: &[f32], plan: &Plan, band: Band, scratch: &mut Scratch) {
        let PackedKernel { level, in_channels, scale, .. } = *self.kernel;
        let (layout, columns) = (&plan.layout, self.steps[2]);
        let rows = plan.band_rows.min(self.steps[1] - band.first_row);
        let positions = layout.positions(rows, columns).next_multiple_of(lanes(level));
        let read = (plan.block - 1) * layout.channel_pitch + layout.farthest_tap + positions;
        scratch.patch.resize(read.max(plan.block * layout.channel_pitch), 0.0);
        scratch.sums.resize(scale * scale * plan.padded_channels * positions, 0.0);
        let channel_size = self.input.iter().product::<usize>();
        for first in (0..in_channels).step_by(plan.block) {
            let channels = plan.block.min(in_channels - first);
            let patches = scratch.patch.chunks_exact_mut(layout.channel_pitch);
            for (channel, patch) in (first..first + channels).zip(patches) {
                let channel = (band.sample * in_channels + channel) * channel_size;
                let values = &x[channel..][..channel_size];
                let channel = Channel { values, size: self.input };
                layout.pack(channel, band.frame, band.first_row, patch);
            }
            self.multiply(plan, first, channels, positions, scratch);
        }
        let sums = Sums { values: &scratch.sums, phase: plan.padded_channels * positions };
        for (channel, rows) in band.channels.into_iter().enumerate() {
            let bias = self.kernel.bias.as_ref().map_or(0.0, |bias| bias[channel]);
            for (row, to) in rows.chunks_exact_mut(scale * columns).enumerate() {
                let at = channel * positions + row / scale * layout.row_pitch;
                sums.write_row(at, row % scale, bias, to, scale);
            }
        }
    }

    /// Adds what the packed `channels` from `first` on contribute to every sum.
    fn multiply(
        &self,
        plan: &Plan,
        first: usize,
        channels: usize,
        positions: usize,
        scratch: &mut Scratch,
    ) {
        let PackedKernel { level, in_channels, .. } = *self.kernel;
        let (lanes, most_vectors) = (lanes(level), largest_tile(level).1);
        let phases = self.kernel.phases.iter().zip(&plan.taps);
        let sums = scratch.sums.chunks_exact_mut(plan.padded_channels * positions);
        for ((phase, taps), sums) in phases.zip(sums) {
            for position in (0..positions).step_by(most_vectors * lanes) {
                let vectors = most_vectors.min((positions - position) / lanes);
                for (channel, rows) in self.kernel.panels() {
                    let from = (channel * in_channels + first * rows) * taps.len();
                    let tile = Tile {
                        scalars: &phase.weights[from..][..channels * taps.len() * rows],
                        rows,
                        vectors: &scratch.patch[position..],
                        channels,
                        channel_pitch: plan.layout.channel_pitch,
                        taps,
                        sums: &mut sums[channel * positions + position..],
                        sums_pitch: positions,
                        width: vectors,
                        add: first > 0,
                        next: &[],
                    };
                    tile.compute(level);
                }
            }
        }
    }
}

/// The finished sums of a band.
struct Sums<'a> {
    values: &'a [f32],
    /// Distance between two phases.
    phase: usize,
}

impl Sums<'_> {
    /// Writes one row of the output: what starts at `at` in each phase of the row.
    fn write_row(&self, at: usize, phase_row: usize, bias: f32, to: &mut [f32], scale: usize) {
        let phase = |column| &self.values[(phase_row * scale + column) * self.phase + at..];
        if scale == 1 {
            to.iter_mut().zip(phase(0)).for_each(|(value, sum)| *value = sum + bias);
            return;
        }
        for (pair, (even, odd)) in
            to.as_chunks_mut::<2>().0.iter_mut().zip(phase(0).iter().zip(phase(1)))
        {
            *pair = [even + bias, odd + bias];
        }
    }
}
