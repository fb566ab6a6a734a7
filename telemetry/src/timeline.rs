//! What each thread does when, as spans that a timeline can draw.
//!
//! A span begins where the function is called and ends when its guard is dropped. Nobody listens unless a timeline is
//! asked for, and a span costs next to nothing then.

use tracing::span::EnteredSpan;

/// The target of all spans of the timeline, for filters.
pub const TARGET: &str = "sora_timeline";

/// A loader reads a block of so many stored bytes.
pub fn load_block(block: usize, stored_bytes: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "load", block, stored_bytes).entered()
}

/// A stage waits for its next block.
pub fn wait_for_block(block: usize) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "wait", block).entered()
}

/// A stage computes one job's turn in a block.
pub fn compute_block(block: usize, job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "compute", block, job).entered()
}

/// A stage does a piece of work on a job beside its blocks.
pub fn work(name: &'static str, job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "work", name, job).entered()
}

/// A stage waits for memory before it can begin.
pub fn wait_for_memory(bytes: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "wait for memory", bytes).entered()
}
