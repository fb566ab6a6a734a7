//! Prompts through T5, block by block.

use sora_models::footprint::ActivationBytes;
use sora_models::probe::NoProbe;
use sora_models::t5::{PromptTokenizer, T5Block, T5Encoder, T5Pass, TokenBatch, TokenizedPrompt};

use crate::block_loader::{BlockFeed, LoadedBlock};
use crate::compute::{BlockSpan, Computed, EmbedPrompts, EmbeddedPrompt};
use crate::messages::{GenerationRequest, PromptEmbedding};

/// Tokenizer and encoder.
pub struct TextEncoder {
    tokenizer: PromptTokenizer,
    encoder: T5Encoder,
    blocks: BlockFeed<T5Block>,
    memory: EmbeddingMemory,
}

/// What embedding takes besides blocks that are kept or read ahead.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingMemory {
    /// The largest block.
    pub block_bytes: u64,
    /// The activations of a prompt of the greatest length.
    pub activations: ActivationBytes,
}

impl EmbeddingMemory {
    /// Bytes for a sweep of so many prompts.
    pub fn bytes(&self, prompts: usize) -> u64 {
        let carried = self.activations.carried * prompts as u64;
        self.block_bytes + self.activations.working + carried
    }
}

/// A prompt on its way through the blocks.
pub struct PromptPass {
    caption: String,
    tokenized: TokenizedPrompt,
    pass: T5Pass,
}

impl TextEncoder {
    /// The encoder of a model with blocks out of `blocks`, and its tokenizer.
    pub fn new(
        tokenizer: PromptTokenizer,
        encoder: T5Encoder,
        blocks: BlockFeed<T5Block>,
        memory: EmbeddingMemory,
    ) -> Self {
        Self { tokenizer, encoder, blocks, memory }
    }
}

impl BlockSpan for TextEncoder {
    type Activation = PromptPass;
    type Block = LoadedBlock<T5Block>;

    fn block_count(&self) -> usize {
        self.blocks.block_count()
    }

    fn acquire(&mut self, index: usize) -> Computed<Self::Block> {
        self.blocks.acquire(index)
    }

    fn rest(&mut self) {
        self.blocks.rest();
    }

    fn run(&self, block: &Self::Block, activation: &mut PromptPass) -> Computed<()> {
        Ok(activation.pass.advance(block, &mut NoProbe)?)
    }
}

impl EmbedPrompts for TextEncoder {
    fn working_bytes(&self, requests: &[&GenerationRequest]) -> u64 {
        self.memory.bytes(requests.len())
    }

    fn cache_key(&self, request: &GenerationRequest) -> Option<String> {
        // A prompt that cannot be cleaned fails when it is embedded.
        request.caption().ok()
    }

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
