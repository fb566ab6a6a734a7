//! Every capacity and limit of the graph, with its default.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sora_actors::ConsumerLimits;

use crate::error::PipelineError;

/// How much the graph holds at once. `ARCHITECTURE.md` shows which edge has which capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphLimits {
    /// Workers in the ring; each runs one span of the transformer's blocks.
    pub workers: usize,
    /// Accepted prompts that may wait for the prompt embedder; one more is refused.
    pub queue_capacity: usize,
    /// Prompts that the text encoder takes in one sweep.
    pub sweep_limit: usize,
    /// Jobs that are denoised at a time.
    pub token_slots: usize,
    /// How a consumer that is slower than the graph is treated.
    pub consumer: ConsumerLimits,
    /// How much memory there is, and what it is used for.
    pub memory: MemoryLimits,
}

/// Memory for models and videos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// Bytes that the whole program may take.
    pub budget_bytes: u64,
    /// Blocks that each stage reads ahead while it computes (concurrent inference); 0 reads each when it is needed.
    pub read_ahead: usize,
    /// Whether blocks stay in memory between sweeps where there is room (dynamic loading).
    pub retain: bool,
    /// Bytes a second at which weights are read at most, to rehearse a slower disk.
    pub read_limit: Option<NonZeroU64>,
}

impl Default for MemoryLimits {
    /// No limit: blocks stay once they are read.
    fn default() -> Self {
        Self { budget_bytes: u64::MAX, read_ahead: 1, retain: true, read_limit: None }
    }
}

impl Default for GraphLimits {
    /// Our choices, for one small device: on a CPU a single job's matrix products occupy all cores, so one worker is
    /// enough there, and a second job in flight fills the gaps while the first is between two steps. Two chunks let the
    /// decoder work while the consumer encodes one. A consumer that takes nothing for two minutes is taken for gone.
    fn default() -> Self {
        Self {
            workers: 1,
            queue_capacity: 16,
            sweep_limit: 8,
            token_slots: 2,
            consumer: ConsumerLimits { chunk_backlog: 2, patience: Duration::from_secs(120) },
            memory: MemoryLimits::default(),
        }
    }
}

impl GraphLimits {
    /// Refuses limits that leave a stage without room.
    ///
    /// # Errors
    /// [`PipelineError::Limits`] naming the limit.
    pub fn check(&self) -> Result<(), PipelineError> {
        let at_least_one = [
            ("workers", self.workers),
            ("queue_capacity", self.queue_capacity),
            ("sweep_limit", self.sweep_limit),
            ("token_slots", self.token_slots),
            ("consumer.chunk_backlog", self.consumer.chunk_backlog),
        ];
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((limit, _)) => Err(PipelineError::Limits { limit }),
            None => Ok(()),
        }
    }
}
