//! The memory that denoising works in: one lease for the whole ring, as large as the jobs in flight need.

use crate::memory::{MemoryLedger, MemoryPermit, OverBudget};
use crate::stage::StageCore;

/// What came of asking for memory for one more job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The lease covers it.
    Granted,
    /// Not while the jobs in flight are, or not before the workers rest.
    Later,
    /// Not under this budget.
    Never(OverBudget),
}

/// Waits for memory only when nothing is in flight: a job in flight holds memory that others may wait for, and somebody
/// must go on.
pub(crate) struct DenoiseLease {
    ledger: MemoryLedger,
    permit: Option<MemoryPermit>,
}

impl DenoiseLease {
    pub(crate) fn new(ledger: MemoryLedger) -> Self {
        Self { ledger, permit: None }
    }

    /// Whether any memory is held.
    pub(crate) fn is_held(&self) -> bool {
        self.permit.is_some()
    }

    /// Makes the lease as large as the jobs in flight and one more need together.
    pub(crate) fn extend(&mut self, bytes: u64, core: &StageCore) -> Room {
        if let Some(permit) = &mut self.permit {
            // What was granted before the budget shrank is for those that it was granted to, and no others.
            if self.ledger.is_overdrawn() {
                return Room::Later;
            }
            let enough = bytes <= permit.bytes() || permit.try_resize(bytes);
            return if enough { Room::Granted } else { Room::Later };
        }
        match core.reserve(&self.ledger, bytes) {
            Ok(permit) => {
                self.permit = Some(permit);
                Room::Granted
            }
            Err(over) => Room::Never(over),
        }
    }

    /// Gives back what the jobs that are left in flight do not need.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.permit
            && bytes < permit.bytes()
        {
            permit.try_resize(bytes);
        }
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        self.permit = None;
    }
}
