//! A worker's share of the transformer.

use std::ops::Range;

use candle_core::{Device, Tensor};
use sora_models::device_work::{finish_work, free_dropped};
use sora_models::probe::NoProbe;
use sora_models::stdit3::{Stdit3Block, StepContext};

use super::loading::DeviceBlock;
use crate::block_loader::{BlockFeed, LoadedBlock};
use crate::compute::{BlockSpan, Computed};

/// What goes through the blocks in one step of one job.
pub struct StepTokens {
    /// `[rows, T * S, hidden]`; rows are conditional, then unconditional.
    pub(super) tokens: Tensor,
    pub(super) step: StepContext,
}

/// A worker's blocks, as its loader brings them.
pub struct Stdit3Span {
    blocks: BlockFeed<DeviceBlock<Stdit3Block>>,
    device: Device,
}

impl Stdit3Span {
    /// A span whose blocks come out of `blocks`, on `device`.
    pub fn new(blocks: BlockFeed<DeviceBlock<Stdit3Block>>, device: &Device) -> Self {
        Self { blocks, device: device.clone() }
    }
}

impl BlockSpan for Stdit3Span {
    type Activation = StepTokens;
    type Block = LoadedBlock<DeviceBlock<Stdit3Block>>;

    fn block_count(&self) -> usize {
        self.blocks.block_count()
    }

    fn acquire(&mut self, index: usize) -> Computed<Self::Block> {
        self.blocks.acquire(index)
    }

    fn run(&self, block: &Self::Block, activation: &mut StepTokens) -> Computed<()> {
        activation.tokens = block.forward(&activation.tokens, &activation.step, &mut NoProbe)?;
        Ok(finish_work(&self.device)?)
    }

    fn rest(&mut self) {
        self.blocks.rest();
        free_dropped(&self.device);
    }
}

/// Shares `blocks` out among `workers` in spans that differ by at most one block.
pub fn share_blocks(blocks: usize, workers: usize) -> Vec<Range<usize>> {
    let start = |worker: usize| worker * blocks / workers.max(1);
    (0..workers).map(|worker| start(worker)..start(worker + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_all_blocks_in_order_and_evenly() {
        assert_eq!(share_blocks(7, 3), [0..2, 2..4, 4..7]);
        for blocks in 1..60 {
            for workers in 1..=blocks {
                let spans = share_blocks(blocks, workers);
                assert_eq!(
                    spans.iter().cloned().flatten().collect::<Vec<_>>(),
                    (0..blocks).collect::<Vec<_>>()
                );
                let lengths: Vec<_> = spans.iter().map(ExactSizeIterator::len).collect();
                let (least, most) = (lengths.iter().min(), lengths.iter().max());
                assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
            }
        }
    }
}
