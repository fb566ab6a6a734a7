//! The graph's computation out of a model.

use candle_core::{DType, Device};
use sora_actors::open_sora::{
    GuidedDenoiser, ResidentBlocks, TextEncoder, VideoDecoder, share_blocks,
};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::stdit3::Stdit3Ends;
use sora_models::vae::VideoVae;

use crate::error::PipelineError;
use crate::topology::GraphCompute;

/// What the stages compute with when they run Open-Sora.
pub type OpenSoraCompute = GraphCompute<TextEncoder, GuidedDenoiser, ResidentBlocks, VideoDecoder>;

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

/// Loads a model for a graph of `workers` workers: the transformer and the decoder into memory, the text encoder block by
/// block when prompts come.
///
/// # Errors
/// Weights cannot be read, or there are more workers than blocks.
pub fn load(
    bundle: &ModelBundle,
    dtype: DType,
    device: &Device,
    workers: usize,
) -> Result<OpenSoraCompute, PipelineError> {
    check_workers(bundle, workers)?;
    let config = bundle.stdit3_config();
    let weights = bundle.part(PartName::Stdit3).weights(dtype, device);
    let spans = share_blocks(config.blocks(), workers)
        .into_iter()
        .map(|span| ResidentBlocks::load(&weights, config, span))
        .collect::<Result<_, _>>()?;
    let tokenizer = bundle.tokenizer(config.model_max_length)?;
    let vae_weights = bundle.part(PartName::Vae).weights(dtype, device);
    let vae = VideoVae::load(&vae_weights, bundle.vae_config())?;
    Ok(GraphCompute {
        encoder: TextEncoder::new(tokenizer, bundle.text_encoder(dtype, device)),
        denoiser: GuidedDenoiser::new(Stdit3Ends::load(&weights, config)?),
        spans,
        decoder: VideoDecoder::new(vae, device),
    })
}
