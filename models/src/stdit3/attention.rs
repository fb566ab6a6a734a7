//! The two attentions of a block: among the video's tokens, and from them to the text.

use candle_core::Tensor;

use super::config::Stdit3Config;
use super::context::PackedText;
use super::modulation::EPSILON;
use crate::error::Result;
use crate::nn::{Linear, PackedLinear, RmsNorm, RotaryTable, scaled_dot_product_attention};
use crate::weights::Weights;

/// Self-attention with normed queries and keys.
pub(super) struct SelfAttention {
    qkv: Linear,
    query_key_norms: Option<(RmsNorm, RmsNorm)>,
    projection: Linear,
    heads: usize,
    head_size: usize,
}

impl SelfAttention {
    /// Reads `qkv`, `q_norm` and `k_norm` (with `qk_norm`), `proj`.
    pub(super) fn load(weights: &Weights, config: &Stdit3Config) -> Result<Self> {
        let (hidden, head_size) = (config.hidden_size, config.head_size());
        let norm = |name| RmsNorm::load(&weights.pp(name), head_size, EPSILON);
        let query_key_norms =
            if config.qk_norm { Some((norm("q_norm")?, norm("k_norm")?)) } else { None };
        Ok(Self {
            qkv: Linear::load(&weights.pp("qkv"), hidden, 3 * hidden)?,
            query_key_norms,
            projection: Linear::load(&weights.pp("proj"), hidden, hidden)?,
            heads: config.num_heads,
            head_size,
        })
    }

    /// # Shapes
    /// `[N, L, C]` to the same: `N` sequences that do not see each other.
    pub(super) fn forward(&self, x: &Tensor, rotary: Option<&RotaryTable>) -> Result<Tensor> {
        let (sequences, length, hidden) = x.dims3()?;
        let qkv = self.qkv.forward(x)?;
        let qkv = qkv.reshape((sequences, length, 3, self.heads, self.head_size))?;
        let part = |index| -> Result<Tensor> { Ok(qkv.narrow(2, index, 1)?.squeeze(2)?) };
        let (mut query, mut key, value) = (part(0)?, part(1)?, part(2)?.transpose(1, 2)?);
        if let Some((query_norm, key_norm)) = &self.query_key_norms {
            (query, key) = (query_norm.forward(&query)?, key_norm.forward(&key)?);
        }
        (query, key) = (query.transpose(1, 2)?, key.transpose(1, 2)?);
        if let Some(table) = rotary {
            (query, key) = (table.rotate(&query)?, table.rotate(&key)?);
        }
        let scale = 1.0 / (self.head_size as f64).sqrt();
        let mixed = scaled_dot_product_attention(&query, &key, &value, scale, None)?;
        self.projection.forward(&mixed.transpose(1, 2)?.reshape((sequences, length, hidden))?)
    }
}

/// The weights of self-attention as the CPU multiplies them.
pub(super) struct SelfWeights<'a> {
    pub(super) qkv: &'a PackedLinear,
    /// Weight and epsilon, of queries and keys.
    pub(super) norms: Option<[(Vec<f32>, f64); 2]>,
    pub(super) projection: &'a PackedLinear,
    pub(super) heads: usize,
}

impl SelfAttention {
    /// The weights where they can be worked with row by row.
    pub(super) fn packed(&self) -> Result<Option<SelfWeights<'_>>> {
        let Some((qkv, projection)) = self.qkv.packed().zip(self.projection.packed()) else {
            return Ok(None);
        };
        let norm = |norm: &RmsNorm| -> Result<_> {
            let (weight, eps) = norm.parts();
            Ok((weight.to_vec1()?, eps))
        };
        let norms = match &self.query_key_norms {
            Some((query, key)) => Some([norm(query)?, norm(key)?]),
            None => None,
        };
        Ok(Some(SelfWeights { qkv, norms, projection, heads: self.heads }))
    }
}

/// Attention from each row's video tokens to that row's own text tokens.
pub(super) struct CrossAttention {
    query: Linear,
    key_value: Linear,
    projection: Linear,
    heads: usize,
    head_size: usize,
}

impl CrossAttention {
    /// Reads `q_linear`, `kv_linear` and `proj`.
    pub(super) fn load(weights: &Weights, config: &Stdit3Config) -> Result<Self> {
        let hidden = config.hidden_size;
        Ok(Self {
            query: Linear::load(&weights.pp("q_linear"), hidden, hidden)?,
            key_value: Linear::load(&weights.pp("kv_linear"), hidden, 2 * hidden)?,
            projection: Linear::load(&weights.pp("proj"), hidden, hidden)?,
            heads: config.num_heads,
            head_size: config.head_size(),
        })
    }

    /// # Shapes
    /// `[rows, L, C]` to the same.
    pub(super) fn forward(&self, x: &Tensor, text: &PackedText) -> Result<Tensor> {
        let (rows, length, hidden) = x.dims3()?;
        let query = self.query.forward(x)?.reshape((rows, length, self.heads, self.head_size))?;
        let text_tokens = text.tokens.dim(1)?;
        let key_value = self.key_value.forward(&text.tokens)?;
        let key_value = key_value.reshape((1, text_tokens, 2, self.heads, self.head_size))?;
        let scale = 1.0 / (self.head_size as f64).sqrt();
        // Row by row: the rows' texts differ in length, and the scores of one row at a time need less memory.
        let mut mixed = Vec::with_capacity(rows);
        let mut start = 0;
        for (row, &tokens) in text.lengths.iter().enumerate() {
            let own = key_value.narrow(1, start, tokens)?;
            let part = |index| own.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2);
            let query = query.narrow(0, row, 1)?.transpose(1, 2)?;
            let row = scaled_dot_product_attention(&query, &part(0)?, &part(1)?, scale, None)?;
            mixed.push(row.transpose(1, 2)?.reshape((1, length, hidden))?);
            start += tokens;
        }
        self.projection.forward(&Tensor::cat(&mixed, 0)?)
    }
}

/// The weights of cross-attention as the CPU multiplies them.
pub(super) struct CrossWeights<'a> {
    pub(super) query: &'a PackedLinear,
    pub(super) key_value: &'a Linear,
    pub(super) projection: &'a PackedLinear,
    pub(super) heads: usize,
}

impl CrossAttention {
    /// The weights where they can be worked with row by row.
    pub(super) fn packed(&self) -> Option<CrossWeights<'_>> {
        let (query, projection) = self.query.packed().zip(self.projection.packed())?;
        Some(CrossWeights { query, key_value: &self.key_value, projection, heads: self.heads })
    }
}
