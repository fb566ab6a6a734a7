//! What each thread does when, as spans that a timeline can draw.
//!
//! A span begins where the function is called and ends when its guard is dropped. Nobody listens unless a timeline is
//! asked for, and a span costs next to nothing then. Names are few and constant: the thread says which stage it is, and
//! fields say the rest. Blocks are numbered within the stage that they are for.

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

/// A stage prepares what goes through the blocks: a prompt's tokens, or a denoising step's.
pub fn begin(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "begin", job).entered()
}

/// A stage makes something of what came through the blocks: an embedding, or a velocity and the step along it.
pub fn finish(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "finish", job).entered()
}

/// A job is saved, to go on with later.
pub fn save(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "save", job).entered()
}

/// A latent is decoded, from its first network to its last frame.
pub fn decode(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "decode", job).entered()
}

/// A preview is decoded.
pub fn preview(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "preview", job).entered()
}

/// The decoder makes frames, from this one on; within [`decode`].
pub fn decode_frames(first_frame: usize) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "frames", first_frame).entered()
}

/// The decoder hands frames to their consumer and waits for it; within [`decode`].
pub fn wait_for_consumer(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "wait for consumer", job).entered()
}

/// A consumer encodes frames and writes them.
pub fn write_frames(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "write", job).entered()
}

/// A prompt waits for a token slot.
pub fn wait_for_slot(job: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "wait for slot", job).entered()
}

/// A stage waits for memory before it can begin.
pub fn wait_for_memory(bytes: u64) -> EnteredSpan {
    tracing::trace_span!(target: TARGET, "wait for memory", bytes).entered()
}
