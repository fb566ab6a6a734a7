//! What a model and a video take of a memory budget: known before any work is done.

mod model_memory;
mod text;

use serde::Serialize;
use sora_actors::memory::unseen_bytes;
use sora_actors::messages::GenerationRequest;
use sora_models::sizes::VideoSize;

use crate::config::MemoryLimits;

pub use model_memory::{ModelMemory, NetworkBytes};

/// The graph that a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedGraph {
    /// Workers that share the transformer's blocks.
    pub workers: usize,
    /// Videos that would be denoised together if memory were no matter.
    pub videos: usize,
}

/// The video that a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedVideo {
    /// Its size.
    pub size: VideoSize,
    /// Texts that are embedded for it: the prompt, and perhaps a negative one.
    pub texts: usize,
}

impl From<VideoSize> for PlannedVideo {
    /// A video from a prompt alone.
    fn from(size: VideoSize) -> Self {
        Self { size, texts: 1 }
    }
}

impl From<&GenerationRequest> for PlannedVideo {
    fn from(request: &GenerationRequest) -> Self {
        Self { size: request.video_settings().size, texts: request.text_count() }
    }
}

/// What one kind of video takes of a budget.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryPlan {
    /// The video.
    #[serde(skip)]
    pub size: VideoSize,
    /// The budget.
    pub budget_bytes: u64,
    /// What never leaves memory.
    pub base_bytes: u64,
    /// Embedding the texts of one: a block and activations.
    pub embedding_bytes: u64,
    /// Such videos that are denoised together: as many as there are, or as fit.
    pub videos_together: usize,
    /// Denoising them: a block and activations for each worker, and what each video carries along.
    pub denoising_bytes: u64,
    /// Denoising one of them alone.
    pub one_denoising_bytes: u64,
    /// Decoding one such video: a network and activations.
    pub decoding_bytes: u64,
    /// The text encoder's blocks.
    pub t5: NetworkBytes,
    /// The transformer's blocks.
    pub stdit3: NetworkBytes,
    /// The decoder's networks.
    pub decoder: NetworkBytes,
    /// Transformer blocks that stay in memory while such videos are denoised and nothing else is done.
    pub retained_blocks: usize,
    /// Blocks that can be read while others compute: of the text encoder, the transformer, the decoder.
    pub blocks_ahead: [u64; 3],
    /// Whether prompts are embedded and videos decoded while others are denoised.
    pub overlaps: bool,
}

impl MemoryPlan {
    /// The plan for videos like this one.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn new(
        model: &ModelMemory,
        video: impl Into<PlannedVideo>,
        graph: PlannedGraph,
        limits: &MemoryLimits,
    ) -> sora_models::Result<Self> {
        let video = video.into();
        let size = video.size;
        let MemoryLimits { budget_bytes, read_ahead, retain, .. } = *limits;
        let workers = graph.workers.max(1) as u64;
        let base_bytes = model.base_bytes();
        let free = budget_bytes.saturating_sub(base_bytes);
        let activations = model.denoising_activations(video)?;
        let denoising =
            |videos: usize| model.denoising(graph.workers).bytes(&vec![activations; videos]);
        let fitting = (1..=graph.videos).rev().find(|&videos| denoising(videos) <= free);
        let videos_together = fitting.unwrap_or(1);
        let embedding_bytes = model.embedding().bytes(video.texts);
        let denoising_bytes = denoising(videos_together);
        let decoding_bytes = model.decoding_bytes(size)?;
        let ahead = |network: &NetworkBytes, lease: u64, loaders: u64| {
            let fitting = free.saturating_sub(lease) / network.block_bytes.max(1);
            fitting.min(loaders * read_ahead as u64)
        };
        let stdit3 = &model.stdit3;
        // Each worker's loader leaves room for what it reads ahead itself, in its share of what is free.
        let to_keep = free.saturating_sub(denoising_bytes + unseen_bytes(budget_bytes)) / workers;
        let to_keep_each = to_keep.saturating_sub(read_ahead as u64 * stdit3.block_bytes);
        let retained = match to_keep * workers >= stdit3.resident_bytes {
            _ if !retain => 0,
            true => stdit3.blocks,
            false => (to_keep_each / stdit3.block_bytes.max(1) * workers) as usize,
        };
        Ok(Self {
            size,
            budget_bytes,
            base_bytes,
            embedding_bytes,
            videos_together,
            denoising_bytes,
            one_denoising_bytes: denoising(1),
            decoding_bytes,
            t5: model.t5,
            stdit3: model.stdit3,
            decoder: model.decoder,
            retained_blocks: retained.min(stdit3.blocks),
            blocks_ahead: [
                ahead(&model.t5, embedding_bytes, 1),
                ahead(stdit3, denoising_bytes, workers),
                ahead(&model.decoder, decoding_bytes, 1),
            ],
            overlaps: embedding_bytes + denoising_bytes + decoding_bytes <= free,
        })
    }

    /// The smallest budget that such a video can be made with: one stage at a time, each block read when it is needed.
    pub fn smallest_bytes(&self) -> u64 {
        let stages = [self.embedding_bytes, self.one_denoising_bytes, self.decoding_bytes];
        self.base_bytes + stages.into_iter().max().unwrap_or(0)
    }

    /// Whether the budget is enough.
    pub fn fits(&self) -> bool {
        self.smallest_bytes() <= self.budget_bytes
    }

    /// The most that each stage takes when it is alone, with what it reads ahead and keeps: embedding, denoising, decoding.
    pub fn peak_bytes(&self) -> [u64; 3] {
        let [embedding, denoising, decoding] = self.blocks_ahead;
        let kept = self.retained_blocks as u64;
        // Where all blocks stay, none is read ahead.
        let streamed = self.stdit3.blocks as u64 - kept;
        [
            self.base_bytes + self.embedding_bytes + embedding * self.t5.block_bytes,
            self.base_bytes
                + self.denoising_bytes
                + (kept + denoising.min(streamed)) * self.stdit3.block_bytes,
            self.base_bytes + self.decoding_bytes + decoding * self.decoder.block_bytes,
        ]
    }

    /// What all stages work in at the same time when they overlap, without blocks that are kept or read ahead.
    pub fn overlapped_bytes(&self) -> u64 {
        self.base_bytes + self.embedding_bytes + self.denoising_bytes + self.decoding_bytes
    }

    /// Bytes read for one denoising step once the first is done, however many videos are in flight.
    pub fn step_read_bytes(&self) -> u64 {
        let streamed = (self.stdit3.blocks - self.retained_blocks) as u64;
        self.stdit3.stored_bytes * streamed / self.stdit3.blocks.max(1) as u64
    }

    /// The plan with everything that follows from it, for machines.
    pub fn report(&self) -> PlanReport<'_> {
        let [embedding, denoising, decoding] = self.peak_bytes();
        PlanReport {
            plan: self,
            embedding_peak_bytes: embedding,
            denoising_peak_bytes: denoising,
            decoding_peak_bytes: decoding,
            overlapped_bytes: self.overlapped_bytes(),
            step_read_bytes: self.step_read_bytes(),
            smallest_bytes: self.smallest_bytes(),
            fits: self.fits(),
        }
    }
}

/// A plan and what follows from it.
#[derive(Debug, Serialize)]
pub struct PlanReport<'a> {
    /// The plan.
    #[serde(flatten)]
    pub plan: &'a MemoryPlan,
    /// The most that embedding takes.
    pub embedding_peak_bytes: u64,
    /// The most that denoising takes.
    pub denoising_peak_bytes: u64,
    /// The most that decoding takes.
    pub decoding_peak_bytes: u64,
    /// What all stages work in together when they overlap.
    pub overlapped_bytes: u64,
    /// Bytes read for one denoising step.
    pub step_read_bytes: u64,
    /// The smallest budget that would do.
    pub smallest_bytes: u64,
    /// Whether the budget is enough.
    pub fits: bool,
}
