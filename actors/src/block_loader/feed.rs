//! The computing stage's side of a loader.

use std::time::Instant;

use sora_telemetry::timeline;

use super::delivery::{Delivery, LoadedBlock, LoaderMessage};
use super::probe::LoaderProbe;
use crate::channel::{Receiver, Sender};
use crate::compute::Computed;
use crate::error::StageFailure;

/// Blocks in the order in which they are used, sweep after sweep.
pub struct BlockFeed<B> {
    block_count: usize,
    inbox: Sender<LoaderMessage>,
    deliveries: Receiver<Delivery<B>>,
    /// The sweep under way, or the last one.
    sweep: u64,
    probe: LoaderProbe,
}

impl<B> BlockFeed<B> {
    pub(super) fn new(
        block_count: usize,
        inbox: Sender<LoaderMessage>,
        deliveries: Receiver<Delivery<B>>,
        probe: LoaderProbe,
    ) -> Self {
        Self { block_count, inbox, deliveries, sweep: 0, probe }
    }

    /// How many blocks a sweep has.
    pub fn block_count(&self) -> usize {
        self.block_count
    }

    /// An observer of the loader.
    pub fn probe(&self) -> LoaderProbe {
        self.probe.clone()
    }

    /// The next block of the sweep, waiting for it. Block 0 begins a sweep; the others follow in order, but a sweep may
    /// be left early. Whoever calls this has dropped the block before.
    ///
    /// # Errors
    /// The block could not be loaded, or the loader is gone.
    pub fn acquire(&mut self, index: usize) -> Computed<LoadedBlock<B>> {
        if index == 0 {
            self.sweep += 1;
            self.tell(LoaderMessage::Sweep(self.sweep));
        }
        let _waiting = timeline::wait_for_block(index);
        let started = Instant::now();
        loop {
            let Some(delivery) = self.deliveries.recv() else { return Err(gone()) };
            let Delivery::Block { sweep, index: delivered, block } = delivery else { continue };
            self.tell(LoaderMessage::Taken);
            if sweep == self.sweep {
                debug_assert!(block.is_err() || delivered == index, "blocks are used in order");
                self.probe.waited(started.elapsed());
                return block;
            }
        }
    }

    /// Has everything that was read ahead given back, and waits until it is.
    pub fn rest(&mut self) {
        self.tell(LoaderMessage::Rest);
        while let Some(delivery) = self.deliveries.recv() {
            if let Delivery::Resting = delivery {
                return;
            }
        }
    }

    fn tell(&self, message: LoaderMessage) {
        // A loader that is gone is noticed where its blocks are waited for.
        let _ = self.inbox.send(message);
    }
}

impl<B> Drop for BlockFeed<B> {
    fn drop(&mut self) {
        self.tell(LoaderMessage::Close);
    }
}

fn gone() -> StageFailure {
    StageFailure::StageDied { reason: "its block loader has ended".into() }
}
