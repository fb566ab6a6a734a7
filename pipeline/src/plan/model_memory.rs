//! What a model's weights take of memory.

use candle_core::{DType, Device};
use serde::Serialize;
use sora_actors::block_loader::BlockSize;
use sora_actors::open_sora::{CheckpointBlocks, DenoisingMemory, EmbeddingMemory};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::footprint::{ActivationBytes, decoding_bytes, denoising_bytes, embedding_bytes};
use sora_models::sizes::VideoSize;
use sora_models::stdit3::{Stdit3Config, Stdit3Ends};
use sora_models::t5::T5Config;
use sora_models::vae::VaeConfig;

use super::PlannedVideo;

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
    device: Device,
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
    /// Measures a model that is to be computed in `dtype` on `device`. Reads headers only.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn of(bundle: &ModelBundle, dtype: DType, device: &Device) -> sora_models::Result<Self> {
        let weights = |part| bundle.part(part).weights(dtype, device);
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
            device: device.clone(),
        })
    }

    /// What never leaves memory.
    pub fn base_bytes(&self) -> u64 {
        PROGRAM_BYTES + self.ends_bytes
    }

    /// What never leaves memory when a saved latent is decoded: the transformer's ends are not loaded.
    pub fn decoder_base_bytes(&self) -> u64 {
        PROGRAM_BYTES
    }

    /// What weights are computed in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// What embedding takes.
    pub fn embedding(&self) -> EmbeddingMemory {
        let longest = self.stdit3_config.model_max_length;
        EmbeddingMemory {
            block_bytes: self.t5.block_bytes,
            activations: embedding_bytes(&self.t5_config, longest, self.dtype, &self.device),
        }
    }

    /// What denoising takes.
    pub fn denoising(&self, workers: usize) -> DenoisingMemory {
        DenoisingMemory { block_bytes: self.stdit3.block_bytes, workers }
    }

    /// The activations of denoising one such video.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn denoising_activations(
        &self,
        PlannedVideo { size, texts }: PlannedVideo,
    ) -> sora_models::Result<ActivationBytes> {
        denoising_bytes(&self.stdit3_config, size, texts, self.dtype, &self.device)
    }

    /// What decoding one such video takes.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn decoding_bytes(&self, size: VideoSize) -> sora_models::Result<u64> {
        Ok(self.decoder.block_bytes
            + decoding_bytes(&self.vae_config, size, self.dtype, &self.device)?)
    }
}
