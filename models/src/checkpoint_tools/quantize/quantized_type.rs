//! The types that weights are quantised to, and which matrix gets which.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::plan::Treatment;
use crate::bundle::PartName;
use crate::weights::BlockType;

/// What weights are quantised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantizedType {
    /// 8 bits a weight and a scale for 32 of them: 0.53 of f16's bytes, next to no error.
    Q8_0,
    /// 4 bits a weight, with scales and offsets: 0.28 of f16's bytes. Its blocks take rows of a multiple of 256 values;
    /// other rows get 5 bits a weight and a scale for 32 of them (`Q5_0`), 0.34 of f16's bytes, as llama.cpp does it. The
    /// values of T5's attention and the second matrix of its MLP, whose errors reach a block's output whole, get 6 bits
    /// (`Q6_K`), 0.41 of f16's bytes.
    Q4K,
}

impl QuantizedType {
    const ALL: [Self; 2] = [Self::Q8_0, Self::Q4K];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }

    /// The type for rows that are a multiple of its block.
    pub(super) fn wanted(self) -> BlockType {
        match self {
            Self::Q8_0 => BlockType::Q8_0,
            Self::Q4K => BlockType::Q4_K,
        }
    }

    /// Whether a matrix gets [`QuantizedType::finer`] in place of the type that is asked for: the values of T5's attention
    /// and the second matrix of its MLP. Their errors reach a block's output whole, where those of queries and keys pass a
    /// softmax. llama.cpp favours the same two in its mixture `Q4_K_M`.
    fn keeps_more_bits(self, part: PartName, tensor: &str) -> bool {
        const FAVOURED: [&str; 2] = [".SelfAttention.v.weight", ".DenseReluDense.wo.weight"];
        part == PartName::T5 && FAVOURED.iter().any(|ending| tensor.ends_with(ending))
    }

    /// The type for the matrices that keep more bits; `None` when the type that is asked for does for all.
    fn finer(self) -> Option<BlockType> {
        match self {
            Self::Q8_0 => None,
            Self::Q4K => Some(BlockType::Q6_K),
        }
    }

    /// The type of smaller blocks for other rows.
    pub(super) fn smaller(self) -> Option<BlockType> {
        match self {
            Self::Q8_0 => None,
            Self::Q4K => Some(BlockType::Q5_0),
        }
    }

    /// What becomes of a matrix of a block, with rows of so many values.
    pub(super) fn treatment(self, part: PartName, tensor: &str, row_values: usize) -> Treatment {
        let fits = |block_type: &BlockType| row_values.is_multiple_of(block_type.block_values());
        let finer = self.finer().filter(|_| self.keeps_more_bits(part, tensor));
        if finer.filter(fits).is_some() {
            Treatment::WithMoreBits
        } else if fits(&self.wanted()) {
            Treatment::AsAsked
        } else if self.smaller().filter(fits).is_some() {
            Treatment::InSmallerBlocks
        } else {
            Treatment::RowsDoNotFit
        }
    }

    /// The type of the weights that are treated so; `None` when they stay as they are.
    pub(super) fn block_type(self, treatment: Treatment) -> Option<BlockType> {
        match treatment {
            Treatment::AsAsked => Some(self.wanted()),
            Treatment::WithMoreBits => self.finer(),
            Treatment::InSmallerBlocks => self.smaller(),
            Treatment::RowsDoNotFit | Treatment::NotForQuantising => None,
        }
    }
}

impl Display for QuantizedType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QuantizedType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == name);
        found.ok_or_else(|| "expected q8_0 or q4_k".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weighs_more_in_the_text_encoder_keeps_more_bits_where_its_rows_allow() {
        let (query, value) = ("a.SelfAttention.q.weight", "a.SelfAttention.v.weight");
        let (first, second) = ("a.DenseReluDense.wi_0.weight", "a.DenseReluDense.wo.weight");
        let type_of = |asked: QuantizedType, part, name, row_values| {
            asked.block_type(asked.treatment(part, name, row_values)).map(BlockType::name)
        };
        for (name, found) in [(query, "Q4_K"), (value, "Q6_K"), (first, "Q4_K"), (second, "Q6_K")] {
            assert_eq!(type_of(QuantizedType::Q4K, PartName::T5, name, 512), Some(found));
            assert_eq!(type_of(QuantizedType::Q4K, PartName::T5, name, 96), Some("Q5_0"));
            assert_eq!(type_of(QuantizedType::Q4K, PartName::T5, name, 40), None);
            assert_eq!(type_of(QuantizedType::Q4K, PartName::Stdit3, name, 512), Some("Q4_K"));
            assert_eq!(type_of(QuantizedType::Q8_0, PartName::T5, name, 512), Some("Q8_0"));
        }
    }
}
