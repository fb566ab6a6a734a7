//! Turning the stored bytes of one tensor, whole or some rows, into a tensor.

use candle_core::{DType, Device, Tensor};

use crate::error::{ModelError, Result};

/// One tensor as a file holds it: its first element at the start of `data`, the others by `strides`.
pub(super) struct StoredTensor<'a> {
    data: &'a [u8],
    dtype: DType,
    shape: &'a [usize],
    strides: Vec<usize>,
}

impl<'a> StoredTensor<'a> {
    /// A row-major tensor; `None` when `data` is too short for it.
    pub(super) fn contiguous(data: &'a [u8], dtype: DType, shape: &'a [usize]) -> Option<Self> {
        (stored_bytes(shape, dtype)? <= data.len()).then(|| Self {
            data,
            dtype,
            shape,
            strides: row_major_strides(shape),
        })
    }

    /// A tensor whose elements lie `strides` (counted in elements) apart; `None` when `data` is too short for it.
    ///
    /// That holds for views that repeat elements, too: a few bytes must not become more than memory holds.
    pub(super) fn strided(
        data: &'a [u8],
        dtype: DType,
        shape: &'a [usize],
        strides: &[usize],
    ) -> Option<Self> {
        let stored = Self::contiguous(data, dtype, shape)?;
        if shape.contains(&0) {
            return Some(stored);
        }
        (span_bytes(shape, strides, dtype)? <= data.len() && shape.len() == strides.len())
            .then(|| Self { strides: strides.to_vec(), ..stored })
    }

    /// Reads all of it.
    pub(super) fn read(&self, device: &Device) -> Result<Tensor> {
        if self.strides == row_major_strides(self.shape) {
            let bytes = self.shape.iter().product::<usize>() * self.dtype.size_in_bytes();
            return Ok(Tensor::from_raw_buffer(
                &self.data[..bytes],
                self.dtype,
                self.shape,
                device,
            )?);
        }
        let mut bytes = Vec::new();
        self.gather(0, 0, &mut bytes);
        Ok(Tensor::from_raw_buffer(&bytes, self.dtype, self.shape, device)?)
    }

    /// Reads the given rows of the first axis, in the given order; no other row is touched.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when there is no such row.
    pub(super) fn read_rows(&self, rows: &[u32], device: &Device) -> Result<Tensor> {
        let (height, row_shape) = match self.shape.split_first() {
            Some((&height, row_shape)) => (height, row_shape),
            None => (0, self.shape),
        };
        let mut bytes = Vec::new();
        for &row in rows {
            if row as usize >= height {
                let reason = format!("row {row} was asked for in a table of {height} rows");
                return Err(ModelError::BadInput(reason));
            }
            self.gather(1, row as usize * self.strides[0], &mut bytes);
        }
        let shape = [&[rows.len()], row_shape].concat();
        Ok(Tensor::from_raw_buffer(&bytes, self.dtype, &shape, device)?)
    }

    /// Appends everything below `axis` from element `offset` on, in row-major order.
    fn gather(&self, axis: usize, offset: usize, bytes: &mut Vec<u8>) {
        let size = self.dtype.size_in_bytes();
        let shape = &self.shape[axis..];
        if self.strides[axis..] == row_major_strides(shape) {
            let elements = shape.iter().product::<usize>();
            bytes.extend_from_slice(&self.data[offset * size..(offset + elements) * size]);
            return;
        }
        for index in 0..self.shape[axis] {
            self.gather(axis + 1, offset + index * self.strides[axis], bytes);
        }
    }
}

fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// More axes than any parameter has; few enough to go through them by recursion.
const MOST_AXES: usize = 8;

/// Bytes of all elements; `None` when that overflows, or would but for an empty axis, or there are too many axes.
fn stored_bytes(shape: &[usize], dtype: DType) -> Option<usize> {
    let full = shape.iter().map(|&length| length.max(1)).try_fold(1, usize::checked_mul)?;
    let bytes = full.checked_mul(dtype.size_in_bytes()).filter(|_| shape.len() <= MOST_AXES)?;
    Some(if shape.contains(&0) { 0 } else { bytes })
}

/// Bytes from the first to behind the last element, none of the axes being empty; `None` when that overflows.
fn span_bytes(shape: &[usize], strides: &[usize], dtype: DType) -> Option<usize> {
    let mut last = 0usize;
    for (&length, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((length - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)?.checked_mul(dtype.size_in_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(values: std::ops::Range<u8>) -> Vec<u8> {
        values.collect()
    }

    fn values(tensor: &Tensor) -> Vec<u8> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn transposed_sliced_and_expanded_tensors_come_out_row_major() {
        let data = bytes(0..6);
        let read = |shape: &[usize], strides: &[usize], data: &[u8]| {
            let stored = StoredTensor::strided(data, DType::U8, shape, strides).unwrap();
            values(&stored.read(&Device::Cpu).unwrap())
        };
        assert_eq!(read(&[3, 2], &[1, 3], &data), [0, 3, 1, 4, 2, 5]);
        assert_eq!(read(&[2, 2], &[3, 1], &data[1..]), [1, 2, 4, 5]);
        assert_eq!(read(&[2, 3], &[0, 1], &data), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn rows_come_in_the_order_asked_for_and_only_if_they_exist() {
        let data = bytes(0..6);
        let table = StoredTensor::contiguous(&data, DType::U8, &[3, 2]).unwrap();
        let rows = table.read_rows(&[2, 0, 2], &Device::Cpu).unwrap();
        assert_eq!(rows.dims(), [3, 2]);
        assert_eq!(values(&rows), [4, 5, 0, 1, 4, 5]);
        let transposed = StoredTensor::strided(&data, DType::U8, &[2, 3], &[1, 2]).unwrap();
        assert_eq!(values(&transposed.read_rows(&[1], &Device::Cpu).unwrap()), [1, 3, 5]);
        assert!(table.read_rows(&[3], &Device::Cpu).is_err());
    }

    #[test]
    fn a_view_that_leaves_its_storage_is_refused() {
        let data = bytes(0..6);
        assert!(StoredTensor::strided(&data, DType::U8, &[2, 3], &[4, 1]).is_none());
        assert!(StoredTensor::strided(&data, DType::U8, &[3, 2], &[usize::MAX, 1]).is_none());
        assert!(StoredTensor::strided(&data, DType::F32, &[6], &[1]).is_none());
        assert!(StoredTensor::contiguous(&data, DType::U8, &[7]).is_none());
    }

    #[test]
    fn shapes_whose_elements_cannot_be_counted_or_held_are_refused() {
        let (data, huge) = (bytes(0..6), 1 << 40);
        for shape in [&[huge, huge][..], &[huge], &[huge, huge, 0], &[0, huge, huge], &[1; 9]] {
            let strides = vec![0; shape.len()];
            assert!(
                StoredTensor::strided(&data, DType::U8, shape, &strides).is_none(),
                "{shape:?}"
            );
            assert!(StoredTensor::contiguous(&data, DType::U8, shape).is_none(), "{shape:?}");
        }
        let shape = [huge, 0];
        let empty = StoredTensor::strided(&data, DType::U8, &shape, &[7, 7]).unwrap();
        assert_eq!(empty.read(&Device::Cpu).unwrap().dims(), [huge, 0]);
        assert_eq!(empty.read_rows(&[9], &Device::Cpu).unwrap().dims(), [1, 0]);
    }
}
