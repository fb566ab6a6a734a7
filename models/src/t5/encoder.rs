//! The encoder over its blocks, holding the weights of one at a time.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use super::block::T5Block;
use super::config::T5Config;
use super::position_bias::RelativePositionBias;
use crate::error::{ModelError, Result};
use crate::nn::RmsNorm;
use crate::probe::Probe;
use crate::weights::{LoadGroup, Weights};

/// Texts that go through the encoder together: rows of token ids, and which of them count.
pub struct TokenBatch {
    ids: Vec<Vec<u32>>,
    /// `[B, 1, 1, L]`: 1 for a token that counts, 0 for padding; `None` when all count.
    mask: Option<Tensor>,
}

impl TokenBatch {
    /// One text without padding. Its result does not depend on what else is encoded at the same time.
    pub fn unpadded(ids: &[u32]) -> Self {
        Self { ids: vec![ids.to_vec()], mask: None }
    }

    /// Texts of one padded length.
    ///
    /// # Shapes
    /// `ids` and `mask` `[B, L]`; the mask is 1 for a token that counts and 0 for padding.
    ///
    /// # Errors
    /// The shapes differ, or are not of two axes.
    pub fn padded(ids: &Tensor, mask: &Tensor) -> Result<Self> {
        if ids.dims() != mask.dims() {
            let (ids, mask) = (ids.dims(), mask.dims());
            return Err(ModelError::BadInput(format!("token ids {ids:?} with a mask {mask:?}")));
        }
        let ids = ids.to_dtype(DType::U32)?.to_vec2()?;
        Ok(Self { ids, mask: Some(mask.unsqueeze(1)?.unsqueeze(1)?) })
    }

    fn length(&self) -> usize {
        self.ids.first().map_or(0, Vec::len)
    }
}

/// T5's encoder over weights that are read block by block, and not kept.
///
/// [`T5Encoder::encode`] does all of it. Who wants to load blocks elsewhere goes through the same steps:
/// [`T5Encoder::begin`], [`T5Pass::advance`] for each [`T5Block`], [`T5Encoder::finish`].
#[derive(Clone)]
pub struct T5Encoder {
    weights: Weights,
    config: T5Config,
}

/// Texts on their way through the blocks.
#[derive(Clone)]
pub struct T5Pass {
    batches: Vec<BatchState>,
    blocks_done: usize,
}

#[derive(Clone)]
struct BatchState {
    /// `[B, L, d_model]`
    hidden: Tensor,
    /// `[1 or B, heads, L, L]`
    bias: Tensor,
}

impl T5Pass {
    /// Runs all texts through the next block. Taps `block_N`.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn advance(&mut self, block: &T5Block, probe: &mut dyn Probe) -> Result<()> {
        let name = format!("block_{}", self.blocks_done);
        for batch in &mut self.batches {
            batch.hidden = block.forward(&batch.hidden, &batch.bias)?;
            probe.tap(&name, &batch.hidden);
        }
        self.blocks_done += 1;
        Ok(())
    }
}

impl T5Encoder {
    /// An encoder over `weights`, the root of a T5 checkpoint. Nothing is read yet.
    pub fn new(weights: Weights, config: T5Config) -> Self {
        Self { weights, config }
    }

    /// The sizes.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Where the weights come from.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Every parameter of an encoder of these sizes: official name to shape.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn parameters(config: &T5Config) -> Result<BTreeMap<String, Vec<usize>>> {
        let groups = Self::load_groups(config)?.into_iter();
        Ok(groups.flat_map(|group| group.parameters).collect())
    }

    /// The same parameters by when they are needed: those around the blocks, then block by block.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn load_groups(config: &T5Config) -> Result<Vec<LoadGroup>> {
        let ends = LoadGroup::record("ends", |weights| {
            let encoder = Self::new(weights.clone(), config.clone());
            encoder.rows(&[config.pad_token_id])?;
            RelativePositionBias::load(weights, config)?;
            encoder.final_norm().map(drop)
        });
        let blocks = (0..config.num_layers).map(|index| {
            LoadGroup::record(format!("encoder.block.{index}"), |weights| {
                T5Block::load(weights, config, index).map(drop)
            })
        });
        std::iter::once(ends).chain(blocks).collect()
    }

    /// Encodes texts, reading each block once for all of them. Taps `embed`, `block_0`, ... and
    /// `last_hidden_state`.
    ///
    /// # Shapes
    /// `[B, L, d_model]` for each batch.
    ///
    /// # Errors
    /// Weights are missing or damaged, a token is beyond the vocabulary, or the result is not finite.
    pub fn encode(&self, batches: &[TokenBatch], probe: &mut dyn Probe) -> Result<Vec<Tensor>> {
        let mut pass = self.begin(batches, probe)?;
        for index in 0..self.config.num_layers {
            pass.advance(&T5Block::load(&self.weights, &self.config, index)?, probe)?;
        }
        self.finish(pass, probe)
    }

    /// Looks up the token embeddings and the position bias. Taps `embed`.
    ///
    /// # Errors
    /// As [`T5Encoder::encode`].
    pub fn begin(&self, batches: &[TokenBatch], probe: &mut dyn Probe) -> Result<T5Pass> {
        // One read for all texts, each distinct token once and in the order of the file.
        let tokens: BTreeSet<u32> =
            batches.iter().flat_map(|batch| batch.ids.iter().flatten()).copied().collect();
        let tokens: Vec<u32> = tokens.into_iter().collect();
        let rows = self.rows(&tokens)?;
        let position_bias = RelativePositionBias::load(&self.weights, &self.config)?;
        let batches = batches.iter().map(|batch| {
            let hidden = self.embed(batch, &tokens, &rows)?;
            probe.tap("embed", &hidden);
            let mut bias = position_bias.bias(batch.length())?;
            if let Some(mask) = &batch.mask {
                bias = bias.broadcast_add(&self.hiding(mask)?)?;
            }
            Ok(BatchState { hidden, bias })
        });
        Ok(T5Pass { batches: batches.collect::<Result<_>>()?, blocks_done: 0 })
    }

    /// Applies the final norm. Taps `last_hidden_state`.
    ///
    /// # Shapes
    /// `[B, L, d_model]` for each batch, in their order.
    ///
    /// # Errors
    /// As [`T5Encoder::encode`].
    pub fn finish(&self, pass: T5Pass, probe: &mut dyn Probe) -> Result<Vec<Tensor>> {
        let norm = self.final_norm()?;
        let finished = pass.batches.into_iter().map(|batch| {
            let hidden = norm.forward(&batch.hidden)?;
            probe.tap("last_hidden_state", &hidden);
            let sum = hidden.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(ModelError::NotFinite { what: "the text embedding".into() });
            }
            Ok(hidden)
        });
        finished.collect()
    }

    /// `[B, L, d_model]` out of the rows that were read for `tokens`, which are sorted.
    fn embed(&self, batch: &TokenBatch, tokens: &[u32], rows: &Tensor) -> Result<Tensor> {
        let (length, found) =
            (batch.length(), |id: &u32| tokens.partition_point(|token| token < id));
        let positions: Vec<u32> = batch.ids.iter().flatten().map(|id| found(id) as u32).collect();
        let positions = Tensor::new(positions, rows.device())?;
        let embedded = rows.index_select(&positions, 0)?;
        Ok(embedded.reshape((batch.ids.len(), length, self.config.d_model))?)
    }

    fn rows(&self, tokens: &[u32]) -> Result<Tensor> {
        let shape = (self.config.vocab_size, self.config.d_model);
        self.weights.rows("shared.weight", shape, tokens)
    }

    fn final_norm(&self) -> Result<RmsNorm> {
        let place = self.weights.pp("encoder.final_layer_norm");
        RmsNorm::load(&place, self.config.d_model, self.config.layer_norm_epsilon)
    }

    /// What is added to scores so that no attention falls on masked tokens: the lowest number of the dtype.
    fn hiding(&self, mask: &Tensor) -> Result<Tensor> {
        let dtype = self.weights.dtype();
        let lowest = match dtype {
            DType::F16 => f64::from(half::f16::MIN),
            DType::BF16 => f64::from(half::bf16::MIN),
            _ => f64::from(f32::MIN),
        };
        let hidden = (1.0 - mask.to_device(self.weights.device())?.to_dtype(DType::F32)?)?;
        Ok((hidden * lowest)?.to_dtype(dtype)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use candle_core::{Device, Shape};

    use super::*;
    use crate::probe::NoProbe;
    use crate::weights::{TensorInfo, TensorSource};

    /// Random weights of whatever shape is asked for, the same for the same name.
    struct RandomSource;

    impl TensorSource for RandomSource {
        fn location(&self) -> &std::path::Path {
            std::path::Path::new("(random)")
        }

        fn names(&self) -> Vec<String> {
            Vec::new()
        }

        fn info(&self, _name: &str) -> Option<TensorInfo> {
            None
        }

        fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
            let mut state =
                name.bytes().fold(7u32, |state, byte| state.wrapping_mul(31) + u32::from(byte));
            let values = (0..shape.elem_count()).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            Ok(Tensor::from_iter(values, device)?.reshape(shape)?.to_dtype(dtype)?)
        }
    }

    fn encoder() -> T5Encoder {
        let json = r#"{"vocab_size": 50, "d_model": 12, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 2,
            "feed_forward_proj": "gated-gelu"}"#;
        let config = T5Config::from_json(json, std::path::Path::new("config.json")).unwrap();
        T5Encoder::new(Weights::new(Arc::new(RandomSource), DType::F32, &Device::Cpu), config)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn texts_together_give_the_bits_that_each_gives_alone() {
        let (encoder, texts) = (encoder(), [vec![7, 3, 7, 1], vec![49, 0, 2, 20, 21, 1]]);
        let batches: Vec<_> = texts.iter().map(|text| TokenBatch::unpadded(text)).collect();
        let together = encoder.encode(&batches, &mut NoProbe).unwrap();
        for (text, together) in texts.iter().zip(&together) {
            let alone = encoder.encode(&[TokenBatch::unpadded(text)], &mut NoProbe).unwrap();
            assert_eq!(together.dims(), [1, text.len(), 12]);
            assert_eq!(values(&alone[0]), values(together));
        }
    }

    #[test]
    fn padding_changes_nothing_for_the_tokens_that_count() {
        let encoder = encoder();
        let ids = Tensor::new(&[[7u32, 3, 1, 0, 0]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[1u32, 1, 1, 0, 0]], &Device::Cpu).unwrap();
        let batch = TokenBatch::padded(&ids, &mask).unwrap();
        let padded = encoder.encode(&[batch], &mut NoProbe).unwrap();
        let plain = encoder.encode(&[TokenBatch::unpadded(&[7, 3, 1])], &mut NoProbe).unwrap();
        let counted = values(&padded[0].narrow(1, 0, 3).unwrap());
        for (a, b) in counted.iter().zip(values(&plain[0])) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_an_error() {
        let error = encoder().encode(&[TokenBatch::unpadded(&[50])], &mut NoProbe);
        assert!(error.is_err());
    }

    #[test]
    fn the_parameters_are_those_of_the_blocks_and_three_more() {
        let parameters = T5Encoder::parameters(encoder().config()).unwrap();
        assert_eq!(parameters.len(), 3 + 2 * 9);
        assert_eq!(parameters["shared.weight"], [50, 12]);
    }
}
