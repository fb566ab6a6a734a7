//! Functions of each row of a tensor by itself, in one pass.
//!
//! A chain of tensor operations reads and writes the whole tensor once for each, and hands small tensors to other
//! threads for longer than it takes to compute them.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor};
use rayon::prelude::*;

use super::simd::vectorised;
use crate::error::Result;

/// Up to so many values are better computed at once than shared out among threads. Our choice: they take a core a few
/// tenths of a millisecond.
pub(super) const ON_ONE_THREAD: usize = 1 << 18;

/// How many times smaller what a thread gets at a time is. Our choice: small enough that threads end together.
const SHARES: usize = 4;

/// Whether [`map_rows`] can work on `x`; if not, the general operations must.
pub(crate) fn is_plain(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && x.is_contiguous() && x.elem_count() > 0
}

/// The values that operation `op` works on: in f32, one behind the other.
///
/// # Errors
/// They are of another dtype, or lie in another order.
pub(crate) fn values_in_order<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &'static str,
) -> candle_core::Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or(candle_core::Error::RequiresContiguous { op })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Hands out the values of a tensor in f32 on a CPU where they lie.
///
/// # Errors
/// The tensor is elsewhere, or of another dtype.
pub(crate) fn with_values<T>(x: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        let reason = "values on a GPU cannot be looked at where they lie".into();
        return Err(candle_core::Error::Msg(reason).into());
    };
    Ok(work(&storage.as_slice::<f32>()?[layout.start_offset()..][..x.elem_count()]))
}

/// Calls `function` with the index of each row (along the last axis), the row, and where its result goes.
///
/// # Errors
/// `x` is not plain.
pub(super) fn map_rows(
    x: &Tensor,
    function: impl Fn(usize, &[f32], &mut [f32]) + Send + Sync,
) -> Result<Tensor> {
    Ok(x.apply_op1_no_bwd(&RowMap(function))?)
}

struct RowMap<F>(F);

impl<F: Fn(usize, &[f32], &mut [f32]) + Send + Sync> CustomOp1 for RowMap<F> {
    fn name(&self) -> &'static str {
        "row-map"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = values_in_order(storage, layout, self.name())?;
        let length = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut mapped = vec![0f32; values.len()];
        let map = |first: usize, values: &[f32], mapped: &mut [f32]| {
            vectorised(|| {
                let rows = values.chunks_exact(length).zip(mapped.chunks_exact_mut(length));
                (first..).zip(rows).for_each(|(index, (row, to))| (self.0)(index, row, to));
            });
        };
        if values.len() <= ON_ONE_THREAD || rayon::current_num_threads() == 1 {
            map(0, values, &mut mapped);
        } else {
            let rows = (ON_ONE_THREAD / SHARES / length).max(1);
            let shares = values.par_chunks(rows * length).zip(mapped.par_chunks_mut(rows * length));
            shares.enumerate().for_each(|(share, (values, to))| map(share * rows, values, to));
        }
        Ok((CpuStorage::F32(mapped), layout.shape().clone()))
    }
}

/// The sum of `term` over a row: in f32 over short stretches, which vectorises, and in f64 over those, so that long
/// rows lose nothing.
#[inline(always)]
pub(super) fn sum_of(row: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    const STRETCH: usize = 64 * LANES;
    let stretch_sum = |stretch: &[f32]| {
        let mut lanes = [0f32; LANES];
        let (groups, rest) = stretch.as_chunks::<LANES>();
        for group in groups {
            lanes.iter_mut().zip(group).for_each(|(lane, &x)| *lane += term(x));
        }
        let rest: f32 = rest.iter().map(|&x| term(x)).sum();
        f64::from(lanes.iter().sum::<f32>()) + f64::from(rest)
    };
    row.chunks(STRETCH).map(stretch_sum).sum()
}

/// The largest value of a row, in lanes, so that none waits for the one before it.
#[inline(always)]
pub(super) fn largest_of(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (groups, rest) = row.as_chunks::<LANES>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, &x)| *lane = lane.max(x));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_are_mapped_by_themselves() {
        let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu).unwrap();
        let later = x.narrow(0, 1, 2).unwrap();
        let mapped = map_rows(&later, |index, row, result| {
            result.copy_from_slice(&[row[1], index as f32]);
        });
        assert_eq!(mapped.unwrap().to_vec2::<f32>().unwrap(), [[4., 0.], [6., 1.]]);
        assert!(!is_plain(&x.t().unwrap()));
        assert!(map_rows(&x.t().unwrap(), |_, _, _| ()).is_err());
    }

    #[test]
    fn long_sums_stay_exact() {
        let row: Vec<f32> = (0..1_000_003).map(|i| 0.1 + (i % 7) as f32).collect();
        let exact: f64 = row.iter().map(|&x| f64::from(x)).sum();
        assert!((sum_of(&row, |x| x) - exact).abs() < 1e-6 * exact);
        assert_eq!(sum_of(&[], |x| x), 0.0);
    }

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        let mut row = [-3f32; 37];
        for place in 0..row.len() {
            row[place] = 1.0;
            assert_eq!(largest_of(&row), 1.0);
            row[place] = -3.0;
        }
        assert_eq!(largest_of(&[]), f32::NEG_INFINITY);
    }
}
