//! A graph that only denoises: no time goes into prompts and frames when blocks are the question.

use std::ops::ControlFlow;

use candle_core::Device;
use sora_actors::compute::{
    BlockSpan, Computed, DecodeLatent, EmbedPrompts, EmbeddedPrompt, EmbeddedTexts,
};
use sora_actors::messages::{GenerationRequest, Latent, PromptEmbedding, VideoChunk};
use sora_models::rflow::initial_noise;

use crate::topology::GraphCompute;

/// Tokens of a made-up prompt. Our choice: two sentences.
const PROMPT_TOKENS: usize = 40;

/// The graph's computation with its ends taken off; `width` is that of an embedding.
pub(super) fn denoising_only<E, D, S, V>(
    compute: GraphCompute<E, D, S, V>,
    width: usize,
) -> GraphCompute<RandomEmbeddings, D, S, NoDecoder> {
    // The loaders of the two that go end when they find nobody to serve.
    let GraphCompute { denoiser, spans, loaders, ledger, .. } = compute;
    let encoder = RandomEmbeddings { width };
    GraphCompute { encoder, denoiser, spans, decoder: NoDecoder, loaders, ledger }
}

/// Draws embeddings from the request's seed.
pub(super) struct RandomEmbeddings {
    width: usize,
}

impl BlockSpan for RandomEmbeddings {
    type Activation = GenerationRequest;
    type Block = ();

    fn block_count(&self) -> usize {
        0
    }

    fn acquire(&mut self, _index: usize) -> Computed<()> {
        Ok(())
    }

    fn run(&self, (): &(), _request: &mut GenerationRequest) -> Computed<()> {
        Ok(())
    }
}

impl EmbedPrompts for RandomEmbeddings {
    fn begin(&self, request: &GenerationRequest) -> Computed<GenerationRequest> {
        Ok(request.clone())
    }

    fn finish(&self, request: GenerationRequest) -> Computed<EmbeddedTexts> {
        let hidden = initial_noise(request.seed, &[1, PROMPT_TOKENS, self.width], &Device::Cpu)?;
        let (ids, mask) = (vec![1; PROMPT_TOKENS], vec![1; PROMPT_TOKENS]);
        let embedding = PromptEmbedding::from_tensor(ids, mask, &hidden)?;
        let prompt = EmbeddedPrompt { caption: request.prompt, embedding, cut: None };
        Ok(EmbeddedTexts::alone(prompt))
    }
}

/// Throws latents away.
pub(super) struct NoDecoder;

impl DecodeLatent for NoDecoder {
    fn decode(
        &mut self,
        _latent: &Latent,
        _emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()> {
        Ok(())
    }
}
