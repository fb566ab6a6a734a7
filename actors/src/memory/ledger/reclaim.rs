//! What is kept only as long as nobody needs its bytes for work.

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
    /// Gives up at least `bytes`, or all there is, without waiting, and says how many of them have come back. What others still
    /// look at is no part of those: it comes back a little later.
    fn reclaim(&self, bytes: u64) -> u64;
}
