//! The blocks that stay in memory between sweeps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delivery::LoadedBlock;
use crate::memory::{KeptFor, MemoryLedger, Reclaim, retention_ranks};

/// Kept blocks of one loader. The ledger may take them back, those chosen last first.
pub(super) struct RetainedBlocks<B> {
    ranks: Vec<usize>,
    /// By rank.
    blocks: Mutex<BTreeMap<usize, LoadedBlock<B>>>,
}

impl<B: Send + Sync + 'static> RetainedBlocks<B> {
    /// Keeps none of `count` blocks so far.
    pub(super) fn new(count: usize, ledger: &MemoryLedger, kept_for: KeptFor) -> Arc<Self> {
        let ranks = retention_ranks(count);
        let retained = Arc::new(Self { ranks, blocks: Mutex::default() });
        let holder: Arc<dyn Reclaim> = retained.clone();
        ledger.register(kept_for, Arc::downgrade(&holder));
        retained
    }

    pub(super) fn get(&self, index: usize) -> Option<LoadedBlock<B>> {
        self.lock().get(&self.ranks[index]).cloned()
    }

    pub(super) fn keep(&self, index: usize, block: LoadedBlock<B>) {
        self.lock().insert(self.ranks[index], block);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The block's place in the order in which blocks are chosen to be kept.
    pub(super) fn rank(&self, index: usize) -> usize {
        self.ranks[index]
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, LoadedBlock<B>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Send + Sync + 'static> Reclaim for RetainedBlocks<B> {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut given_up = Vec::new();
        let mut freed = 0;
        let mut blocks = self.lock();
        while freed < bytes {
            let Some((_, block)) = blocks.pop_last() else { break };
            // One that is delivered, or computes, comes back only when it has been used.
            freed += if block.is_shared() { 0 } else { block.permit_bytes() };
            given_up.push(block);
        }
        // Freeing weights takes a moment; the loader need not wait for it.
        drop(blocks);
        freed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::block_loader::delivery::Place;
    use crate::memory::MemoryUse;

    #[test]
    fn a_block_in_use_does_not_count_as_given_back() {
        let ledger = MemoryLedger::new(30);
        let retained = RetainedBlocks::new(3, &ledger, KeptFor::Denoising);
        for index in 0..3 {
            let permit = ledger.try_reserve_spare(MemoryUse::Retained, 10).unwrap();
            retained.keep(index, LoadedBlock::new(index, Place::Kept(permit)));
        }
        let chosen_last = (0..3).max_by_key(|&index| retained.rank(index)).unwrap();
        let in_use = retained.get(chosen_last).unwrap();
        assert_eq!(retained.reclaim(10), 10, "two were given up, and one of them came back");
        assert_eq!((retained.count(), ledger.observe().total_bytes()), (1, 20));
        drop(in_use);
        assert_eq!(ledger.observe().total_bytes(), 10);
        assert_eq!((retained.reclaim(99), retained.reclaim(99)), (10, 0));
    }
}
