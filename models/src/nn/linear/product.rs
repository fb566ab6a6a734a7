//! Products of whole tensors, shared out among threads.

use candle_core::Tensor;
use rayon::prelude::*;

use super::packed::{Activation, PackedLinear, ProductScratch};
use crate::error::Result;
use crate::nn::aligned::AlignedValues;
use crate::nn::microkernel::{PRODUCTS_ON_ONE_THREAD, largest_tile};
use crate::nn::rows::with_values;
use crate::nn::scratch::ScratchPool;
use crate::nn::simd::SimdLevel;

/// Rows that a thread multiplies at a time. Our choice: as many as an inner cache holds beside a panel of weights, so that
/// weights are fetched as rarely as possible.
const BLOCK_ROWS: usize = 192;

/// With fewer rows for each thread, they share the columns instead, so that weights are fetched once in all. Our choice:
/// about as many as a thread takes at a time in any case, so that with more there is no weight less to fetch.
const FEW_ROWS: usize = 192;

/// What makes one tensor.
#[derive(Clone, Copy)]
pub(super) struct GatedLayer<'a> {
    pub(super) layer: &'a PackedLinear,
    /// A layer with as many features whose [`crate::nn::gelu`] the other's result is multiplied with.
    pub(super) gate: Option<&'a PackedLinear>,
}

impl<'a> GatedLayer<'a> {
    pub(super) fn alone(layer: &'a PackedLinear) -> Self {
        Self { layer, gate: None }
    }

    /// One after the other: the gate finds what the layer has made.
    fn layers(self) -> impl Iterator<Item = (&'a PackedLinear, Activation)> {
        let gate = self.gate.map(|gate| (gate, Activation::GeluGate));
        [(self.layer, Activation::None)].into_iter().chain(gate)
    }

    /// The products of some rows.
    fn multiply(self, x: &[f32], to: &mut [f32], scratch: &mut ProductScratch) {
        for (layer, activation) in self.layers() {
            layer.multiply(x, activation, to, scratch);
        }
    }
}

/// The products of one tensor in f32 on a CPU, along its last axis, with several layers.
///
/// # Errors
/// The last axis is not as long as the input of each.
pub(super) fn products<const LAYERS: usize>(
    gated: [GatedLayer; LAYERS],
    x: &Tensor,
) -> Result<[Tensor; LAYERS]> {
    let found = x.dims().last().copied();
    let mut layers = gated.iter().flat_map(|gated| gated.layers());
    if let Some((layer, _)) = layers.find(|(layer, _)| found != Some(layer.in_features())) {
        let msg = "a linear layer maps rows of another length".into();
        let (expected, got) = (layer.in_features().into(), x.shape().clone());
        return Err(candle_core::Error::UnexpectedShape { msg, expected, got }.into());
    }
    let results = with_values(x, |values| compute(&gated, values, found.unwrap_or_default()))?;
    let mut shaped = Vec::with_capacity(LAYERS);
    for (gated, values) in gated.iter().zip(results) {
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(gated.layer.out_features());
        shaped.push(Tensor::from_vec(values, dims, x.device())?);
    }
    Ok(shaped.try_into().expect("invariant: each layer has made one product"))
}

/// `x` is `[rows, inputs]`.
fn compute(gated: &[GatedLayer], x: &[f32], inputs: usize) -> Vec<Vec<f32>> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let threads = rayon::current_num_threads();
    let mut results: Vec<_> =
        gated.iter().map(|gated| vec![0f32; rows * gated.layer.out_features()]).collect();
    let layers = gated.iter().flat_map(|gated| gated.layers());
    let outputs: usize = layers.map(|(layer, _)| layer.out_features()).sum();
    let work = gated.iter().zip(&mut results);
    if threads == 1 || rows * inputs * outputs <= PRODUCTS_ON_ONE_THREAD {
        let mut scratch = ProductScratch::default();
        for (gated, to) in work {
            let blocks = x.chunks(BLOCK_ROWS * inputs.max(1));
            for (x, to) in blocks.zip(to.chunks_mut(BLOCK_ROWS * gated.layer.out_features())) {
                gated.multiply(x, to, &mut scratch);
            }
        }
    } else if rows >= threads * FEW_ROWS {
        let block = rows_of_a_share(rows, threads);
        let pool = ScratchPool::<ProductScratch>::new();
        for (gated, to) in work {
            let to = to.par_chunks_mut(block * gated.layer.out_features());
            x.par_chunks(block * inputs).zip(to).with_max_len(1).for_each(|(x, to)| {
                pool.with(|scratch| gated.multiply(x, to, scratch));
            });
        }
    } else {
        by_columns(work, x);
    }
    results
}

/// All rows with one panel at a time, whichever thread is free: cores are seldom equally fast all the time. (Taking two or
/// four panels at a time, each block of features with all of them, was as fast as one.)
fn by_columns<'a>(work: impl Iterator<Item = (&'a GatedLayer<'a>, &'a mut Vec<f32>)>, x: &[f32]) {
    let mut shares = Vec::new();
    let mut laid_out = None;
    for (gated, result) in work {
        let layer = gated.layer;
        let rows = laid_out.get_or_insert_with(|| layer.lay_out(x));
        let first_share = shares.len();
        let room = || Vec::with_capacity(rows.padded());
        shares.extend((0..layer.panels()).map(|panel| (gated, panel, room())));
        for row in result.chunks_exact_mut(layer.out_features()) {
            let columns = row.chunks_mut(layer.columns(&(0..1)).len());
            shares[first_share..].iter_mut().zip(columns).for_each(|(share, to)| share.2.push(to));
        }
    }
    let Some(rows) = &laid_out else { return };
    let pool = ScratchPool::<AlignedValues>::new();
    shares.into_par_iter().with_max_len(1).for_each(|(gated, panel, mut to)| {
        pool.with(|sums| {
            for (layer, activation) in gated.layers() {
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
