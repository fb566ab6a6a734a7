//! Prompts through T5, block by block.

use sora_models::ModelError;
use sora_models::device_work::{finish_work, free_dropped};
use sora_models::footprint::ActivationBytes;
use sora_models::guiding_texts::GuidingTexts;
use sora_models::probe::NoProbe;
use sora_models::t5::{PromptTokenizer, T5Block, T5Encoder, T5Pass, TokenBatch, TokenizedPrompt};

use super::loading::DeviceBlock;
use crate::block_loader::{BlockFeed, LoadedBlock};
use crate::compute::{BlockSpan, Computed, EmbedPrompts, EmbeddedPrompt, EmbeddedTexts};
use crate::error::StageFailure;
use crate::messages::{GenerationRequest, PromptEmbedding};

/// Tokenizer and encoder.
pub struct TextEncoder {
    tokenizer: PromptTokenizer,
    encoder: T5Encoder,
    blocks: BlockFeed<DeviceBlock<T5Block>>,
    memory: EmbeddingMemory,
}

/// What embedding takes besides blocks that are kept or read ahead.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingMemory {
    /// The largest block.
    pub block_bytes: u64,
    /// The activations of a text of the greatest length.
    pub activations: ActivationBytes,
}

impl EmbeddingMemory {
    /// Bytes for a sweep of so many texts, prompts and negative ones.
    pub fn bytes(&self, texts: usize) -> u64 {
        let carried = self.activations.carried * texts as u64;
        self.block_bytes + self.activations.working + carried
    }
}

/// A request's texts on their way through the blocks, each by itself.
pub struct PromptPass {
    texts: GuidingTexts<ReadText>,
    pass: T5Pass,
}

struct ReadText {
    caption: String,
    tokenized: TokenizedPrompt,
}

impl TextEncoder {
    /// The encoder of a model with blocks out of `blocks`, and its tokenizer.
    pub fn new(
        tokenizer: PromptTokenizer,
        encoder: T5Encoder,
        blocks: BlockFeed<DeviceBlock<T5Block>>,
        memory: EmbeddingMemory,
    ) -> Self {
        Self { tokenizer, encoder, blocks, memory }
    }

    fn finish_work(&self) -> sora_models::Result<()> {
        finish_work(self.encoder.weights().device())
    }
}

impl BlockSpan for TextEncoder {
    type Activation = PromptPass;
    type Block = LoadedBlock<DeviceBlock<T5Block>>;

    fn block_count(&self) -> usize {
        self.blocks.block_count()
    }

    fn acquire(&mut self, index: usize) -> Computed<Self::Block> {
        self.blocks.acquire(index)
    }

    fn rest(&mut self) {
        self.blocks.rest();
        free_dropped(self.encoder.weights().device());
    }

    fn run(&self, block: &Self::Block, activation: &mut PromptPass) -> Computed<()> {
        activation.pass.advance(block, &mut NoProbe)?;
        Ok(self.finish_work()?)
    }
}

impl EmbedPrompts for TextEncoder {
    fn working_bytes(&self, requests: &[&GenerationRequest]) -> u64 {
        self.memory.bytes(requests.iter().map(|request| request.text_count()).sum())
    }

    fn captions(&self, request: &GenerationRequest) -> Option<GuidingTexts<String>> {
        // A text that cannot be cleaned fails when it is embedded.
        request.captions().ok()
    }

    fn begin(&self, request: &GenerationRequest) -> Computed<PromptPass> {
        let texts = request.captions()?.try_map(|caption| {
            let tokenized = self.tokenizer.tokenize(&caption)?;
            Ok::<_, ModelError>(ReadText { caption, tokenized })
        })?;
        // Padding would be masked out in every attention: leaving it out saves its work.
        let batches: Vec<_> =
            texts.iter().map(|text| TokenBatch::unpadded(&text.tokenized.ids)).collect();
        let pass = self.encoder.begin(&batches, &mut NoProbe)?;
        self.finish_work()?;
        Ok(PromptPass { texts, pass })
    }

    fn finish(&self, PromptPass { texts, pass }: PromptPass) -> Computed<EmbeddedTexts> {
        let mut hidden = self.encoder.finish(pass, &mut NoProbe)?.into_iter();
        let embedded = texts.try_map(|ReadText { caption, tokenized }| {
            let hidden = hidden.next().expect("invariant: a batch for each text, in their order");
            let mask = vec![1; tokenized.ids.len()];
            let embedding = PromptEmbedding::from_tensor(tokenized.ids, mask, &hidden)?;
            Ok::<_, StageFailure>(EmbeddedPrompt { caption, embedding, cut: tokenized.cut })
        })?;
        // Reading embeddings waited for them, but did not tell every failure.
        self.finish_work()?;
        Ok(embedded)
    }
}
