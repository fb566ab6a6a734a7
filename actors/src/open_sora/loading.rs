//! The blocks of the three networks, one at a time out of their checkpoints.

use std::ops::{Deref, Range};

use candle_core::Device;
use sora_models::device_work::{finish_work, free_dropped};
use sora_models::stdit3::{Stdit3Block, Stdit3Config};
use sora_models::t5::{T5Block, T5Config};
use sora_models::vae::{SpatialPass, TemporalPass, VaeConfig};
use sora_models::weights::Weights;

use crate::block_loader::{BlockSize, LoadBlocks};
use crate::compute::Computed;

/// A block on a device. When it is dropped, its memory is free by the time the drop returns, and so before its permit comes
/// back: on a GPU it would stay allocated until somebody waits for the device, and a whole network's blocks with it.
///
/// Our choice, where a second block in every account of memory would have done, too: on a phone a block's bytes are dear, and
/// whoever drops a block has waited for the work on it already.
pub struct DeviceBlock<B> {
    block: B,
    // Dropped after the block.
    _freeing: FreeOnDrop,
}

struct FreeOnDrop(Device);

impl<B> Deref for DeviceBlock<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.block
    }
}

impl Drop for FreeOnDrop {
    fn drop(&mut self) {
        free_dropped(&self.0);
    }
}

type LoadFunction<B> = Box<dyn Fn(&Weights, usize) -> sora_models::Result<B> + Send>;

/// Blocks that are read by a function of their index.
pub struct CheckpointBlocks<B> {
    sizes: Vec<BlockSize>,
    load: LoadFunction<B>,
    weights: Weights,
}

impl<B> CheckpointBlocks<B> {
    fn new(
        weights: &Weights,
        count: usize,
        load: impl Fn(&Weights, usize) -> sora_models::Result<B> + Send + 'static,
    ) -> sora_models::Result<Self> {
        let size = |index| {
            let bytes = weights.measure(|weights| load(weights, index).map(drop))?;
            Ok(BlockSize { stored_bytes: bytes.stored, resident_bytes: bytes.resident })
        };
        let sizes = (0..count).map(size).collect::<sora_models::Result<_>>()?;
        Ok(Self { sizes, load: Box::new(load), weights: weights.clone() })
    }

    /// What each block takes.
    pub fn sizes(&self) -> &[BlockSize] {
        &self.sizes
    }
}

impl CheckpointBlocks<T5Block> {
    /// The text encoder's blocks; `weights` is the root of its checkpoint.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn t5(weights: &Weights, config: &T5Config) -> sora_models::Result<Self> {
        let config = config.clone();
        Self::new(weights, config.num_layers, move |weights, index| {
            T5Block::load(weights, &config, index)
        })
    }
}

impl CheckpointBlocks<Stdit3Block> {
    /// A span of the transformer's blocks; `weights` is the root of its checkpoint.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn stdit3(
        weights: &Weights,
        config: &Stdit3Config,
        span: Range<usize>,
    ) -> sora_models::Result<Self> {
        let config = config.clone();
        Self::new(weights, span.len(), move |weights, index| {
            Stdit3Block::load(weights, &config, span.start + index)
        })
    }
}

/// One of the two networks that decode a latent.
pub enum DecoderPart {
    /// Latents to every frame's spatial latents.
    Temporal(Box<TemporalPass>),
    /// Spatial latents to pixels.
    Spatial(Box<SpatialPass>),
}

impl CheckpointBlocks<DecoderPart> {
    /// The decoder's two networks, in the order in which a latent passes them; `weights` is the root of the autoencoder's
    /// checkpoint.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn decoder(weights: &Weights, config: &VaeConfig) -> sora_models::Result<Self> {
        let config = config.clone();
        Self::new(weights, 2, move |weights, index| match index {
            0 => TemporalPass::load(weights, &config).map(Box::new).map(DecoderPart::Temporal),
            _ => SpatialPass::load(weights, &config).map(Box::new).map(DecoderPart::Spatial),
        })
    }
}

impl<B: Send + Sync + 'static> LoadBlocks for CheckpointBlocks<B> {
    type Block = DeviceBlock<B>;

    fn block_count(&self) -> usize {
        self.sizes.len()
    }

    fn size(&self, index: usize) -> BlockSize {
        self.sizes[index]
    }

    fn load(&self, index: usize) -> Computed<DeviceBlock<B>> {
        let device = self.weights.device();
        // It frees what a load that fails halfway has made, too.
        let freeing = FreeOnDrop(device.clone());
        let block = (self.load)(&self.weights, index)?;
        // A GPU may have been given numbers to convert, and holds on to them as they were.
        finish_work(device)?;
        Ok(DeviceBlock { block, _freeing: freeing })
    }
}
