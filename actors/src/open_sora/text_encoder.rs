//! Prompts through T5, one block of weights in memory at a time.

use sora_models::probe::NoProbe;
use sora_models::t5::{PromptTokenizer, T5Block, T5Encoder, T5Pass, TokenBatch, TokenizedPrompt};

use crate::compute::{BlockSpan, Computed, EmbedPrompts, EmbeddedPrompt};
use crate::messages::{GenerationRequest, PromptEmbedding};

/// Tokenizer and encoder.
pub struct TextEncoder {
    tokenizer: PromptTokenizer,
    encoder: T5Encoder,
}

/// A prompt on its way through the blocks.
pub struct PromptPass {
    caption: String,
    tokenized: TokenizedPrompt,
    pass: T5Pass,
}

impl TextEncoder {
    /// The encoder of a model, and its tokenizer.
    pub fn new(tokenizer: PromptTokenizer, encoder: T5Encoder) -> Self {
        Self { tokenizer, encoder }
    }
}

impl BlockSpan for TextEncoder {
    type Activation = PromptPass;
    type Block = T5Block;

    fn block_count(&self) -> usize {
        self.encoder.config().num_layers
    }

    fn acquire(&mut self, index: usize) -> Computed<T5Block> {
        Ok(T5Block::load(self.encoder.weights(), self.encoder.config(), index)?)
    }

    fn run(&self, block: &T5Block, activation: &mut PromptPass) -> Computed<()> {
        Ok(activation.pass.advance(block, &mut NoProbe)?)
    }
}

impl EmbedPrompts for TextEncoder {
    fn begin(&self, request: &GenerationRequest) -> Computed<PromptPass> {
        let caption = request.caption()?;
        let tokenized = self.tokenizer.tokenize(&caption)?;
        // Padding would be masked out in every attention: leaving it out saves its work.
        let batch = TokenBatch::unpadded(&tokenized.ids);
        let pass = self.encoder.begin(&[batch], &mut NoProbe)?;
        Ok(PromptPass { caption, tokenized, pass })
    }

    fn finish(
        &self,
        PromptPass { caption, tokenized, pass }: PromptPass,
    ) -> Computed<EmbeddedPrompt> {
        let hidden = self.encoder.finish(pass, &mut NoProbe)?;
        let hidden = hidden.first().expect("invariant: one batch in, one out");
        let mask = vec![1; tokenized.ids.len()];
        let embedding = PromptEmbedding::from_tensor(tokenized.ids, mask, hidden)?;
        Ok(EmbeddedPrompt { caption, embedding, cut: tokenized.cut })
    }
}
