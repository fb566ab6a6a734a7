//! The graph's computation out of a model.

use std::num::NonZeroUsize;

use candle_core::Device;
use sora_actors::LoaderOf;
use sora_actors::block_loader::{LoaderSettings, ReadLimit};
use sora_actors::memory::MemoryLedger;
use sora_actors::open_sora::{
    CheckpointBlocks, GuidedDenoiser, Stdit3Span, TextEncoder, VideoDecoder, share_blocks,
};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::stdit3::Stdit3Ends;
use sora_models::weights::Weights;

use crate::config::{GraphLimits, MemoryLimits};
use crate::error::PipelineError;
use crate::plan::ModelMemory;
use crate::topology::{AttachedLoader, DecoderCompute, GraphCompute, attach_loader};

/// What the stages compute with when they run Open-Sora.
pub type OpenSoraCompute = GraphCompute<TextEncoder, GuidedDenoiser, Stdit3Span, VideoDecoder>;

/// Finds out, without loading anything, whether so many workers can share a model's blocks.
///
/// # Errors
/// [`PipelineError::TooManyWorkers`].
pub fn check_workers(bundle: &ModelBundle, workers: usize) -> Result<(), PipelineError> {
    let blocks = bundle.stdit3_config().blocks();
    if workers > blocks {
        return Err(PipelineError::TooManyWorkers { workers, blocks });
    }
    Ok(())
}

/// Loads what a model always holds in memory, and prepares the loaders of its blocks for a graph within `limits`. `memory`
/// is what [`ModelMemory::of`] says of the same model, and of the dtype to compute in.
///
/// # Errors
/// Weights cannot be read, the budget is smaller than what stays in memory, or there are more workers than blocks.
pub fn load(
    bundle: &ModelBundle,
    memory: &ModelMemory,
    device: &Device,
    limits: &GraphLimits,
) -> Result<OpenSoraCompute, PipelineError> {
    let dtype = memory.dtype();
    check_workers(bundle, limits.workers)?;
    let ledger = MemoryLedger::with_base(limits.memory.budget_bytes, memory.base_bytes())?;
    let weights = |part| bundle.part(part).weights(dtype, device);
    let (t5, stdit3, vae) =
        (weights(PartName::T5), weights(PartName::Stdit3), weights(PartName::Vae));
    let settings = NetworkSettings::new(memory, limits);
    let mut loaders = Vec::new();

    let blocks = CheckpointBlocks::t5(&t5, bundle.t5_config())?;
    let (loader, t5_blocks) = attach_loader(LoaderOf::PromptEmbedder, blocks, settings.t5, &ledger);
    loaders.push(loader);

    let config = bundle.stdit3_config();
    let mut spans = Vec::new();
    for (worker, span) in share_blocks(config.blocks(), limits.workers).into_iter().enumerate() {
        let blocks = CheckpointBlocks::stdit3(&stdit3, config, span)?;
        let owner = LoaderOf::StditWorker(worker);
        let (loader, feed) = attach_loader(owner, blocks, settings.stdit3.clone(), &ledger);
        loaders.push(loader);
        spans.push(Stdit3Span::new(feed, device));
    }

    let (loader, decoder) = video_decoder(bundle, memory, &vae, settings.decoder, &ledger)?;
    loaders.push(loader);

    let tokenizer = bundle.tokenizer(config.model_max_length)?;
    let text_encoder = bundle.text_encoder(dtype, device);
    let ends = Stdit3Ends::load(&stdit3, config)?;
    Ok(GraphCompute {
        encoder: TextEncoder::new(tokenizer, text_encoder, t5_blocks, memory.embedding()),
        denoiser: GuidedDenoiser::new(ends, memory.denoising(limits.workers)),
        spans,
        decoder,
        loaders,
        ledger,
    })
}

/// Prepares what decoding a latent takes, and nothing else.
///
/// # Errors
/// Weights cannot be read, or the budget is too small.
pub fn load_decoder(
    bundle: &ModelBundle,
    memory: &ModelMemory,
    device: &Device,
    limits: &MemoryLimits,
) -> Result<DecoderCompute<VideoDecoder>, PipelineError> {
    let ledger = MemoryLedger::with_base(limits.budget_bytes, memory.decoder_base_bytes())?;
    let settings = LoaderSettings {
        read_ahead: limits.read_ahead,
        // Each network is needed once.
        retain: false,
        sharers: NonZeroUsize::MIN,
        across_sweeps: false,
        read_limit: limits.read_limit.map(|limit| ReadLimit::new(limit.get() as f64)),
    };
    let weights = bundle.part(PartName::Vae).weights(memory.dtype(), device);
    let (loader, decoder) = video_decoder(bundle, memory, &weights, settings, &ledger)?;
    Ok(DecoderCompute { decoder, loader: Some(loader), ledger })
}

fn video_decoder(
    bundle: &ModelBundle,
    memory: &ModelMemory,
    weights: &Weights,
    settings: LoaderSettings,
    ledger: &MemoryLedger,
) -> Result<(AttachedLoader, VideoDecoder), PipelineError> {
    let config = bundle.vae_config();
    let parts = CheckpointBlocks::decoder(weights, config)?;
    let (loader, parts) = attach_loader(LoaderOf::VaeDecoder, parts, settings, ledger);
    let (dtype, device, part_bytes) =
        (weights.dtype(), weights.device(), memory.decoder.block_bytes);
    Ok((loader, VideoDecoder::new(parts, config.clone(), part_bytes, dtype, device)))
}

/// How each network's loader uses memory and time.
struct NetworkSettings {
    t5: LoaderSettings,
    stdit3: LoaderSettings,
    decoder: LoaderSettings,
}

impl NetworkSettings {
    /// The transformer's blocks are kept before those of the other networks, which run once a prompt and once a video: these
    /// are kept only where they leave room for all of the transformer.
    fn new(memory: &ModelMemory, limits: &GraphLimits) -> Self {
        let MemoryLimits { budget_bytes, read_ahead, retain, read_limit } = limits.memory;
        let free = budget_bytes.saturating_sub(memory.base_bytes());
        let transformer = memory.stdit3.resident_bytes;
        let with_decoder = transformer + memory.decoder.resident_bytes;
        let with_all = with_decoder + memory.t5.resident_bytes;
        let read_limit = read_limit.map(|limit| ReadLimit::new(limit.get() as f64));
        let settings = |retain, across_sweeps| LoaderSettings {
            read_ahead,
            retain,
            sharers: NonZeroUsize::MIN,
            across_sweeps: across_sweeps && read_ahead > 0,
            read_limit: read_limit.clone(),
        };
        Self {
            t5: settings(retain && with_all <= free, false),
            stdit3: LoaderSettings {
                sharers: NonZeroUsize::new(limits.workers).unwrap_or(NonZeroUsize::MIN),
                ..settings(retain, true)
            },
            decoder: settings(retain && with_decoder <= free, false),
        }
    }
}
