//! A worker's share of the transformer.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use sora_models::probe::NoProbe;
use sora_models::stdit3::{Stdit3Block, Stdit3Config, StepContext};
use sora_models::weights::Weights;

use crate::compute::{BlockSpan, Computed};

/// What goes through the blocks in one step of one job.
pub struct StepTokens {
    /// `[rows, T * S, hidden]`; rows are conditional, then unconditional.
    pub(super) tokens: Tensor,
    pub(super) step: StepContext,
}

/// Consecutive blocks that stay in memory.
pub struct ResidentBlocks {
    blocks: Vec<Arc<Stdit3Block>>,
}

impl ResidentBlocks {
    /// Reads the blocks of `span` out of the checkpoint whose root is `weights`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(
        weights: &Weights,
        config: &Stdit3Config,
        span: Range<usize>,
    ) -> sora_models::Result<Self> {
        let blocks = span.map(|index| Stdit3Block::load(weights, config, index).map(Arc::new));
        Ok(Self { blocks: blocks.collect::<sora_models::Result<_>>()? })
    }
}

impl BlockSpan for ResidentBlocks {
    type Activation = StepTokens;
    type Block = Arc<Stdit3Block>;

    fn block_count(&self) -> usize {
        self.blocks.len()
    }

    fn acquire(&mut self, index: usize) -> Computed<Arc<Stdit3Block>> {
        Ok(self.blocks[index].clone())
    }

    fn run(&self, block: &Arc<Stdit3Block>, activation: &mut StepTokens) -> Computed<()> {
        activation.tokens = block.forward(&activation.tokens, &activation.step, &mut NoProbe)?;
        Ok(())
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
