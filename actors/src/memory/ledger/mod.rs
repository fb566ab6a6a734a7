//! One account of all memory that grows with the model and the video.

mod account;
mod budget;
mod permit;
mod reclaim;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use sora_telemetry::MemoryMetrics;

use super::allocator::{give_back_free_pages, give_back_large_pieces};

pub use account::{LedgerSnapshot, MemoryUse};
pub use budget::{OverBudget, budget_to_fill, readable_bytes, unseen_bytes};
pub use permit::MemoryPermit;
pub use reclaim::{KeptFor, Reclaim};

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
    /// How often something happened that those who wait look at.
    changes: u64,
    /// Those that would miss their bytes least come first.
    holders: Vec<(KeptFor, Weak<dyn Reclaim>)>,
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
            changes: 0,
            holders: Vec::new(),
        };
        let shared = Shared { state: Mutex::new(state), released: Condvar::new(), metrics };
        Self { shared: Arc::new(shared) }
    }

    /// An account on which `base_bytes` are held for ever. From then on the process's allocator follows it: large pieces go
    /// back to the operating system as soon as they are freed.
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
        give_back_large_pieces();
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

    /// Takes bytes that nobody waits for, having kept bytes given up for them where needed and enough.
    pub fn try_reserve_unawaited(&self, purpose: MemoryUse, bytes: u64) -> Option<MemoryPermit> {
        loop {
            if let Some(permit) = self.try_reserve_spare(purpose, bytes) {
                return Some(permit);
            }
            let state = self.shared.lock();
            let bytes = bytes.saturating_add(state.awaited_bytes);
            let in_vain = !state.fits_without_kept(bytes);
            drop(state);
            // What came back may have been taken to keep something else.
            if in_vain || self.reclaim_for(bytes) == 0 {
                return None;
            }
        }
    }

    /// Has those who wait look again: something became reclaimable.
    pub fn tell_those_who_wait(&self) {
        self.shared.change(|_| ());
    }

    /// Takes bytes for work, having kept bytes given up for it where needed; `None` when even that is not enough now, and then
    /// nothing is given up in vain.
    pub fn try_reserve(&self, purpose: MemoryUse, bytes: u64) -> Option<MemoryPermit> {
        let take = || self.shared.lock().take(purpose, bytes, &self.shared.metrics);
        let taken = take() || {
            let enough = self.shared.lock().fits_without_kept(bytes);
            if enough {
                self.reclaim_for(bytes);
            }
            enough && take()
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
            let changes = self.shared.lock().changes;
            if let Some(permit) = self.try_reserve(purpose, bytes) {
                break Ok(permit);
            }
            let state = self.shared.lock();
            if let Some(over) = state.never_fits(bytes) {
                break Err(over);
            }
            // What has happened since the try is found by the next one.
            if state.changes == changes {
                drop(self.shared.released.wait(state).unwrap_or_else(PoisonError::into_inner));
            }
        };
        self.shared.lock().awaited_bytes -= bytes;
        outcome
    }

    /// Changes the budget. When it shrinks, kept bytes are given up at once; work under way finishes, and what comes next
    /// waits for it.
    pub fn set_budget(&self, budget_bytes: u64) {
        let missing = self.shared.change(|state| {
            state.budget_bytes = budget_bytes;
            self.shared.metrics.budget(budget_bytes);
            state.total().saturating_sub(budget_bytes)
        });
        if missing > 0 {
            self.reclaim_for(0);
        }
    }

    /// Bytes that may be spent on what is only kept.
    pub fn bytes_to_keep(&self) -> u64 {
        let state = self.shared.lock();
        state
            .budget_bytes
            .saturating_sub(state.total())
            .saturating_sub(unseen_bytes(state.budget_bytes))
    }

    /// Whether more is held than the budget allows, since it has shrunk.
    pub fn is_overdrawn(&self) -> bool {
        !self.shared.lock().fits(0)
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

    /// Has kept bytes given up until `bytes` would fit, those of the least worth first, and says how many have come back.
    fn reclaim_for(&self, bytes: u64) -> u64 {
        // The holders give their permits back, which needs the lock.
        let holders = self.shared.lock().holders.clone();
        let (mut asked, mut freed) = (false, 0);
        for (_, holder) in holders {
            let missing = {
                let state = self.shared.lock();
                state.total().saturating_add(bytes).saturating_sub(state.budget_bytes)
            };
            if missing == 0 {
                break;
            }
            if let Some(holder) = holder.upgrade() {
                freed += holder.reclaim(missing);
                asked = true;
            }
        }
        if asked {
            give_back_free_pages();
        }
        freed
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

    /// Whether they would fit if all that is only kept were given up.
    fn fits_without_kept(&self, bytes: u64) -> bool {
        let kept =
            [MemoryUse::Retained, MemoryUse::Embeddings].map(|kept| self.used[kept as usize]);
        let needed = self.total() - kept.iter().sum::<u64>();
        needed.saturating_add(bytes) <= self.budget_bytes
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
        self.change(|state| {
            state.used[purpose as usize] -= bytes;
            self.metrics.used(purpose as usize, state.used[purpose as usize]);
        });
    }

    /// Changes something that those who wait look at, and has them look again.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let outcome = change(&mut state);
        state.changes += 1;
        drop(state);
        self.released.notify_all();
        outcome
    }
}
