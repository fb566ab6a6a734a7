//! A block of the text encoder.

use serde::{Deserialize, Serialize};
use sora_models::Result;
use sora_models::bundle::PartName;
use sora_models::t5::{RelativePositionBias, T5Block, T5Config};

use super::{BuiltPart, PartMaker};

/// One text through one block, with the position bias, which is made once as in the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct T5BlockPart {
    /// Tokens of the text.
    pub tokens: usize,
}

impl T5BlockPart {
    pub(super) fn build(&self, maker: &PartMaker) -> Result<BuiltPart> {
        let (config, weights) = (maker.preset.t5_config()?, maker.weights(PartName::T5));
        let bias = RelativePositionBias::load(&weights, &config)?.bias(self.tokens)?;
        let block = T5Block::load(&weights, &config, 0)?;
        let x = maker.input(&[1, self.tokens, config.d_model])?;
        Ok(Box::new(move || block.forward(&x, &bias)))
    }

    /// Four projections of attention and three of the feed-forward layer.
    pub(super) fn multiplications(&self, config: &T5Config) -> usize {
        let attention = 4 * config.d_model * config.attention_width();
        let feed_forward = 3 * config.d_model * config.d_ff;
        self.tokens * (attention + feed_forward)
    }

    pub(super) fn description(&self) -> String {
        format!("T5 block, one text of {} tokens", self.tokens)
    }
}
