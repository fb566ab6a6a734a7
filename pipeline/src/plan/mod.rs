//! What a model and a video take of a memory budget: known before any work is done.

mod text;

use candle_core::{DType, Device};
use serde::Serialize;
use sora_actors::block_loader::BlockSize;
use sora_actors::memory::unseen_bytes;
use sora_actors::open_sora::{CheckpointBlocks, DenoisingMemory, EmbeddingMemory};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::footprint::{decoding_bytes, denoising_bytes, embedding_bytes};
use sora_models::sizes::VideoSize;
use sora_models::stdit3::{Stdit3Config, Stdit3Ends};
use sora_models::t5::T5Config;
use sora_models::vae::VaeConfig;

use crate::config::MemoryLimits;

/// The program without any model: code, threads, buffers of the encoder and the allocator. Our choice, measured with the
/// embedded model and rounded up.
const PROGRAM_BYTES: u64 = 64 << 20;

/// What a model's weights take, network by network, in one compute dtype.
#[derive(Debug, Clone)]
pub struct ModelMemory {
    /// The text encoder's blocks.
    pub t5: NetworkBytes,
    /// The transformer's blocks.
    pub stdit3: NetworkBytes,
    /// The decoder's two networks.
    pub decoder: NetworkBytes,
    /// The transformer's ends, which stay in memory.
    pub ends_bytes: u64,
    t5_config: T5Config,
    stdit3_config: Stdit3Config,
    vae_config: VaeConfig,
    dtype: DType,
}

/// Bytes of one network's blocks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct NetworkBytes {
    /// How many blocks.
    pub blocks: usize,
    /// All of them as stored: what a sweep reads when none is in memory.
    pub stored_bytes: u64,
    /// All of them in memory.
    pub resident_bytes: u64,
    /// The largest block in memory.
    pub block_bytes: u64,
}

impl NetworkBytes {
    fn of(sizes: &[BlockSize]) -> Self {
        Self {
            blocks: sizes.len(),
            stored_bytes: sizes.iter().map(|size| size.stored_bytes).sum(),
            resident_bytes: sizes.iter().map(|size| size.resident_bytes).sum(),
            block_bytes: sizes.iter().map(|size| size.resident_bytes).max().unwrap_or(0),
        }
    }
}

impl ModelMemory {
    /// Reads headers only.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn of(bundle: &ModelBundle, dtype: DType) -> sora_models::Result<Self> {
        let weights = |part| bundle.part(part).weights(dtype, &Device::Cpu);
        let (t5, stdit3, vae) =
            (weights(PartName::T5), weights(PartName::Stdit3), weights(PartName::Vae));
        let (t5_config, stdit3_config, vae_config) =
            (bundle.t5_config(), bundle.stdit3_config(), bundle.vae_config());
        let blocks = 0..stdit3_config.blocks();
        let ends = stdit3.measure(|weights| Stdit3Ends::load(weights, stdit3_config).map(drop))?;
        Ok(Self {
            t5: NetworkBytes::of(CheckpointBlocks::t5(&t5, t5_config)?.sizes()),
            stdit3: NetworkBytes::of(
                CheckpointBlocks::stdit3(&stdit3, stdit3_config, blocks)?.sizes(),
            ),
            decoder: NetworkBytes::of(CheckpointBlocks::decoder(&vae, vae_config)?.sizes()),
            ends_bytes: ends.resident,
            t5_config: t5_config.clone(),
            stdit3_config: stdit3_config.clone(),
            vae_config: vae_config.clone(),
            dtype,
        })
    }

    /// What never leaves memory.
    pub fn base_bytes(&self) -> u64 {
        PROGRAM_BYTES + self.ends_bytes
    }

    /// What embedding takes.
    pub fn embedding(&self) -> EmbeddingMemory {
        let longest = self.stdit3_config.model_max_length;
        EmbeddingMemory {
            block_bytes: self.t5.block_bytes,
            activations: embedding_bytes(&self.t5_config, longest, self.dtype),
        }
    }

    /// What denoising takes.
    pub fn denoising(&self, workers: usize) -> DenoisingMemory {
        DenoisingMemory { block_bytes: self.stdit3.block_bytes, workers }
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
    /// Embedding one prompt: a block and activations.
    pub embedding_bytes: u64,
    /// Denoising one such video: a block and activations for each worker.
    pub denoising_bytes: u64,
    /// Decoding one such video: a network and activations.
    pub decoding_bytes: u64,
    /// The text encoder's blocks.
    pub t5: NetworkBytes,
    /// The transformer's blocks.
    pub stdit3: NetworkBytes,
    /// The decoder's networks.
    pub decoder: NetworkBytes,
    /// Transformer blocks that stay in memory while such a video is denoised and nothing else is done.
    pub retained_blocks: usize,
    /// Whether a block can be read while another one computes: in the text encoder, the transformer, the decoder.
    pub reads_ahead: [bool; 3],
    /// Whether prompts are embedded and videos decoded while others are denoised.
    pub overlaps: bool,
}

impl MemoryPlan {
    /// The plan for videos of `size` with so many workers.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn new(
        model: &ModelMemory,
        size: VideoSize,
        workers: usize,
        limits: &MemoryLimits,
    ) -> sora_models::Result<Self> {
        let MemoryLimits { budget_bytes, read_ahead, retain, .. } = *limits;
        let step = denoising_bytes(&model.stdit3_config, size, model.dtype)?;
        let decoding = decoding_bytes(&model.vae_config, size, model.dtype)?;
        let base_bytes = model.base_bytes();
        let embedding_bytes = model.embedding().bytes(1);
        let denoising_bytes = model.denoising(workers).bytes(&[step]);
        let decoding_bytes = model.decoder.block_bytes + decoding;
        let free = budget_bytes.saturating_sub(base_bytes);
        let ahead = |network: &NetworkBytes, lease: u64| {
            read_ahead > 0 && free.saturating_sub(lease) >= network.block_bytes
        };
        let ahead_bytes = (workers * read_ahead) as u64 * model.stdit3.block_bytes;
        let free_to_keep = free.saturating_sub(denoising_bytes + unseen_bytes(budget_bytes));
        let to_keep = free_to_keep.saturating_sub(ahead_bytes);
        let all = retain && free_to_keep >= model.stdit3.resident_bytes;
        let retained = match all {
            true => model.stdit3.blocks,
            false if retain => (to_keep / model.stdit3.block_bytes.max(1)) as usize,
            false => 0,
        };
        Ok(Self {
            size,
            budget_bytes,
            base_bytes,
            embedding_bytes,
            denoising_bytes,
            decoding_bytes,
            t5: model.t5,
            stdit3: model.stdit3,
            decoder: model.decoder,
            retained_blocks: retained.min(model.stdit3.blocks),
            reads_ahead: [
                ahead(&model.t5, embedding_bytes),
                ahead(&model.stdit3, denoising_bytes),
                ahead(&model.decoder, decoding_bytes),
            ],
            overlaps: embedding_bytes + denoising_bytes + decoding_bytes <= free,
        })
    }

    /// The smallest budget that such a video can be made with: one stage at a time, each block read when it is needed.
    pub fn smallest_bytes(&self) -> u64 {
        let stages = [self.embedding_bytes, self.denoising_bytes, self.decoding_bytes];
        self.base_bytes + stages.into_iter().max().unwrap_or(0)
    }

    /// Whether the budget is enough.
    pub fn fits(&self) -> bool {
        self.smallest_bytes() <= self.budget_bytes
    }

    /// The most that each stage takes when it is alone, with what it reads ahead and keeps: embedding, denoising, decoding.
    pub fn peak_bytes(&self) -> [u64; 3] {
        let ahead = |index: usize, network: &NetworkBytes| match self.reads_ahead[index] {
            true => network.block_bytes,
            false => 0,
        };
        let kept = self.retained_blocks as u64 * self.stdit3.block_bytes;
        let streams = self.retained_blocks < self.stdit3.blocks;
        let denoising_ahead = if streams { ahead(1, &self.stdit3) } else { 0 };
        [
            self.base_bytes + self.embedding_bytes + ahead(0, &self.t5),
            self.base_bytes + self.denoising_bytes + denoising_ahead + kept,
            self.base_bytes + self.decoding_bytes + ahead(2, &self.decoder),
        ]
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
    /// Bytes read for one denoising step.
    pub step_read_bytes: u64,
    /// The smallest budget that would do.
    pub smallest_bytes: u64,
    /// Whether the budget is enough.
    pub fits: bool,
}
