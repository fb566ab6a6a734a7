//! The graph's computation out of a model.

use candle_core::{DType, Device};
use sora_actors::open_sora::{
    GuidedDenoiser, ResidentBlocks, TextEncoder, VideoDecoder, share_blocks,
};
use sora_models::ModelError;
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::stdit3::{Stdit3Config, Stdit3Ends};
use sora_models::t5::CaptionCleaning;
use sora_models::vae::{VaeConfig, VideoVae};

use crate::error::PipelineError;
use crate::topology::GraphCompute;

/// What the stages compute with when they run Open-Sora.
pub type OpenSoraCompute = GraphCompute<TextEncoder, GuidedDenoiser, ResidentBlocks, VideoDecoder>;

/// Loads a model for a graph of `workers` workers: the transformer and the decoder into memory, the text encoder block by
/// block when prompts come.
///
/// # Errors
/// Weights are missing, damaged or of another shape; the model's parts do not fit each other; or there are more workers
/// than blocks.
pub fn load(
    bundle: &ModelBundle,
    dtype: DType,
    device: &Device,
    workers: usize,
) -> Result<OpenSoraCompute, PipelineError> {
    let transformer = bundle.part(PartName::Stdit3);
    let config = Stdit3Config::from_json(&transformer.config_json, &transformer.config_file)?;
    let autoencoder = bundle.part(PartName::Vae);
    let vae_config = VaeConfig::from_json(&autoencoder.config_json, &autoencoder.config_file)?;
    let blocks = config.blocks();
    if workers > blocks {
        return Err(PipelineError::TooManyWorkers { workers, blocks });
    }
    let text_encoder = bundle.text_encoder(dtype, device);
    let fits = [
        (
            "caption_channels",
            config.caption_channels,
            "t5's d_model",
            text_encoder.config().d_model,
        ),
        ("in_channels", config.in_channels, "vae's latent channels", vae_config.latent_channels()),
    ];
    if let Some((field, ours, other, theirs)) = fits.iter().find(|(_, a, _, b)| a != b) {
        let reason =
            format!("{field} is {ours}, but {other} are {theirs}: they do not belong together");
        return Err(ModelError::Config { file: transformer.config_file.clone(), reason }.into());
    }
    let weights = transformer.weights(dtype, device);
    let spans = share_blocks(blocks, workers)
        .into_iter()
        .map(|span| ResidentBlocks::load(&weights, &config, span))
        .collect::<Result<_, _>>()?;
    let tokenizer = bundle.tokenizer(config.model_max_length)?;
    let vae = VideoVae::load(&autoencoder.weights(dtype, device), &vae_config)?;
    Ok(GraphCompute {
        encoder: TextEncoder::new(CaptionCleaning::OpenSora, tokenizer, text_encoder),
        denoiser: GuidedDenoiser::new(Stdit3Ends::load(&weights, &config)?),
        spans,
        decoder: VideoDecoder::new(vae, device),
    })
}
