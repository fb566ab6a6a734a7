//! Why the pipeline does not start, or does not take a prompt.

use sora_actors::memory::OverBudget;
use sora_actors::messages::GenerationRequest;
use sora_models::ModelError;

use crate::plan::MemoryPlan;

/// Why the pipeline does not start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A limit that leaves a stage without room.
    #[error("the limit `{limit}` must be at least 1")]
    Limits {
        /// Its name.
        limit: &'static str,
    },

    /// More workers than blocks to share among them.
    #[error("{workers} workers cannot share {blocks} transformer blocks: use at most {blocks}")]
    TooManyWorkers {
        /// Workers asked for.
        workers: usize,
        /// Blocks that the model has.
        blocks: usize,
    },

    /// A decoder was to be started for a job that is not denoised.
    #[error("the job is not denoised yet: there is nothing to decode")]
    NothingToDecode,

    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// Not even what never leaves memory fits the budget.
    #[error("the memory budget is too small for this model: {0}")]
    OverBudget(#[from] OverBudget),

    /// The operating system refuses to start a thread.
    #[error("a thread for a stage cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a prompt was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// As many prompts wait as may wait; the request comes back, to be sent again later.
    #[error("the queue is full: {capacity} prompts wait already; try again when one is done")]
    Full {
        /// What was submitted.
        request: Box<GenerationRequest>,
        /// How many may wait.
        capacity: usize,
    },

    /// The pipeline takes no more prompts; the request comes back.
    #[error("the pipeline is shutting down and takes no more prompts")]
    Closed {
        /// What was submitted.
        request: Box<GenerationRequest>,
    },

    /// The video takes more memory than there is.
    #[error(
        "the memory budget is too small: give it more, or make the video smaller or shorter\n{0}"
    )]
    OverBudget(Box<MemoryPlan>),

    /// The request cannot be fulfilled by this model.
    #[error(transparent)]
    Invalid(#[from] ModelError),

    /// The pipeline actor is gone.
    #[error("the pipeline has ended")]
    Gone,
}
