//! What one run of a benchmark is.

use serde::{Deserialize, Serialize};
use sora_actors::messages::GenerationRequest;

use crate::config::{GraphLimits, MemoryLimits};

/// One run of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchTask {
    /// The video; further prompts are numbered and take the next seeds.
    pub request: GenerationRequest,
    /// Prompts that are in flight together.
    pub prompts: usize,
    /// Workers that share the transformer's blocks.
    pub workers: usize,
    /// How memory and disk may be used.
    pub memory: MemoryLimits,
    /// Which stages work.
    pub stages: BenchStages,
}

/// Which stages of the graph work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchStages {
    /// All of them: from prompts to frames, which are thrown away.
    All,
    /// Denoising alone: embeddings are drawn at random, latents are thrown away.
    Denoising,
}

/// A task and what tables call it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTask {
    /// Its name.
    pub name: String,
    /// The task.
    pub task: BenchTask,
}

impl BenchTask {
    /// The graph's limits: all prompts are in flight together, and no consumer is given up.
    pub(super) fn limits(&self) -> GraphLimits {
        let mut limits = GraphLimits {
            workers: self.workers,
            queue_capacity: self.prompts,
            sweep_limit: self.prompts,
            token_slots: self.prompts,
            memory: self.memory.clone(),
            ..GraphLimits::default()
        };
        limits.consumer.patience = std::time::Duration::MAX;
        limits
    }

    /// The requests, one a prompt. No two prompts are the same, or an embedding would be found rather than made.
    pub(super) fn requests(&self) -> impl Iterator<Item = GenerationRequest> {
        let request = |index| {
            let mut request = self.request.clone();
            request.seed = request.seed.wrapping_add(index);
            if index > 0 {
                request.prompt += &format!(", number {index}");
            }
            request
        };
        (0..self.prompts as u64).map(request)
    }
}
