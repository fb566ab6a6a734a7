//! Memory: one account for all stages, and what to keep when not all fits.

mod allocator;
mod ledger;
mod retention;

pub use ledger::{
    KeptFor, LedgerSnapshot, MemoryLedger, MemoryPermit, MemoryUse, OverBudget, Reclaim,
    budget_to_fill, readable_bytes, unseen_bytes,
};
pub use retention::{retention_order, retention_ranks, retention_target};
