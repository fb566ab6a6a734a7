//! Concurrent inference with dynamic loading: blocks are read while the ones before them compute.
//!
//! A [`BlockLoader`] is a stage of its own, beside the stage that computes with the blocks. The two are joined by two
//! channels: the computing stage's [`BlockFeed`] says what it wants, and the loader delivers blocks in the order in which
//! they are used. How far it is ahead is bounded twice: by places in the delivery channel, and by memory, for which each
//! block in memory holds a permit.
//!
//! # Source
//! On-device Sora, section 3.3 (Concurrent Inference with Dynamic Loading).

mod course;
mod delivery;
mod feed;
mod probe;
mod read_limit;
mod retained;
mod stage;
#[cfg(test)]
mod tests;

use crate::compute::Computed;

pub use delivery::{Delivery, LoadedBlock, LoaderMessage};
pub use feed::BlockFeed;
pub use probe::{LoaderProbe, LoaderSnapshot};
pub use read_limit::ReadLimit;
pub use stage::{BlockLoader, LOOK_AHEAD, LoaderChannels, LoaderSettings};

/// Where blocks come from.
pub trait LoadBlocks: Send {
    /// A block in memory.
    type Block: Send + Sync + 'static;

    /// How many blocks there are.
    fn block_count(&self) -> usize;

    /// What a block takes, known before it is loaded.
    fn size(&self, index: usize) -> BlockSize;

    /// Reads a block.
    ///
    /// # Errors
    /// The weights cannot be read.
    fn load(&self, index: usize) -> Computed<Self::Block>;
}

/// Bytes of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockSize {
    /// Read from disk.
    pub stored_bytes: u64,
    /// In memory, in the compute dtype.
    pub resident_bytes: u64,
}
