//! The sizes of a T5 encoder, as its `config.json` gives them.

use std::path::Path;

use serde::Deserialize;

use crate::config_limits::{check_layers, check_widths};
use crate::error::{ModelError, Result};

/// A Hugging Face `T5Config`, as far as the encoder needs it; other fields are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct T5Config {
    /// Rows of the token embedding. May exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one attention head.
    pub d_kv: usize,
    /// Attention heads; their widths together need not equal `d_model`.
    pub num_heads: usize,
    /// Width of the feed-forward layer.
    pub d_ff: usize,
    /// Encoder blocks.
    pub num_layers: usize,
    /// Buckets that relative positions fall into, half of them for each direction.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share the last bucket.
    #[serde(default = "default_distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in every norm.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Kind of feed-forward layer: `gated-gelu` is T5 v1.1, the only one supported.
    pub feed_forward_proj: String,
    /// Token that fills up short prompts.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Token that ends a prompt.
    #[serde(default = "default_end")]
    pub eos_token_id: u32,
}

// What `T5Config` of Hugging Face's transformers takes for fields that a file leaves out.
fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_end() -> u32 {
    1
}

impl T5Config {
    /// Parses and checks a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Config`] that says which field is wrong.
    pub fn from_json(json: &str, file: &Path) -> Result<Self> {
        let unusable = |reason: String| ModelError::Config { file: file.to_path_buf(), reason };
        let config: Self =
            serde_json::from_str(json).map_err(|cause| unusable(cause.to_string()))?;
        config.check().map_err(unusable)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_widths(&[
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("num_heads", self.num_heads),
            ("d_ff", self.d_ff),
            ("num_heads * d_kv", self.num_heads.saturating_mul(self.d_kv)),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets),
            ("relative_attention_max_distance", self.relative_attention_max_distance),
        ])?;
        check_layers(&[("num_layers", self.num_layers)])?;
        if self.feed_forward_proj != "gated-gelu" {
            return Err(format!(
                "feed_forward_proj is `{}`, but only `gated-gelu` (T5 v1.1) is supported",
                self.feed_forward_proj
            ));
        }
        let (buckets, distance) =
            (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets % 4 != 0 {
            return Err(format!(
                "relative_attention_num_buckets is {buckets}, expected a multiple of 4"
            ));
        }
        if distance <= buckets / 4 {
            return Err(format!(
                "relative_attention_max_distance is {distance}, expected more than {} for {buckets} buckets",
                buckets / 4
            ));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(format!("layer_norm_epsilon is {}", self.layer_norm_epsilon));
        }
        for (field, token) in
            [("pad_token_id", self.pad_token_id), ("eos_token_id", self.eos_token_id)]
        {
            if token as usize >= self.vocab_size {
                return Err(format!("{field} is {token}, beyond vocab_size {}", self.vocab_size));
            }
        }
        Ok(())
    }

    /// Width of all attention heads together.
    pub fn attention_width(&self) -> usize {
        self.num_heads * self.d_kv
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TINY: &str = r#"{"vocab_size": 384, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128,
        "num_layers": 3, "feed_forward_proj": "gated-gelu", "model_type": "t5"}"#;

    #[test]
    fn absent_fields_have_the_defaults_of_transformers_and_unknown_ones_are_ignored() {
        let config = T5Config::from_json(TINY, Path::new("config.json")).unwrap();
        assert_eq!(config.relative_attention_num_buckets, 32);
        assert_eq!(config.relative_attention_max_distance, 128);
        assert_eq!((config.pad_token_id, config.eos_token_id), (0, 1));
        assert_eq!(config.attention_width(), 64);
    }

    #[test]
    fn a_config_that_cannot_be_is_refused_with_the_field_and_the_file() {
        for (right, wrong, told) in [
            ("\"d_model\": 64", "\"d_model\": 0", "d_model is 0"),
            ("\"d_model\": 64", "\"d_model\": 4611686018427387904", "expected 1 to 1048576"),
            ("\"num_layers\": 3", "\"num_layers\": 1000000000", "num_layers is 1000000000"),
            ("\"d_kv\": 16", "\"d_kv\": 1048576", "num_heads * d_kv is 4194304"),
            ("gated-gelu", "relu", "feed_forward_proj is `relu`"),
            ("\"d_kv\": 16,", "", "missing field `d_kv`"),
            ("\"vocab_size\": 384", "\"vocab_size\": 1", "eos_token_id is 1"),
            ("\"model_type\"", "\"relative_attention_num_buckets\": 6, \"m\"", "multiple of 4"),
            ("\"model_type\"", "\"relative_attention_max_distance\": 8, \"m\"", "more than 8"),
        ] {
            let error =
                T5Config::from_json(&TINY.replace(right, wrong), Path::new("x/config.json"));
            let text = error.unwrap_err().to_string();
            assert!(text.contains(told) && text.contains("x/config.json"), "{text}");
        }
    }
}
