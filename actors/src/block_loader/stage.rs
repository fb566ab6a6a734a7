//! The loader's own thread.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use sora_telemetry::timeline;

use super::course::Course;
use super::delivery::{Delivery, LoadedBlock, LoaderMessage, PassingPlaces, Place};
use super::feed::BlockFeed;
use super::probe::LoaderProbe;
use super::read_limit::ReadLimit;
use super::retained::RetainedBlocks;
use super::{BlockSize, LoadBlocks};
use crate::channel::{Receiver, Sender};
use crate::error::{LoaderOf, StageFailure, StageName};
use crate::memory::{MemoryLedger, MemoryUse, retention_target};
use crate::stage::{Stage, StageCore};

/// How a loader uses memory and time.
#[derive(Clone)]
pub struct LoaderSettings {
    /// Blocks that may be in memory beside the one at work and those that are kept: 1 loads the next block while one
    /// computes, 0 loads each block only when the one before it is done.
    pub read_ahead: usize,
    /// Whether blocks are kept for the next sweep where memory allows.
    pub retain: bool,
    /// Loaders that share what is free for keeping blocks, this one included.
    pub sharers: NonZeroUsize,
    /// Whether the next sweep's blocks are read before it begins.
    pub across_sweeps: bool,
    /// A slower disk than the one at hand.
    pub read_limit: Option<ReadLimit>,
}

/// Blocks that a loader may be ahead of the stage it serves, kept ones included. Our choice: what is delivered cannot be
/// taken back when memory is short, so not many; but with a few kept blocks between two that are loaded, the loader must
/// get past them to begin the next load early.
pub const LOOK_AHEAD: usize = 4;

/// What joins a loader to the stage it serves. Both channels are never full.
pub struct LoaderChannels<B> {
    /// To the loader: at least [`LoaderChannels::INBOX_CAPACITY`] places.
    pub inbox: (Sender<LoaderMessage>, Receiver<LoaderMessage>),
    /// From the loader: [`LoaderChannels::DELIVERY_CAPACITY`] places.
    pub deliveries: (Sender<Delivery<B>>, Receiver<Delivery<B>>),
}

impl<B> LoaderChannels<B> {
    /// A place for each delivery that was taken and each block that went with it, and for a sweep, a rest and the end.
    pub const INBOX_CAPACITY: usize = 2 * LOOK_AHEAD + 8;
    /// A place for each block, and for the answer to a rest.
    pub const DELIVERY_CAPACITY: usize = LOOK_AHEAD + 1;
}

/// Reads blocks for one stage, in the order in which they are used.
pub struct BlockLoader<L: LoadBlocks> {
    core: StageCore,
    blocks: L,
    settings: LoaderSettings,
    course: Course,
    ledger: MemoryLedger,
    passing: PassingPlaces,
    retained: Arc<RetainedBlocks<L::Block>>,
    /// Blocks that may be kept, as memory was when the sweep under way began.
    target: usize,
    own_inbox: Sender<LoaderMessage>,
    inbox: Receiver<LoaderMessage>,
    deliveries: Sender<Delivery<L::Block>>,
    probe: LoaderProbe,
}

impl<L: LoadBlocks> BlockLoader<L> {
    /// A loader, and what the stage it serves gets its blocks from.
    pub fn new(
        owner: LoaderOf,
        blocks: L,
        settings: LoaderSettings,
        ledger: &MemoryLedger,
        channels: LoaderChannels<L::Block>,
    ) -> (Self, BlockFeed<L::Block>) {
        let LoaderChannels { inbox: (own_inbox, inbox), deliveries: (to_stage, deliveries) } =
            channels;
        let probe = LoaderProbe::new(owner);
        let count = blocks.block_count();
        let feed = BlockFeed::new(count, own_inbox.clone(), deliveries, probe.clone());
        let loader = Self {
            core: StageCore::new(StageName::BlockLoader(owner)),
            course: Course::new(count, LOOK_AHEAD, settings.across_sweeps),
            passing: PassingPlaces::default(),
            retained: RetainedBlocks::new(count, ledger, owner.into()),
            target: 0,
            ledger: ledger.clone(),
            deliveries: to_stage,
            blocks,
            settings,
            own_inbox,
            inbox,
            probe,
        };
        (loader, feed)
    }

    /// `false` when the stage that is served has ended.
    fn hear(&mut self, message: LoaderMessage) -> bool {
        match message {
            LoaderMessage::Sweep(sweep) => self.course.asked(sweep),
            LoaderMessage::Taken => self.course.taken(),
            LoaderMessage::PlaceFree => {}
            LoaderMessage::Rest => {
                self.course.rest();
                // The served stage takes everything before this answer out of the channel.
                return self.deliveries.send(Delivery::Resting).is_ok();
            }
            LoaderMessage::Close => return false,
        }
        true
    }

    /// Delivers the next block, if there is one to deliver and memory for it.
    fn advance(&mut self) -> bool {
        let Some((sweep, index)) = self.course.next() else { return false };
        if index == 0 {
            self.target = self.target();
            self.probe.sweep_begins();
        }
        let block = match self.retained.get(index) {
            Some(block) => {
                self.probe.found();
                Ok(block)
            }
            None => {
                let size = self.blocks.size(index);
                let Some(place) = self.place(index, size) else { return false };
                self.load(index, size, place)
            }
        };
        match &block {
            Ok(_) => {
                if index + 1 == self.blocks.block_count() {
                    self.probe.sweep_is_read();
                }
                self.course.delivered();
            }
            Err(_) => self.course.failed(),
        }
        self.core.metrics().items_out(1);
        // A stage that is gone has said so, or is about to.
        let _ = self.deliveries.send(Delivery::Block { sweep, index, block });
        true
    }

    fn load(
        &self,
        index: usize,
        size: BlockSize,
        place: Place,
    ) -> Result<LoadedBlock<L::Block>, StageFailure> {
        let _turn = self.core.turn();
        let _loading = timeline::load_block(index, size.stored_bytes);
        let started = Instant::now();
        let loaded = self.core.compute(|| {
            let block = self.blocks.load(index)?;
            if let Some(limit) = &self.settings.read_limit {
                limit.pace(size.stored_bytes, started);
            }
            Ok(block)
        });
        let block = loaded.map_err(|cause| {
            // Nobody else has seen this cause yet.
            Arc::into_inner(cause).unwrap_or_else(|| StageFailure::StageDied {
                reason: "loading a block failed".into(),
            })
        })?;
        self.probe.loaded(size.stored_bytes, started.elapsed());
        let keep = matches!(place, Place::Kept(_));
        let block = LoadedBlock::new(block, place);
        if keep {
            self.retained.keep(index, block.clone());
            self.ledger.tell_those_who_wait();
        }
        Ok(block)
    }

    /// Memory for a block: to keep it, if it is one of those to be kept; else on its way through.
    fn place(&self, index: usize, size: BlockSize) -> Option<Place> {
        if self.retained.rank(index) < self.target {
            let bytes = size.resident_bytes;
            if let Some(permit) = self.ledger.try_reserve_spare(MemoryUse::Retained, bytes) {
                return Some(Place::Kept(permit));
            }
        }
        if let Some(place) = self.passing.leased(&self.own_inbox) {
            return Some(Place::Passing(place));
        }
        if !self.passing.has_ahead(self.settings.read_ahead) {
            return None;
        }
        // Nothing is occupied before the bytes are there: giving a place back would call for another try at once.
        let permit = self.ledger.try_reserve_unawaited(MemoryUse::Ahead, size.resident_bytes)?;
        Some(Place::Passing(self.passing.ahead(&self.own_inbox, permit)))
    }

    fn target(&self) -> usize {
        if !self.settings.retain {
            return 0;
        }
        let count = self.blocks.block_count();
        let resident = |index| self.blocks.size(index).resident_bytes;
        let free = self.ledger.bytes_to_keep() / self.settings.sharers.get() as u64;
        let missing = (0..count).filter(|&index| self.retained.get(index).is_none()).map(resident);
        // Where all blocks stay, none is read ahead.
        if missing.sum::<u64>() <= free {
            return count;
        }
        let largest = (0..count).map(resident).max().unwrap_or(0);
        let ahead = self.settings.read_ahead as u64 * largest;
        retention_target(self.retained.count(), largest, free, ahead)
    }
}

impl<L: LoadBlocks> Stage for BlockLoader<L> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        loop {
            while let Some(message) = self.inbox.try_recv() {
                if !self.hear(message) {
                    return;
                }
            }
            if !self.advance() {
                let Some(message) = self.inbox.recv() else { return };
                if !self.hear(message) {
                    return;
                }
            }
        }
    }
}
