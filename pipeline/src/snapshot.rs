//! What the pipeline looks like at one moment.

use serde::Serialize;
use sora_actors::JobPhase;
use sora_actors::block_loader::LoaderSnapshot;
use sora_actors::memory::LedgerSnapshot;
use sora_actors::messages::JobId;

/// The pipeline at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineSnapshot {
    /// Whether prompts are taken.
    pub accepting: bool,
    /// All jobs that are not over, by id.
    pub jobs: Vec<JobSnapshot>,
    /// All channels, in the order in which a job passes them.
    pub channels: Vec<ChannelSnapshot>,
    /// All stages.
    pub stages: Vec<StageSnapshot>,
    /// Token slots that no job occupies.
    pub free_token_slots: usize,
    /// The account of memory.
    pub memory: LedgerSnapshot,
    /// The block loaders.
    pub loaders: Vec<LoaderSnapshot>,
}

/// One job at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobSnapshot {
    /// Its id.
    pub id: JobId,
    /// Where it is.
    pub phase: JobPhase,
    /// How long ago it was submitted.
    pub seconds: f64,
}

/// One channel at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelSnapshot {
    /// Its name.
    pub name: String,
    /// Items that it can hold.
    pub capacity: usize,
    /// Items that waited after the latest send or receive.
    pub depth: usize,
    /// How long its senders have waited so far.
    pub blocked_seconds: f64,
}

/// One stage at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageSnapshot {
    /// Its name.
    pub name: String,
    /// Why it died, if it did.
    pub death: Option<String>,
    /// How long it has computed so far.
    pub busy_seconds: f64,
}
