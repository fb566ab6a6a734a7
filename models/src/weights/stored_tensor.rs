//! Turning the stored bytes of one tensor, whole or some rows, into a tensor.

use candle_core::{DType, Device, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::file_bytes::FileBytes;
use crate::error::{ModelError, Result};

/// How much of a tensor is read at a time on its way to a wider dtype. Our choice: it stays in the inner caches, and is
/// large enough for a disk.
const PIECE_BYTES: usize = 256 << 10;

/// One tensor as a file holds it: its first element at `start`, the others by `strides`.
pub(super) struct StoredTensor<'a> {
    file: &'a FileBytes,
    start: u64,
    dtype: DType,
    shape: &'a [usize],
    strides: Vec<usize>,
}

/// Where in a file a tensor's bytes may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Of the first element.
    pub(super) start: u64,
    /// From there on.
    pub(super) bytes: u64,
}

impl Extent {
    /// Behind the last byte; `None` when no file is that long.
    pub(super) fn end(self) -> Option<u64> {
        self.start.checked_add(self.bytes)
    }
}

impl<'a> StoredTensor<'a> {
    /// A row-major tensor; `None` when `extent` is too short for it.
    pub(super) fn contiguous(
        file: &'a FileBytes,
        extent: Extent,
        dtype: DType,
        shape: &'a [usize],
    ) -> Option<Self> {
        (stored_bytes(shape, dtype)? as u64 <= extent.bytes).then(|| Self {
            file,
            start: extent.start,
            dtype,
            shape,
            strides: row_major_strides(shape),
        })
    }

    /// A tensor whose elements lie `strides` (counted in elements) apart; `None` when `extent` is too short for it.
    ///
    /// That holds for views that repeat elements, too: a few bytes must not become more than memory holds.
    pub(super) fn strided(
        file: &'a FileBytes,
        extent: Extent,
        dtype: DType,
        shape: &'a [usize],
        strides: &[usize],
    ) -> Option<Self> {
        let stored = Self::contiguous(file, extent, dtype, shape)?;
        if shape.contains(&0) {
            return Some(stored);
        }
        (span_bytes(shape, strides, dtype)? as u64 <= extent.bytes && shape.len() == strides.len())
            .then(|| Self { strides: strides.to_vec(), ..stored })
    }

    /// Reads all of it as `dtype`. What is widened to f32 on the way never exists in its narrow form as a whole.
    pub(super) fn read(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        if self.is_row_major() && dtype == DType::F32 {
            let values = match self.dtype {
                DType::F32 => Some(self.values(widen_f32)?),
                DType::F16 => Some(self.values(widen_f16)?),
                DType::BF16 => Some(self.values(widen_bf16)?),
                _ => None,
            };
            if let Some(values) = values {
                return Ok(Tensor::from_vec(values, self.shape, device)?);
            }
        }
        let bytes = self.rows_as_bytes(0, 0)?;
        let tensor = Tensor::from_raw_buffer(&bytes, self.dtype, self.shape, device)?;
        drop(bytes);
        Ok(tensor.to_dtype(dtype)?)
    }

    /// Reads the given rows of the first axis, in the given order, as `dtype`; no other row is read.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when there is no such row.
    pub(super) fn read_rows(&self, rows: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        let (height, row_shape) = match self.shape.split_first() {
            Some((&height, row_shape)) => (height, row_shape),
            None => (0, self.shape),
        };
        if let Some(&row) = rows.iter().find(|&&row| row as usize >= height) {
            let reason = format!("row {row} was asked for in a table of {height} rows");
            return Err(ModelError::BadInput(reason));
        }
        let shape = [&[rows.len()], row_shape].concat();
        if let Some(neighbours) = self.neighbours(rows, &shape) {
            return neighbours.read(dtype, device);
        }
        let mut bytes = Vec::new();
        for &row in rows {
            bytes.extend(self.rows_as_bytes(1, row as usize * self.strides[0])?);
        }
        Ok(Tensor::from_raw_buffer(&bytes, self.dtype, &shape, device)?.to_dtype(dtype)?)
    }

    /// Whether its elements lie in row-major order.
    pub(super) fn is_row_major(&self) -> bool {
        self.strides == row_major_strides(self.shape)
    }

    /// Rows that lie one after the other, as a tensor of their own, of the given shape.
    fn neighbours<'b>(&self, rows: &[u32], shape: &'b [usize]) -> Option<StoredTensor<'b>>
    where
        'a: 'b,
    {
        let first = *rows.first()?;
        let follow = rows.iter().zip(first..).all(|(&row, expected)| row == expected);
        (follow && self.is_row_major()).then(|| StoredTensor {
            file: self.file,
            start: self.start
                + (first as usize * self.strides[0] * self.dtype.size_in_bytes()) as u64,
            dtype: self.dtype,
            shape,
            strides: row_major_strides(shape),
        })
    }

    /// All values of a row-major tensor, widened piece by piece.
    fn values(&self, widen: impl Fn(&[u8], &mut [f32])) -> Result<Vec<f32>> {
        let (size, count) = (self.dtype.size_in_bytes(), self.shape.iter().product::<usize>());
        let mut values = vec![0f32; count];
        let mut piece = vec![0u8; PIECE_BYTES.min(count * size)];
        let mut offset = self.start;
        for values in values.chunks_mut(PIECE_BYTES / size) {
            let piece = &mut piece[..values.len() * size];
            self.file.read_at(offset, piece)?;
            widen(piece, values);
            offset += piece.len() as u64;
        }
        Ok(values)
    }

    /// Everything below `axis` from element `first` on, in row-major order.
    fn rows_as_bytes(&self, axis: usize, first: usize) -> Result<Vec<u8>> {
        let size = self.dtype.size_in_bytes();
        let (shape, strides) = (&self.shape[axis..], &self.strides[axis..]);
        let start = self.start + (first * size) as u64;
        if shape.contains(&0) {
            return Ok(Vec::new());
        }
        // Opening checked that the span lies within the file.
        let span = span_bytes(shape, strides, self.dtype).unwrap_or(0);
        let span = self.file.read_vec(start, span)?;
        if strides == row_major_strides(shape) {
            return Ok(span);
        }
        let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * size);
        gather(&span, size, shape, strides, 0, &mut bytes);
        Ok(bytes)
    }
}

/// Appends the elements of a strided tensor from element `offset` of `span` on, in row-major order.
fn gather(
    span: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
    offset: usize,
    bytes: &mut Vec<u8>,
) {
    if strides == row_major_strides(shape) {
        let elements = shape.iter().product::<usize>();
        bytes.extend_from_slice(&span[offset * size..(offset + elements) * size]);
        return;
    }
    for index in 0..shape[0] {
        gather(span, size, &shape[1..], &strides[1..], offset + index * strides[0], bytes);
    }
}

fn widen_f32(bytes: &[u8], values: &mut [f32]) {
    let (stored, _) = bytes.as_chunks::<4>();
    values.iter_mut().zip(stored).for_each(|(value, &bytes)| *value = f32::from_le_bytes(bytes));
}

fn widen_f16(bytes: &[u8], values: &mut [f32]) {
    in_groups(bytes, values, f16::from_le_bytes, |group, values| {
        group.convert_to_f32_slice(values)
    });
}

fn widen_bf16(bytes: &[u8], values: &mut [f32]) {
    in_groups(bytes, values, bf16::from_le_bytes, |group, values| {
        group.convert_to_f32_slice(values);
    });
}

/// Widens some values at a time: the conversion of a slice uses the processor's own instruction.
fn in_groups<H: Copy + Default>(
    bytes: &[u8],
    values: &mut [f32],
    parse: impl Fn([u8; 2]) -> H,
    widen: impl Fn(&[H], &mut [f32]),
) {
    const GROUP: usize = 1024;
    let mut group = [H::default(); GROUP];
    let (stored, _) = bytes.as_chunks::<2>();
    for (stored, values) in stored.chunks(GROUP).zip(values.chunks_mut(GROUP)) {
        let group = &mut group[..stored.len()];
        group.iter_mut().zip(stored).for_each(|(half, &bytes)| *half = parse(bytes));
        widen(group, values);
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
pub(super) const MOST_AXES: usize = 8;

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

    fn file(values: std::ops::Range<u8>) -> FileBytes {
        FileBytes::in_memory("x", values.collect::<Vec<u8>>().into())
    }

    fn whole(file: &FileBytes) -> Extent {
        Extent { start: 0, bytes: file.length() }
    }

    fn values(tensor: &Tensor) -> Vec<u8> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn all(tensor: &StoredTensor) -> Tensor {
        tensor.read(DType::U8, &Device::Cpu).unwrap()
    }

    fn rows(tensor: &StoredTensor, rows: &[u32]) -> Result<Tensor> {
        tensor.read_rows(rows, DType::U8, &Device::Cpu)
    }

    #[test]
    fn transposed_sliced_and_expanded_tensors_come_out_row_major() {
        let file = file(0..6);
        let read = |shape: &[usize], strides: &[usize], start: u64| {
            let extent = Extent { start, bytes: file.length() - start };
            let stored = StoredTensor::strided(&file, extent, DType::U8, shape, strides).unwrap();
            values(&all(&stored))
        };
        assert_eq!(read(&[3, 2], &[1, 3], 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(read(&[2, 2], &[3, 1], 1), [1, 2, 4, 5]);
        assert_eq!(read(&[2, 3], &[0, 1], 0), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn rows_come_in_the_order_asked_for_and_only_if_they_exist() {
        let file = file(0..6);
        let table = StoredTensor::contiguous(&file, whole(&file), DType::U8, &[3, 2]).unwrap();
        let picked = rows(&table, &[2, 0, 2]).unwrap();
        assert_eq!(picked.dims(), [3, 2]);
        assert_eq!(values(&picked), [4, 5, 0, 1, 4, 5]);
        let transposed =
            StoredTensor::strided(&file, whole(&file), DType::U8, &[2, 3], &[1, 2]).unwrap();
        assert_eq!(values(&rows(&transposed, &[1]).unwrap()), [1, 3, 5]);
        assert!(rows(&table, &[3]).is_err());
    }

    #[test]
    fn halves_are_widened_to_the_values_that_a_cast_gives() {
        // Every half there is, more than a piece of them, at an odd place in the file.
        let mut bytes = vec![0u8];
        for _ in 0..3 {
            bytes.extend((0..=u16::MAX).flat_map(u16::to_le_bytes));
        }
        let shape = [3, 1 << 16];
        let file = FileBytes::in_memory("x", bytes.into());
        let extent = Extent { start: 1, bytes: file.length() - 1 };
        for dtype in [DType::F16, DType::BF16] {
            let stored = StoredTensor::contiguous(&file, extent, dtype, &shape).unwrap();
            let bits = |tensor: Tensor| {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                // A cast may make a quiet NaN of a signalling one.
                values.into_iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect()
            };
            let widened: Vec<u32> = bits(stored.read(DType::F32, &Device::Cpu).unwrap());
            let narrow = stored.read(dtype, &Device::Cpu).unwrap();
            let cast: Vec<u32> = bits(narrow.to_dtype(DType::F32).unwrap());
            assert!(widened == cast, "{dtype:?}");
        }
    }

    #[test]
    fn a_view_that_leaves_its_storage_is_refused() {
        let file = file(0..6);
        let view = |dtype, shape: &[usize], strides: &[usize]| {
            StoredTensor::strided(&file, whole(&file), dtype, shape, strides).is_some()
        };
        assert!(!view(DType::U8, &[2, 3], &[4, 1]));
        assert!(!view(DType::U8, &[3, 2], &[usize::MAX, 1]));
        assert!(!view(DType::F32, &[6], &[1]));
        assert!(StoredTensor::contiguous(&file, whole(&file), DType::U8, &[7]).is_none());
    }

    #[test]
    fn shapes_whose_elements_cannot_be_counted_or_held_are_refused() {
        let (file, huge) = (file(0..6), 1 << 40);
        let extent = whole(&file);
        for shape in [&[huge, huge][..], &[huge], &[huge, huge, 0], &[0, huge, huge], &[1; 9]] {
            let strides = vec![0; shape.len()];
            assert!(
                StoredTensor::strided(&file, extent, DType::U8, shape, &strides).is_none(),
                "{shape:?}"
            );
            assert!(
                StoredTensor::contiguous(&file, extent, DType::U8, shape).is_none(),
                "{shape:?}"
            );
        }
        let shape = [huge, 0];
        let empty = StoredTensor::strided(&file, extent, DType::U8, &shape, &[7, 7]).unwrap();
        assert_eq!(all(&empty).dims(), [huge, 0]);
        assert_eq!(rows(&empty, &[9]).unwrap().dims(), [1, 0]);
    }
}
