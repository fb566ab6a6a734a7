//! What is handed in: a request, and how to keep its work.

use std::sync::Arc;

use crate::journal::JobJournal;
use crate::messages::{GenerationRequest, JobCheckpoint};

/// One job as its owner wants it done.
#[derive(Clone)]
pub struct JobOrder {
    pub(crate) request: GenerationRequest,
    pub(crate) journal: Option<Arc<dyn JobJournal>>,
    pub(crate) checkpoint: Option<Arc<JobCheckpoint>>,
    pub(crate) is_counted: bool,
}

impl JobOrder {
    /// Goes on with a job, of which [`JobCheckpoint::check`] had nothing to say.
    pub fn resume(checkpoint: Arc<JobCheckpoint>) -> Self {
        let request = checkpoint.request.clone();
        Self { checkpoint: Some(checkpoint), ..Self::from(request) }
    }

    /// Saves the job as it goes.
    #[must_use]
    pub fn journaled(self, journal: Arc<dyn JobJournal>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// Leaves it to the owner to count what became of the job, and how long that took: for one whose prompts begin before
    /// they come to the graph, and may outlive it.
    #[must_use]
    pub fn uncounted(self) -> Self {
        Self { is_counted: false, ..self }
    }

    /// Whether the graph counts what becomes of the job.
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// What is to be generated.
    pub fn request(&self) -> &GenerationRequest {
        &self.request
    }

    /// What is to be generated, alone.
    pub fn into_request(self) -> GenerationRequest {
        self.request
    }
}

impl From<GenerationRequest> for JobOrder {
    /// A job from its beginning, which nobody saves.
    fn from(request: GenerationRequest) -> Self {
        Self { request, journal: None, checkpoint: None, is_counted: true }
    }
}
