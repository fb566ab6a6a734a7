//! Products of whole tensors, shared out among threads.

use candle_core::Tensor;
use rayon::prelude::*;

use super::packed::{Activation, PackedLinear, ProductScratch};
use crate::error::Result;
use crate::nn::aligned::AlignedValues;
use crate::nn::microkernel::{PRODUCTS_ON_ONE_THREAD, largest_tile};
use crate::nn::rows::{ON_ONE_THREAD, with_values};
use crate::nn::scratch::ScratchPool;
use crate::nn::simd::SimdLevel;

/// Rows that a thread multiplies at a time. Our choice: as many as an inner cache holds beside a panel of weights, so that
/// weights are fetched as rarely as possible.
const BLOCK_ROWS: usize = 192;

/// With fewer rows for each thread, they share the columns instead, so that weights are fetched once in all. Our choice:
/// about as many as a thread takes at a time in any case, so that with more there is no weight less to fetch.
const FEW_ROWS: usize = 192;

/// What makes one tensor: a layer, and what its result is combined with.
#[derive(Clone, Copy)]
pub(super) struct CombinedLayer<'a> {
    pub(super) layer: &'a PackedLinear,
    pub(super) with: Combination<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Combination<'a> {
    Nothing,
    /// A layer with as many features whose [`crate::nn::gelu`] the result is multiplied with.
    Gate(&'a PackedLinear),
    /// A tensor in f32 on a CPU, of the result's shape, that the result is added to.
    Onto(&'a Tensor),
}

impl<'a> CombinedLayer<'a> {
    pub(super) fn alone(layer: &'a PackedLinear) -> Self {
        Self { layer, with: Combination::Nothing }
    }

    /// One after the other: each finds what the one before has made, and the first what [`CombinedLayer::start`] has.
    fn layers(self) -> impl Iterator<Item = (&'a PackedLinear, Activation)> {
        let (first, gate) = match self.with {
            Combination::Nothing => (Activation::None, None),
            Combination::Gate(gate) => (Activation::None, Some((gate, Activation::GeluGate))),
            Combination::Onto(_) => (Activation::Add, None),
        };
        [(self.layer, first)].into_iter().chain(gate)
    }

    /// Where the result of some rows goes, with what it is added to.
    ///
    /// # Errors
    /// That tensor is not in f32 on a CPU.
    fn start(self, rows: usize) -> Result<Vec<f32>> {
        let mut result = vec![0f32; rows * self.layer.out_features()];
        if let Combination::Onto(onto) = self.with {
            with_values(onto, |onto| {
                let shares =
                    result.par_chunks_mut(ON_ONE_THREAD).zip(onto.par_chunks(ON_ONE_THREAD));
                shares.for_each(|(to, from)| to.copy_from_slice(from));
            })?;
        }
        Ok(result)
    }

    /// The products of some rows.
    fn multiply(self, x: &[f32], to: &mut [f32], scratch: &mut ProductScratch) {
        for (layer, activation) in self.layers() {
            layer.multiply(x, activation, to, scratch);
        }
    }
}

/// The products of one tensor in f32 on a CPU, along its last axis, with several layers, each combined as it says.
///
/// # Errors
/// The last axis is not as long as the input of each.
pub(super) fn products<const LAYERS: usize>(
    combined: [CombinedLayer; LAYERS],
    x: &Tensor,
) -> Result<[Tensor; LAYERS]> {
    let found = x.dims().last().copied();
    let mut layers = combined.iter().flat_map(|combined| combined.layers());
    if let Some((layer, _)) = layers.find(|(layer, _)| found != Some(layer.in_features())) {
        let msg = "a linear layer maps rows of another length".into();
        let (expected, got) = (layer.in_features().into(), x.shape().clone());
        return Err(candle_core::Error::UnexpectedShape { msg, expected, got }.into());
    }
    let inputs = found.unwrap_or_default();
    let rows = x.dims().iter().rev().skip(1).product();
    let mut results = Vec::with_capacity(LAYERS);
    for combined in &combined {
        results.push(combined.start(rows)?);
    }
    let work = combined.iter().zip(&mut results);
    with_values(x, |values| compute(work.collect(), values, [rows, inputs]))?;
    let mut shaped = Vec::with_capacity(LAYERS);
    for (combined, values) in combined.iter().zip(results) {
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(combined.layer.out_features());
        shaped.push(Tensor::from_vec(values, dims, x.device())?);
    }
    Ok(shaped.try_into().expect("invariant: each layer has made one product"))
}

/// Each layer, and where its result goes.
type Work<'a> = Vec<(&'a CombinedLayer<'a>, &'a mut Vec<f32>)>;

/// `x` is `[rows, inputs]`.
fn compute(work: Work, x: &[f32], [rows, inputs]: [usize; 2]) {
    let threads = rayon::current_num_threads();
    let layers = work.iter().flat_map(|(combined, _)| combined.layers());
    let outputs: usize = layers.map(|(layer, _)| layer.out_features()).sum();
    if threads == 1 || rows * inputs * outputs <= PRODUCTS_ON_ONE_THREAD {
        let mut scratch = ProductScratch::default();
        for (combined, to) in work {
            let blocks = x.chunks(BLOCK_ROWS * inputs);
            for (x, to) in blocks.zip(to.chunks_mut(BLOCK_ROWS * combined.layer.out_features())) {
                combined.multiply(x, to, &mut scratch);
            }
        }
    } else if rows >= threads * FEW_ROWS {
        let block = rows_of_a_share(rows, threads);
        let pool = ScratchPool::<ProductScratch>::new();
        for (combined, to) in work {
            let to = to.par_chunks_mut(block * combined.layer.out_features());
            x.par_chunks(block * inputs).zip(to).with_max_len(1).for_each(|(x, to)| {
                pool.with(|scratch| combined.multiply(x, to, scratch));
            });
        }
    } else {
        by_columns(work, x);
    }
}

/// All rows with one panel at a time, whichever thread is free: cores are seldom equally fast all the time. (Taking two or
/// four panels at a time, each block of features with all of them, was as fast as one.)
fn by_columns(work: Work, x: &[f32]) {
    let mut shares = Vec::new();
    let mut laid_out = None;
    for (combined, result) in work {
        let layer = combined.layer;
        let rows = laid_out.get_or_insert_with(|| layer.lay_out(x));
        let first_share = shares.len();
        let room = || Vec::with_capacity(rows.padded());
        shares.extend((0..layer.panels()).map(|panel| (combined, panel, room())));
        for row in result.chunks_exact_mut(layer.out_features()) {
            let columns = row.chunks_mut(layer.columns(&(0..1)).len());
            shares[first_share..].iter_mut().zip(columns).for_each(|(share, to)| share.2.push(to));
        }
    }
    let Some(rows) = &laid_out else { return };
    let pool = ScratchPool::<AlignedValues>::new();
    shares.into_par_iter().with_max_len(1).for_each(|(combined, panel, mut to)| {
        pool.with(|sums| {
            for (layer, activation) in combined.layers() {
                layer.multiply_panels(panel..panel + 1, rows, activation, &mut to, sums);
            }
        });
    });
}

/// Rows of each of the shares that threads take: whole tiles, about as many for each thread, and no more than [`BLOCK_ROWS`].
pub(crate) fn rows_of_a_share(rows: usize, threads: usize) -> usize {
    let shares = rows.div_ceil(BLOCK_ROWS).next_multiple_of(threads);
    rows.div_ceil(shares).next_multiple_of(largest_tile(SimdLevel::best()).0)
}
