//! What the graph takes of memory, and how little it could take.

use sora_actors::memory::{LedgerSnapshot, MemoryPermit, MemoryUse, readable_bytes};
use sora_pipeline::MemoryLimits;
use sora_pipeline::plan::{MemoryPlan, PlannedGraph, PlannedVideo};

use crate::engine::Engine;
use crate::error::RunnerError;

/// The account of memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct MemoryState {
    /// Bytes that the whole program may take.
    pub budget_bytes: u64,
    /// Bytes that are accounted for.
    pub used_bytes: u64,
    /// The most that was ever accounted for.
    pub peak_bytes: u64,
    /// Bytes of those used that are only kept because there is room: a warning gives them back at once.
    pub spare_bytes: u64,
}

impl From<LedgerSnapshot> for MemoryState {
    fn from(ledger: LedgerSnapshot) -> Self {
        let of = |purpose: MemoryUse| ledger.used_bytes[purpose as usize];
        Self {
            budget_bytes: ledger.budget_bytes,
            used_bytes: ledger.total_bytes(),
            peak_bytes: ledger.peak_bytes,
            spare_bytes: of(MemoryUse::Retained) + of(MemoryUse::Embeddings),
        }
    }
}

/// What a video takes of memory and of reads, known before any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct VideoPlan {
    /// The budget that the plan is for.
    pub budget_bytes: u64,
    /// The smallest budget that such a video can be made with.
    pub smallest_bytes: u64,
    /// Whether the budget is enough.
    pub fits: bool,
    /// The most that embedding takes.
    pub embedding_peak_bytes: u64,
    /// The most that denoising takes.
    pub denoising_peak_bytes: u64,
    /// The most that decoding takes.
    pub decoding_peak_bytes: u64,
    /// Transformer blocks that stay in memory between steps.
    pub retained_blocks: u32,
    /// Of how many.
    pub blocks: u32,
    /// Bytes that are read for one step once the first is done.
    pub step_read_bytes: u64,
}

impl From<MemoryPlan> for VideoPlan {
    fn from(plan: MemoryPlan) -> Self {
        let [embedding_peak_bytes, denoising_peak_bytes, decoding_peak_bytes] = plan.peak_bytes();
        Self {
            budget_bytes: plan.budget_bytes,
            smallest_bytes: plan.smallest_bytes(),
            fits: plan.fits(),
            embedding_peak_bytes,
            denoising_peak_bytes,
            decoding_peak_bytes,
            retained_blocks: plan.retained_blocks as u32,
            blocks: plan.stdit3.blocks as u32,
            step_read_bytes: plan.step_read_bytes(),
        }
    }
}

impl Engine {
    /// The plan for a video under a budget.
    pub(crate) fn plan(
        &self,
        video: PlannedVideo,
        budget_bytes: u64,
    ) -> Result<MemoryPlan, RunnerError> {
        let limits = MemoryLimits { budget_bytes, ..self.limits.memory.clone() };
        let graph = PlannedGraph { workers: self.limits.workers, videos: 1 };
        Ok(MemoryPlan::new(&self.memory, video, graph, &limits)?)
    }

    /// The least that the videos under way can go on with, one stage at a time.
    pub(crate) fn smallest_bytes(&self) -> u64 {
        let videos = self.store.active_videos();
        // A video that has no plan was refused.
        let plans = videos.into_iter().filter_map(|video| self.plan(video, u64::MAX).ok());
        plans.map(|plan| plan.smallest_bytes()).max().unwrap_or_else(|| self.memory.base_bytes())
    }

    /// Memory for work beside the graph's.
    ///
    /// # Errors
    /// [`RunnerError::OverBudget`] when it is not free now.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<MemoryPermit, RunnerError> {
        let ledger = self.pipeline.ledger();
        ledger.try_reserve(MemoryUse::Working, bytes).ok_or_else(|| {
            let ledger = ledger.observe();
            RunnerError::OverBudget(format!(
                "it takes {}, and {} of {} are in use",
                readable_bytes(bytes),
                readable_bytes(ledger.total_bytes()),
                readable_bytes(ledger.budget_bytes)
            ))
        })
    }
}
