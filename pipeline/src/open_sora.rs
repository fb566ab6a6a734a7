//! A graph that computes with the models of a bundle.

use candle_core::{DType, Device};
use sora_actors::open_sora::{
    GuidedDenoiser, ResidentBlocks, TextEncoder, VideoDecoder, share_blocks,
};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::stdit3::{Stdit3Config, Stdit3Ends};
use sora_models::t5::CaptionCleaning;
use sora_models::vae::{VaeConfig, VideoVae};

use crate::config::GraphLimits;
use crate::error::PipelineError;
use crate::handle::PipelineHandle;
use crate::topology::GraphCompute;

impl PipelineHandle {
    /// Starts a graph over the models of `bundle`. Call it within an actix system.
    ///
    /// # Errors
    /// A weight is missing or of another shape, the limits leave a stage without room, or a thread cannot be started.
    pub fn open_sora(
        bundle: &ModelBundle,
        dtype: DType,
        device: &Device,
        limits: &GraphLimits,
    ) -> Result<Self, PipelineError> {
        let part = bundle.part(PartName::Stdit3);
        let config = Stdit3Config::from_json(&part.config_json, &part.config_file)?;
        let blocks = config.blocks();
        if limits.workers > blocks {
            return Err(PipelineError::TooManyWorkers { workers: limits.workers, blocks });
        }
        let weights = part.weights(dtype, device);
        let spans = share_blocks(blocks, limits.workers).into_iter();
        let spans = spans.map(|span| ResidentBlocks::load(&weights, &config, span));
        let vae = bundle.part(PartName::Vae);
        let vae_config = VaeConfig::from_json(&vae.config_json, &vae.config_file)?;
        let compute = GraphCompute {
            encoder: TextEncoder::new(
                CaptionCleaning::OpenSora,
                bundle.tokenizer(config.model_max_length)?,
                bundle.text_encoder(dtype, device),
            ),
            spans: spans.collect::<Result<Vec<_>, _>>()?,
            denoiser: GuidedDenoiser::new(Stdit3Ends::load(&weights, &config)?),
            decoder: VideoDecoder::new(
                VideoVae::load(&vae.weights(dtype, device), &vae_config)?,
                device,
            ),
        };
        Self::launch(compute, limits, Box::new(|request| request.check()))
    }
}
