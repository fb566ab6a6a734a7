//! One encoder block: self-attention and a gated feed-forward layer, each behind a norm and beside a residual.

use candle_core::Tensor;

use super::config::T5Config;
use crate::error::Result;
use crate::nn::{Linear, RmsNorm, biased_attention, scaled_dot_product_attention};
use crate::weights::Weights;

/// One block of the encoder, independent of the others.
pub struct T5Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    num_heads: usize,
}

impl T5Block {
    /// Reads block `index`. `weights` is the root of the T5 checkpoint.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &T5Config, index: usize) -> Result<Self> {
        let layers = weights.pp("encoder.block").pp(index).pp("layer");
        let (attention, feed_forward) = (layers.pp(0), layers.pp(1));
        let (model, heads) = (config.d_model, config.attention_width());
        let epsilon = config.layer_norm_epsilon;
        let projection = |name: &str, from, to| {
            Linear::load_without_bias(&attention.pp("SelfAttention").pp(name), from, to)
        };
        let dense = |name: &str, from, to| {
            Linear::load_without_bias(&feed_forward.pp("DenseReluDense").pp(name), from, to)
        };
        Ok(Self {
            attention_norm: RmsNorm::load(&attention.pp("layer_norm"), model, epsilon)?,
            q: projection("q", model, heads)?,
            k: projection("k", model, heads)?,
            v: projection("v", model, heads)?,
            o: projection("o", heads, model)?,
            feed_forward_norm: RmsNorm::load(&feed_forward.pp("layer_norm"), model, epsilon)?,
            gate: dense("wi_0", model, config.d_ff)?,
            up: dense("wi_1", model, config.d_ff)?,
            down: dense("wo", config.d_ff, model)?,
            num_heads: config.num_heads,
        })
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// `x` `[B, L, d_model]` to the same; `position_bias` broadcastable to `[B, heads, L, L]`, with whatever hides
    /// padding added to it.
    ///
    /// # Errors
    /// The shapes do not fit each other.
    ///
    /// # Source
    /// `T5Block` of Hugging Face's `modeling_t5.py`.
    pub fn forward(&self, x: &Tensor, position_bias: &Tensor) -> Result<Tensor> {
        let attended = self.attend(&self.attention_norm.forward(x)?, position_bias)?;
        let x = self.o.forward_onto(&attended, x)?;
        drop(attended);
        let normed = self.feed_forward_norm.forward(&x)?;
        let hidden = Linear::forward_gelu_gated(&self.gate, &self.up, &normed)?;
        self.down.forward_onto(&hidden, &x)
    }

    /// What the tokens see of each other, before the last projection.
    fn attend(&self, x: &Tensor, position_bias: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let heads = |projected: Tensor| -> Result<Tensor> {
            Ok(projected.reshape((batch, length, self.num_heads, ()))?.transpose(1, 2)?)
        };
        let [q, k, v] = Linear::forward_each([&self.q, &self.k, &self.v], x)?;
        if let Some(attended) = biased_attention([&q, &k, &v], position_bias, self.num_heads)? {
            return Ok(attended);
        }
        // T5 does not scale by the head's width: its initialisation accounts for that.
        let attended = scaled_dot_product_attention(
            &heads(q)?,
            &heads(k)?,
            &heads(v)?,
            1.0,
            Some(position_bias),
        )?;
        Ok(attended.transpose(1, 2)?.reshape((batch, length, ()))?)
    }
}
