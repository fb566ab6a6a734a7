//! What the loader and the stage it serves say to each other.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::channel::Sender;
use crate::error::StageFailure;
use crate::memory::MemoryPermit;

/// What a loader is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoaderMessage {
    /// The sweep of this number begins; blocks of earlier ones are wanted no more.
    Sweep(u64),
    /// A delivery was taken, so its place is free.
    Taken,
    /// A block that was not kept is gone.
    PlaceFree,
    /// No sweep will follow for now: what was read ahead is to be given back.
    Rest,
    /// The stage that is served has ended.
    Close,
}

/// What a loader delivers.
pub enum Delivery<B> {
    /// A block, or why it could not be loaded.
    Block {
        /// The sweep that it is for.
        sweep: u64,
        /// Which block.
        index: usize,
        /// The block.
        block: Result<LoadedBlock<B>, StageFailure>,
    },
    /// The answer to [`LoaderMessage::Rest`]: nothing is read ahead any more.
    Resting,
}

/// A block in memory; its bytes are given back when the last clone is dropped.
pub struct LoadedBlock<B>(Arc<Held<B>>);

struct Held<B> {
    // Dropped in this order: first the weights, then the right to have them.
    block: B,
    place: Place,
}

/// What gives a block the right to be in memory.
pub(super) enum Place {
    /// One of the places for blocks that are not kept.
    #[allow(dead_code, reason = "it is given back when it is dropped")]
    Passing(PassingPlace),
    /// Bytes of its own, for as long as it is kept.
    Kept(MemoryPermit),
}

impl<B> LoadedBlock<B> {
    pub(super) fn new(block: B, place: Place) -> Self {
        Self(Arc::new(Held { block, place }))
    }

    /// Whether others hold it, too.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The bytes that come back with the last clone of a block that is kept.
    pub(super) fn permit_bytes(&self) -> u64 {
        match &self.0.place {
            Place::Passing(_) => 0,
            Place::Kept(permit) => permit.bytes(),
        }
    }
}

impl<B> Clone for LoadedBlock<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Deref for LoadedBlock<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0.block
    }
}

/// Places for blocks that are on their way through memory: one is part of the served stage's lease, so there always is
/// one; the others, for reading ahead, each take their bytes from the ledger.
#[derive(Default)]
pub(super) struct PassingPlaces {
    leased: Arc<AtomicUsize>,
    ahead: Arc<AtomicUsize>,
}

impl PassingPlaces {
    /// Occupies the leased place, if it is free; `inbox` hears when it is free again.
    pub(super) fn leased(&self, inbox: &Sender<LoaderMessage>) -> Option<PassingPlace> {
        // Only the loader's thread occupies places, so none is taken between looking and taking.
        let free = self.leased.load(Ordering::Acquire) == 0;
        free.then(|| Self::occupy(&self.leased, inbox, None))
    }

    /// Whether fewer than `limit` places for reading ahead are occupied.
    pub(super) fn has_ahead(&self, limit: usize) -> bool {
        self.ahead.load(Ordering::Acquire) < limit
    }

    /// Occupies a place for reading ahead with its bytes; `inbox` hears when it is free again.
    pub(super) fn ahead(
        &self,
        inbox: &Sender<LoaderMessage>,
        permit: MemoryPermit,
    ) -> PassingPlace {
        Self::occupy(&self.ahead, inbox, Some(permit))
    }

    fn occupy(
        occupied: &Arc<AtomicUsize>,
        inbox: &Sender<LoaderMessage>,
        permit: Option<MemoryPermit>,
    ) -> PassingPlace {
        occupied.fetch_add(1, Ordering::AcqRel);
        PassingPlace { occupied: occupied.clone(), inbox: inbox.clone(), permit }
    }
}

/// A place that is occupied until this is dropped.
pub(super) struct PassingPlace {
    occupied: Arc<AtomicUsize>,
    inbox: Sender<LoaderMessage>,
    permit: Option<MemoryPermit>,
}

impl Drop for PassingPlace {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.occupied.fetch_sub(1, Ordering::AcqRel);
        // A loader that is gone needs no place.
        let _ = self.inbox.send(LoaderMessage::PlaceFree);
    }
}
