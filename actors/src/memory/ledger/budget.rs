//! Budgets: what one is too small for, and what stays free of it.

use bytesize::ByteSize;

/// More memory than the whole budget could ever give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} beside the {} that never leave memory are more than the budget of {}",
    readable_bytes(*needed_bytes), readable_bytes(*base_bytes), readable_bytes(*budget_bytes)
)]
pub struct OverBudget {
    /// What was asked for.
    pub needed_bytes: u64,
    /// What is held for ever.
    pub base_bytes: u64,
    /// The budget.
    pub budget_bytes: u64,
}

/// Bytes as people read them, in decimal units.
pub fn readable_bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// What part of a budget no account sees: page tables, the allocator's rounding, a tensor on its way from a file into the
/// layout that is computed with. Our choice: a thirty-second, 103 MB of 3.3 GB. With it, and large pieces given back at once
/// (`allocator.rs`), two videos of the full-size model peaked at 3.05 GB under that budget.
const UNSEEN_PART: u64 = 32;

/// What stays free of a budget when all else is filled with kept blocks.
pub fn unseen_bytes(budget_bytes: u64) -> u64 {
    budget_bytes / UNSEEN_PART
}

/// The smallest budget of which `bytes` can be filled with kept blocks and all else.
pub fn budget_to_fill(bytes: u64) -> u64 {
    let mut budget_bytes = bytes.saturating_add((bytes / (UNSEEN_PART - 1)).saturating_sub(1));
    while budget_bytes - unseen_bytes(budget_bytes) < bytes {
        budget_bytes += 1;
    }
    budget_bytes
}
