//! The right to some bytes.

use super::{MemoryLedger, MemoryUse};
use crate::memory::allocator::give_back_free_pages;

/// Bytes taken from a [`MemoryLedger`], until it is dropped.
pub struct MemoryPermit {
    pub(super) ledger: MemoryLedger,
    pub(super) purpose: MemoryUse,
    pub(super) bytes: u64,
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
