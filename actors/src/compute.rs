//! What the stages compute with, as small traits: the stages' logic knows no tensors, and can be tested without any.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use sora_models::guiding_texts::GuidingTexts;
use sora_models::rflow::SavedRun;

use crate::error::StageFailure;
use crate::messages::{Caption, GenerationRequest, Latent, PromptEmbedding, VideoChunk};

/// Result of one piece of computation.
pub type Computed<T> = Result<T, StageFailure>;

/// Consecutive blocks of a network, which activations pass one after the other.
///
/// Returning [`StageFailure::StageDied`] from any method means that the stage cannot work any more (a lost device,
/// say): all later jobs fail there, too. Any other failure, or a panic, fails the job alone.
pub trait BlockSpan: Send {
    /// What passes through the blocks.
    type Activation: Send;
    /// A block in memory, for as long as it is held.
    type Block;

    /// How many blocks there are.
    fn block_count(&self) -> usize;

    /// Brings a block into memory, or hands out one that is there already. Blocks are asked for in order, from 0 on; the
    /// block before has been dropped by then.
    ///
    /// # Errors
    /// The weights cannot be read.
    fn acquire(&mut self, index: usize) -> Computed<Self::Block>;

    /// Runs one activation through a block, in place.
    ///
    /// # Errors
    /// The computation failed.
    fn run(&self, block: &Self::Block, activation: &mut Self::Activation) -> Computed<()>;

    /// No sweep will follow for now: gives back what was brought into memory for one.
    fn rest(&mut self) {}
}

/// The text encoder: a span of blocks with a beginning and an end.
pub trait EmbedPrompts: BlockSpan {
    /// What is read of this request, if nothing else decides the embeddings, so that they may be used again for other
    /// requests with one of these texts; `None` keeps none.
    fn captions(&self, _request: &GenerationRequest) -> Option<GuidingTexts<String>> {
        None
    }

    /// Tokenises and looks up the token embeddings.
    ///
    /// # Errors
    /// The prompt or the negative prompt cannot be used.
    fn begin(&self, request: &GenerationRequest) -> Computed<Self::Activation>;

    /// Bytes of memory that a sweep with these prompts works in.
    fn working_bytes(&self, _requests: &[&GenerationRequest]) -> u64 {
        0
    }

    /// Makes the embeddings out of what came through all blocks.
    ///
    /// # Errors
    /// The computation failed, or its result is not finite.
    fn finish(&self, activation: Self::Activation) -> Computed<EmbeddedTexts>;
}

/// What the text encoder made of a request.
pub type EmbeddedTexts = GuidingTexts<EmbeddedPrompt>;

/// What the text encoder made of a prompt or a negative prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedPrompt {
    /// What was read: the prompt with its scores, or the negative prompt, cleaned.
    pub caption: String,
    /// The embedding.
    pub embedding: PromptEmbedding,
    /// The end of the text that did not fit and was left out.
    pub cut: Option<String>,
}

impl EmbeddedPrompt {
    /// What was read, without what became of it.
    pub fn read(&self) -> Caption {
        let (text, cut) = (self.caption.clone(), self.cut.clone());
        Caption { text, tokens: self.embedding.tokens(), cut }
    }
}

/// Sampling, with the transformer's blocks taken out of the middle of each step: they run elsewhere.
pub trait Denoise: Send {
    /// One job's sampling state.
    type Run: Send;
    /// What passes through the blocks.
    type Activation: Send;

    /// Bytes of memory that the ring works in when the jobs of these requests are in flight: one block and the activations
    /// of one token for each worker, and what each job carries along.
    fn working_bytes(&self, _in_flight: &[&GenerationRequest]) -> u64 {
        0
    }

    /// Draws the noise and prepares what all steps share.
    ///
    /// # Errors
    /// The request or an embedding does not fit the model.
    fn start(&self, request: &GenerationRequest, texts: &EmbeddedTexts) -> Computed<Self::Run>;

    /// Goes on where a job was saved.
    ///
    /// # Errors
    /// The request, an embedding or what was saved does not fit the model, or the other parts.
    fn resume(
        &self,
        request: &GenerationRequest,
        texts: &EmbeddedTexts,
        saved: &SavedRun,
    ) -> Computed<Self::Run>;

    /// What [`Denoise::resume`] needs to go on after the last step that was finished.
    ///
    /// # Errors
    /// The state cannot be copied to the CPU.
    fn save(&self, run: &Self::Run) -> Computed<SavedRun>;

    /// The part of a step before the blocks.
    ///
    /// # Errors
    /// The computation failed.
    fn begin_step(&self, run: &mut Self::Run) -> Computed<Self::Activation>;

    /// The part of a step after the blocks: velocity, guidance, leap decision, integration.
    ///
    /// # Errors
    /// The computation failed, or its result is not finite.
    fn finish_step(
        &self,
        run: &mut Self::Run,
        activation: Self::Activation,
    ) -> Computed<StepReport>;

    /// What the first latent frame would be if the rest of the way were leapt along the last velocity; `None` before the
    /// first step, and for what has no previews.
    ///
    /// # Errors
    /// The computation failed, which the run does not notice.
    fn preview(&self, _run: &Self::Run) -> Computed<Option<Latent>> {
        Ok(None)
    }

    /// The denoised latent, after the step that reported itself as the last.
    ///
    /// # Errors
    /// The computation failed.
    fn latent(&self, run: Self::Run) -> Computed<Latent>;
}

/// What one denoising step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Which step, from 0.
    pub index: usize,
    /// How many steps there are at most.
    pub steps: usize,
    /// The timestep that the model was run at.
    pub timestep: f64,
    /// Cosine between this step's velocity and the one before it, where it was measured.
    pub cosine: Option<f64>,
    /// Whether temporal token merging was on.
    pub merged: bool,
    /// Whether this step leapt to the end.
    pub leapt: bool,
    /// How many steps after it were walked without the model.
    pub coasted: usize,
    /// Whether this was the last step.
    pub last: bool,
}

/// The video decoder.
pub trait DecodeLatent: Send {
    /// Bytes of memory that decoding this latent works in.
    fn working_bytes(&self, _latent: &Latent) -> u64 {
        0
    }

    /// Gives back what was brought into memory for a latent.
    fn rest(&mut self) {}

    /// Decodes a latent and emits frames as they come; stops when told to break.
    ///
    /// # Errors
    /// The computation failed, or its result is not finite.
    fn decode(
        &mut self,
        latent: &Latent,
        emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()>;
}
