//! Turning the quantised blocks of one tensor, whole or some rows, into a dense tensor.

use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::block_type::BlockType;
use super::file_bytes::FileBytes;
use crate::error::{ModelError, Result};

/// How much is read at a time, in stored bytes. Our choice, as for plain tensors: it stays in the inner caches, and is
/// large enough for a disk.
const PIECE_BYTES: usize = 256 << 10;

/// One tensor of whole blocks, row after row, from byte `start` of a file on. Whoever makes one has made sure that it
/// lies within the file, has two axes or more, and that its rows are whole blocks.
pub(super) struct QuantisedTensor<'a> {
    pub(super) file: &'a FileBytes,
    pub(super) start: u64,
    pub(super) block_type: BlockType,
    pub(super) shape: &'a [usize],
}

impl QuantisedTensor<'_> {
    /// Reads all of it as `dtype`. Beside the result there is a piece of the blocks, and of their values where `dtype` is
    /// narrower than f32.
    pub(super) fn read(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let count = self.shape.iter().product();
        self.dense(&[0], count, dtype, self.shape, device)
    }

    /// Reads the given rows of the first axis, in the given order, as `dtype`; no other row is read.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when there is no such row.
    pub(super) fn read_rows(&self, rows: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        let (height, row_shape) = (self.shape[0], &self.shape[1..]);
        if let Some(row) = rows.iter().find(|row| **row as usize >= height) {
            let reason = format!("row {row} was asked for in a table of {height} rows");
            return Err(ModelError::BadInput(reason));
        }
        let shape = [&[rows.len()], row_shape].concat();
        self.dense(rows, row_shape.iter().product(), dtype, &shape, device)
    }

    /// The `runs` of `length` values each, by number, one after the other.
    fn dense(
        &self,
        runs: &[u32],
        length: usize,
        dtype: DType,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor> {
        match dtype {
            DType::F16 => self.narrow::<f16>(runs, length, shape, device, |values, halves| {
                halves.convert_from_f32_slice(values);
            }),
            DType::BF16 => self.narrow::<bf16>(runs, length, shape, device, |values, halves| {
                halves.convert_from_f32_slice(values);
            }),
            _ => {
                let values = self.values(runs, length, 0f32, |blocks, values| {
                    self.block_type.dequantise(blocks, values)
                })?;
                Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
            }
        }
    }

    /// As [`QuantisedTensor::dense`], in a half-wide dtype.
    fn narrow<H: WithDType + Default>(
        &self,
        runs: &[u32],
        length: usize,
        shape: &[usize],
        device: &Device,
        round: impl Fn(&[f32], &mut [H]),
    ) -> Result<Tensor> {
        let mut wide = vec![0f32; self.piece_values().min(length)];
        let halves = self.values(runs, length, H::default(), |blocks, halves| {
            let wide = &mut wide[..halves.len()];
            self.block_type.dequantise(blocks, wide)?;
            round(wide, halves);
            Ok(())
        })?;
        Ok(Tensor::from_vec(halves, shape, device)?)
    }

    /// Reads the blocks piece by piece and has `convert` make values of each.
    fn values<T: Copy>(
        &self,
        runs: &[u32],
        length: usize,
        zero: T,
        mut convert: impl FnMut(&[u8], &mut [T]) -> Result<()>,
    ) -> Result<Vec<T>> {
        let bytes_of =
            |values: usize| values / self.block_type.block_values() * self.block_type.block_bytes();
        let mut all = vec![zero; runs.len() * length];
        // Candle wants blocks at even addresses, where every allocator begins a buffer of a block or more.
        let mut blocks = vec![0u8; bytes_of(self.piece_values().min(all.len()))];
        let (mut left, mut to) = (runs, all.as_mut_slice());
        while let Some(&first) = left.first() {
            // Runs that follow one another are read as one.
            let neighbours = left.iter().zip(first..).take_while(|(run, next)| *run == next);
            let count = neighbours.count();
            let (values, rest) = to.split_at_mut(count * length);
            let mut offset = self.start + u64::from(first) * bytes_of(length) as u64;
            for values in values.chunks_mut(self.piece_values()) {
                let blocks = &mut blocks[..bytes_of(values.len())];
                self.file.read_at(offset, blocks)?;
                convert(blocks, values)?;
                offset += blocks.len() as u64;
            }
            (left, to) = (&left[count..], rest);
        }
        Ok(all)
    }

    /// Values that are read at a time: those of a few whole blocks.
    fn piece_values(&self) -> usize {
        PIECE_BYTES / self.block_type.block_bytes() * self.block_type.block_values()
    }
}
