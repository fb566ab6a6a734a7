//! Products of whole tensors, shared out among threads.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use rayon::prelude::*;

use super::packed::{Activation, PackedLinear, ProductScratch};
use crate::nn::microkernel::{PRODUCTS_ON_ONE_THREAD, largest_tile};
use crate::nn::rows::values_in_order;
use crate::nn::scratch::ScratchPool;
use crate::nn::simd::SimdLevel;

/// Rows that a thread multiplies at a time. Our choice: as many as an inner cache holds beside a panel of weights, so that
/// weights are fetched as rarely as possible.
const BLOCK_ROWS: usize = 192;

/// With fewer rows for each thread, they share the columns instead, so that weights are fetched once in all. Our choice,
/// measured with the largest matrices: with more rows, they no longer stay in a core's cache while all weights pass them.
const FEW_ROWS: usize = 192;

/// A linear layer on a tensor in f32 on a CPU, whose last axis it maps.
pub(super) struct Product<'a> {
    pub(super) linear: &'a PackedLinear,
}

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = values_in_order(storage, layout, self.name())?;
        let mut dims = layout.dims().to_vec();
        let (found, expected) = (dims.last().copied(), self.linear.in_features());
        if found != Some(expected) {
            let got = layout.shape().clone();
            let msg = "a linear layer maps rows of another length".into();
            return Err(candle_core::Error::UnexpectedShape {
                msg,
                expected: expected.into(),
                got,
            });
        }
        dims.pop();
        dims.push(self.linear.out_features());
        Ok((CpuStorage::F32(self.compute(values)), Shape::from(dims)))
    }
}

impl Product<'_> {
    fn compute(&self, x: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = (self.linear.in_features(), self.linear.out_features());
        let rows = x.len().checked_div(inputs).unwrap_or(0);
        let threads = rayon::current_num_threads();
        let mut result = vec![0f32; rows * outputs];
        if threads == 1 || rows * inputs * outputs <= PRODUCTS_ON_ONE_THREAD {
            let blocks = x.chunks(BLOCK_ROWS * inputs.max(1));
            let mut scratch = ProductScratch::default();
            for (x, to) in blocks.zip(result.chunks_mut(BLOCK_ROWS * outputs)) {
                self.linear.multiply(x, Activation::None, to, &mut scratch);
            }
        } else if rows >= threads * FEW_ROWS {
            let block = rows_of_a_share(rows, threads);
            let shares = x.par_chunks(block * inputs).zip(result.par_chunks_mut(block * outputs));
            let pool = ScratchPool::<ProductScratch>::new();
            shares.with_max_len(1).for_each(|(x, to)| {
                pool.with(|scratch| self.linear.multiply(x, Activation::None, to, scratch));
            });
        } else {
            self.by_columns(x, threads, &mut result);
        }
        result
    }

    /// Each thread multiplies all rows with its share of the panels.
    fn by_columns(&self, x: &[f32], threads: usize, result: &mut [f32]) {
        let (width, panels) = self.linear.panels();
        let share = panels.div_ceil(threads);
        let mut parts: Vec<_> = (0..panels)
            .step_by(share)
            .map(|first| (first..panels.min(first + share), Vec::new()))
            .collect();
        for row in result.chunks_exact_mut(self.linear.out_features()) {
            let columns = row.chunks_mut(share * width);
            parts.iter_mut().zip(columns).for_each(|((_, rows), columns)| rows.push(columns));
        }
        parts.into_par_iter().with_max_len(1).for_each(|(panels, mut rows)| {
            let mut scratch = ProductScratch::default();
            self.linear.multiply_panels(x, Activation::None, panels, &mut rows, &mut scratch);
        });
    }
}

/// Rows of each of the shares that threads take: whole tiles, about as many for each thread, and no more than [`BLOCK_ROWS`].
pub(crate) fn rows_of_a_share(rows: usize, threads: usize) -> usize {
    let shares = rows.div_ceil(BLOCK_ROWS).next_multiple_of(threads);
    rows.div_ceil(shares).next_multiple_of(largest_tile(SimdLevel::best()).0)
}
