//! The ways in which GGUF files quantise weights.

use std::borrow::Cow;
use std::fmt::{self, Debug, Display, Formatter};

use candle_core::CpuStorage;
use candle_core::quantized::GgmlDType;

use crate::error::Result;

/// A type of quantised weights: blocks of so many values, each value a few bits, under a scale (and in some types an
/// offset) that the block shares.
///
/// # Source
/// `ggml-common.h` and `ggml.h` of ggml, whose names and numbers these are; candle computes with them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockType(GgmlDType);

/// Every type that files hold, with its name and its number in a GGUF header. The two that are missing, `Q8_1` and
/// `Q8_K`, exist while a product is computed only.
const TYPES: [(BlockType, &str, u32); 10] = [
    (BlockType(GgmlDType::Q4_0), "Q4_0", 2),
    (BlockType(GgmlDType::Q4_1), "Q4_1", 3),
    (BlockType(GgmlDType::Q5_0), "Q5_0", 6),
    (BlockType(GgmlDType::Q5_1), "Q5_1", 7),
    (BlockType(GgmlDType::Q8_0), "Q8_0", 8),
    (BlockType(GgmlDType::Q2K), "Q2_K", 10),
    (BlockType(GgmlDType::Q3K), "Q3_K", 11),
    (BlockType(GgmlDType::Q4K), "Q4_K", 12),
    (BlockType(GgmlDType::Q5K), "Q5_K", 13),
    (BlockType(GgmlDType::Q6K), "Q6_K", 14),
];

impl BlockType {
    /// 32 values of 5 bits under a scale.
    pub const Q5_0: Self = Self(GgmlDType::Q5_0);
    /// 32 values of 8 bits under a scale.
    pub const Q8_0: Self = Self(GgmlDType::Q8_0);
    /// 256 values of 4 bits in eight groups, each with a scale and an offset of 6 bits.
    pub const Q4_K: Self = Self(GgmlDType::Q4K);
    /// 256 values of 6 bits in sixteen groups, each with a scale of 8 bits.
    pub const Q6_K: Self = Self(GgmlDType::Q6K);

    /// The type of candle's `dtype`; `None` for plain numbers, and for types that files do not hold.
    pub(super) fn of(dtype: GgmlDType) -> Option<Self> {
        Some(Self(dtype)).filter(|block_type| block_type.entry().is_some())
    }

    /// Candle's name for it.
    pub(crate) fn ggml(self) -> GgmlDType {
        self.0
    }

    /// Its number in a GGUF header.
    pub(crate) fn number(self) -> u32 {
        self.entry().map_or(u32::MAX, |entry| entry.2)
    }

    /// Its name, such as `Q8_0`.
    pub fn name(self) -> &'static str {
        self.entry().map_or("unknown", |entry| entry.1)
    }

    /// Values in a block.
    pub fn block_values(self) -> usize {
        self.0.block_size()
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.0.type_size()
    }

    /// Bytes of so many values; `None` when they are no whole number of blocks, or too many to count.
    pub(crate) fn bytes_of(self, values: usize) -> Option<usize> {
        let whole = values.is_multiple_of(self.block_values());
        (values / self.block_values()).checked_mul(self.block_bytes()).filter(|_| whole)
    }

    /// What a block's output may differ by when its weights are of this type, as a share of its norm.
    ///
    /// Our choice. Rounding leaves about 0.5 % of a weight in 8 bits, 4 % in 5 and 7 % in 4, and a product of many weights
    /// errs as much as one of them; a block's output also carries its input, which has no error.
    pub fn error_limit(self) -> f64 {
        match self.0 {
            GgmlDType::Q8_0 => 0.01,
            GgmlDType::Q2K => 0.25,
            GgmlDType::Q3K => 0.12,
            _ => 0.06,
        }
    }

    /// The values of `blocks`, which are whole blocks as a file holds them, into `values`.
    ///
    /// # Errors
    /// There are not as many values.
    pub(super) fn dequantise(self, blocks: &[u8], values: &mut [f32]) -> Result<()> {
        if Some(blocks.len()) != self.bytes_of(values.len()) {
            let (bytes, count) = (blocks.len(), values.len());
            let reason = format!("{bytes} bytes of {self} are not {count} values");
            return Err(candle_core::Error::Msg(reason).into());
        }
        let stored = self.0.from_data(Cow::Borrowed(blocks));
        let CpuStorage::F32(found) = stored.dequantize(values.len())? else {
            return Err(candle_core::Error::Msg(format!("{self} did not become f32")).into());
        };
        values.copy_from_slice(&found);
        Ok(())
    }

    fn entry(self) -> Option<&'static (Self, &'static str, u32)> {
        TYPES.iter().find(|(block_type, ..)| *block_type == self)
    }
}

impl Display for BlockType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Debug for BlockType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn every_type_gives_the_values_of_its_blocks_with_an_error_that_fits_its_bits() {
        let values: Vec<f32> = (0..1024).map(|index| (index as f32 * 0.37).sin()).collect();
        let tensor = Tensor::from_slice(&values, (2, 512), &Device::Cpu).unwrap();
        let mut errors = Vec::new();
        for (block_type, ..) in TYPES {
            let stored = QTensor::quantize(&tensor, block_type.ggml()).unwrap();
            let blocks = stored.data().unwrap();
            assert_eq!(blocks.len(), block_type.bytes_of(values.len()).unwrap());
            let mut found = vec![0.0; values.len()];
            block_type.dequantise(&blocks, &mut found).unwrap();
            let expected = stored.dequantize(&Device::Cpu).unwrap();
            assert_eq!(expected.flatten_all().unwrap().to_vec1::<f32>().unwrap(), found);
            let off = values.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            errors.push((block_type.name(), off));
            assert!(block_type.dequantise(&blocks, &mut found[..1000]).is_err());
        }
        // The step of each type over the range from -1 to 1.
        let steps = [0.125, 0.134, 0.0625, 0.065, 0.008, 0.67, 0.34, 0.16, 0.08, 0.04];
        for ((name, off), step) in errors.into_iter().zip(steps) {
            assert!(off > 0.0 && off <= step, "{name}: {off}");
        }
    }

    #[test]
    fn blocks_are_whole() {
        assert_eq!(BlockType::Q8_0.bytes_of(64), Some(68));
        assert_eq!(BlockType::Q8_0.bytes_of(65), None);
        assert_eq!(BlockType::Q4_K.bytes_of(512), Some(288));
        assert_eq!(BlockType::Q8_0.bytes_of(usize::MAX - 31), None);
        assert_eq!(BlockType::of(GgmlDType::F16), None);
        assert_eq!(BlockType::of(GgmlDType::Q8K), None);
    }
}
