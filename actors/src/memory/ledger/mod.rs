//! One account of all memory that grows with the model and the video.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use sora_telemetry::MemoryMetrics;

use super::free_pages::give_back_free_pages;

/// What bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryUse {
    /// The program itself and the parts of the model that never leave memory.
    Base,
    /// A stage's working set: the block at work, the activations, what jobs carry along.
    Working,
    /// Blocks that were read ahead.
    Ahead,
    /// Blocks that stay in memory for the next sweep; the first to go when memory is short.
    Retained,
    /// Embeddings of prompts seen before.
    Embeddings,
}

impl MemoryUse {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Base, Self::Working, Self::Ahead, Self::Retained, Self::Embeddings];

    /// As metrics and tables name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Working => "working",
            Self::Ahead => "ahead",
            Self::Retained => "retained",
            Self::Embeddings => "embeddings",
        }
    }
}

/// A budget of bytes and who holds how much of it. Clones share one account.
///
/// Whoever needs memory for its work takes a [`MemoryPermit`] first, and gives the bytes back by dropping it. What is
/// kept only because there is room ([`MemoryUse::Retained`], [`MemoryUse::Embeddings`]) is given up by its holder, a
/// [`Reclaim`], when a permit for work would not fit otherwise.
#[derive(Clone)]
pub struct MemoryLedger {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    released: Condvar,
    metrics: MemoryMetrics,
}

struct State {
    budget_bytes: u64,
    used: [u64; MemoryUse::ALL.len()],
    peak_bytes: u64,
    /// Bytes that are waited for: nothing is kept in their place.
    awaited_bytes: u64,
    /// Those that would miss their bytes least come first.
    holders: Vec<(KeptFor, Weak<dyn Reclaim>)>,
}

/// For whom kept blocks are kept. Our choice of order: T5 runs once a prompt and the decoder once a video, the
/// transformer twice a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptFor {
    /// The prompt embedder.
    Embedding,
    /// The decoder.
    Decoding,
    /// The transformer's workers.
    Denoising,
}

/// Something that keeps bytes only as long as nobody needs them for work.
pub trait Reclaim: Send + Sync {
    /// Gives up at least `bytes`, or all there is, without waiting. What others still look at comes back a little later.
    fn reclaim(&self, bytes: u64);
}

/// More memory than the whole budget could ever give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed_bytes} bytes beside the {base_bytes} that never leave memory are more than the budget of {budget_bytes} bytes"
)]
pub struct OverBudget {
    /// What was asked for.
    pub needed_bytes: u64,
    /// What is held for ever.
    pub base_bytes: u64,
    /// The budget.
    pub budget_bytes: u64,
}

/// What stays free of a budget when all else is filled with kept blocks: page tables, the allocator's rounding and the
/// like, which no account sees. Our choice: a sixty-fourth, 52 MB of 3.3 GB.
pub fn unseen_bytes(budget_bytes: u64) -> u64 {
    budget_bytes / 64
}

/// The smallest budget of which `bytes` can be filled with kept blocks and all else.
pub fn budget_to_fill(bytes: u64) -> u64 {
    let mut budget_bytes = bytes.saturating_add((bytes / 63).saturating_sub(1));
    while budget_bytes - unseen_bytes(budget_bytes) < bytes {
        budget_bytes += 1;
    }
    budget_bytes
}

/// What the account says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LedgerSnapshot {
    /// The budget.
    pub budget_bytes: u64,
    /// Bytes held, by [`MemoryUse::ALL`].
    pub used_bytes: [u64; MemoryUse::ALL.len()],
    /// The most that was ever held at a time.
    pub peak_bytes: u64,
}

impl LedgerSnapshot {
    /// Bytes held in all.
    pub fn total_bytes(&self) -> u64 {
        self.used_bytes.iter().sum()
    }

    /// Bytes held for one use.
    pub fn of(&self, purpose: MemoryUse) -> u64 {
        self.used_bytes[purpose as usize]
    }
}

impl MemoryLedger {
    /// An account with nothing on it.
    pub fn new(budget_bytes: u64) -> Self {
        let metrics = MemoryMetrics::new(MemoryUse::ALL.map(MemoryUse::as_str));
        metrics.budget(budget_bytes);
        let state = State {
            budget_bytes,
            used: [0; MemoryUse::ALL.len()],
            peak_bytes: 0,
            awaited_bytes: 0,
            holders: Vec::new(),
        };
        let shared = Shared { state: Mutex::new(state), released: Condvar::new(), metrics };
        Self { shared: Arc::new(shared) }
    }

    /// An account on which `base_bytes` are held for ever.
    ///
    /// # Errors
    /// [`OverBudget`] when not even those fit.
    pub fn with_base(budget_bytes: u64, base_bytes: u64) -> Result<Self, OverBudget> {
        let ledger = Self::new(budget_bytes);
        let base = ledger.try_reserve(MemoryUse::Base, base_bytes);
        let Some(mut base) = base else {
            return Err(OverBudget { needed_bytes: 0, base_bytes, budget_bytes });
        };
        // Nobody gives them back.
        base.bytes = 0;
        Ok(ledger)
    }

    /// An account that never refuses: for models that are held as a whole.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Makes a holder of kept bytes known; it is forgotten when it is gone.
    pub fn register(&self, kept_for: KeptFor, holder: Weak<dyn Reclaim>) {
        let mut state = self.shared.lock();
        state.holders.retain(|(_, holder)| holder.strong_count() > 0);
        state.holders.push((kept_for, holder));
        state.holders.sort_by_key(|(kept_for, _)| *kept_for);
    }

    /// Takes bytes that are free and that nobody waits for.
    pub fn try_reserve_spare(&self, purpose: MemoryUse, bytes: u64) -> Option<MemoryPermit> {
        let mut state = self.shared.lock();
        let spare = state.fits(bytes.saturating_add(state.awaited_bytes));
        let taken = spare && state.take(purpose, bytes, &self.shared.metrics);
        drop(state);
        taken.then(|| self.permit(purpose, bytes))
    }

    /// Takes bytes that nobody waits for, having kept bytes given up for them where needed.
    pub fn try_reserve_unawaited(&self, purpose: MemoryUse, bytes: u64) -> Option<MemoryPermit> {
        self.try_reserve_spare(purpose, bytes).or_else(|| {
            let awaited = self.shared.lock().awaited_bytes;
            self.reclaim_for(bytes.saturating_add(awaited));
            self.try_reserve_spare(purpose, bytes)
        })
    }

    /// Has those who wait look again: something became reclaimable.
    pub fn tell_those_who_wait(&self) {
        self.shared.released.notify_all();
    }

    /// Takes bytes for work, having kept bytes given up for it where needed; `None` when even that is not enough now.
    pub fn try_reserve(&self, purpose: MemoryUse, bytes: u64) -> Option<MemoryPermit> {
        let take = || self.shared.lock().take(purpose, bytes, &self.shared.metrics);
        let taken = take() || {
            self.reclaim_for(bytes);
            take()
        };
        taken.then(|| self.permit(purpose, bytes))
    }

    /// Takes bytes for work, waiting until they are free.
    ///
    /// Whoever waits here must hold nothing that others wait for; then somebody always gives something back.
    ///
    /// # Errors
    /// [`OverBudget`] when they can never be free under the present budget.
    pub fn reserve(&self, purpose: MemoryUse, bytes: u64) -> Result<MemoryPermit, OverBudget> {
        if let Some(permit) = self.try_reserve(purpose, bytes) {
            return Ok(permit);
        }
        self.shared.lock().awaited_bytes += bytes;
        let outcome = loop {
            if let Some(permit) = self.try_reserve(purpose, bytes) {
                break Ok(permit);
            }
            let state = self.shared.lock();
            if let Some(over) = state.never_fits(bytes) {
                break Err(over);
            }
            // Bytes that came back between the two looks are found by the first one of the next round.
            if !state.fits(bytes) {
                drop(self.shared.released.wait(state).unwrap_or_else(PoisonError::into_inner));
            }
        };
        self.shared.lock().awaited_bytes -= bytes;
        outcome
    }

    /// Changes the budget. When it shrinks, kept bytes are given up at once; work under way finishes, and what comes next
    /// waits for it.
    pub fn set_budget(&self, budget_bytes: u64) {
        let missing = {
            let mut state = self.shared.lock();
            state.budget_bytes = budget_bytes;
            self.shared.metrics.budget(budget_bytes);
            state.total().saturating_sub(budget_bytes)
        };
        if missing > 0 {
            self.reclaim_for(0);
        }
        self.shared.released.notify_all();
    }

    /// Bytes that may be spent on what is only kept.
    pub fn bytes_to_keep(&self) -> u64 {
        let state = self.shared.lock();
        state
            .budget_bytes
            .saturating_sub(state.total())
            .saturating_sub(unseen_bytes(state.budget_bytes))
    }

    /// What the account says now.
    pub fn observe(&self) -> LedgerSnapshot {
        let state = self.shared.lock();
        LedgerSnapshot {
            budget_bytes: state.budget_bytes,
            used_bytes: state.used,
            peak_bytes: state.peak_bytes,
        }
    }

    /// Has kept bytes given up until `bytes` would fit, those of the least worth first.
    fn reclaim_for(&self, bytes: u64) {
        // The holders give their permits back, which needs the lock.
        let holders = self.shared.lock().holders.clone();
        let mut reclaimed = false;
        for (_, holder) in holders {
            let missing = {
                let state = self.shared.lock();
                state.total().saturating_add(bytes).saturating_sub(state.budget_bytes)
            };
            if missing == 0 {
                break;
            }
            if let Some(holder) = holder.upgrade() {
                holder.reclaim(missing);
                reclaimed = true;
            }
        }
        if reclaimed {
            give_back_free_pages();
        }
    }

    fn permit(&self, purpose: MemoryUse, bytes: u64) -> MemoryPermit {
        MemoryPermit { ledger: self.clone(), purpose, bytes }
    }
}

impl State {
    fn total(&self) -> u64 {
        self.used.iter().sum()
    }

    /// Whether more than half of the budget is in use. Our choice: with less, it does not matter where freed memory is.
    fn is_short(&self) -> bool {
        self.total() > self.budget_bytes / 2
    }

    fn fits(&self, bytes: u64) -> bool {
        self.total().saturating_add(bytes) <= self.budget_bytes
    }

    fn take(&mut self, purpose: MemoryUse, bytes: u64, metrics: &MemoryMetrics) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.used[purpose as usize] += bytes;
            self.peak_bytes = self.peak_bytes.max(self.total());
            metrics.used(purpose as usize, self.used[purpose as usize]);
        }
        fits
    }

    fn never_fits(&self, bytes: u64) -> Option<OverBudget> {
        let base_bytes = self.used[MemoryUse::Base as usize];
        let over = base_bytes.saturating_add(bytes) > self.budget_bytes;
        over.then_some(OverBudget {
            needed_bytes: bytes,
            base_bytes,
            budget_bytes: self.budget_bytes,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, purpose: MemoryUse, bytes: u64) {
        let mut state = self.lock();
        state.used[purpose as usize] -= bytes;
        self.metrics.used(purpose as usize, state.used[purpose as usize]);
        drop(state);
        self.released.notify_all();
    }
}

/// Bytes taken from a [`MemoryLedger`], until it is dropped.
pub struct MemoryPermit {
    ledger: MemoryLedger,
    purpose: MemoryUse,
    bytes: u64,
}

impl MemoryPermit {
    /// How many bytes it is for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Becomes a permit for `bytes`: takes the difference as [`MemoryLedger::try_reserve`] does, or gives it back. `false` when the difference is not free now; the permit stays as it was.
    pub fn try_resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            let more = self.ledger.try_reserve(self.purpose, bytes - self.bytes);
            let Some(mut more) = more else { return false };
            // From now on this permit answers for those bytes.
            more.bytes = 0;
        } else {
            self.ledger.shared.give_back(self.purpose, self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        let memory_is_short = self.ledger.shared.lock().is_short();
        self.ledger.shared.give_back(self.purpose, self.bytes);
        // At the end of a stage's work, others will use its memory; while it works, it uses its own again.
        if self.purpose == MemoryUse::Working && memory_is_short {
            give_back_free_pages();
        }
    }
}

#[cfg(test)]
mod tests;
