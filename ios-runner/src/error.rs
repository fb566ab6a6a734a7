//! Why a call is refused, and why a job failed.

use sora_actors::{StageError, StageErrorKind};
use sora_models::{ErrorKind, ModelError};
use sora_pipeline::saved_job::SavedJobError;
use sora_pipeline::{PipelineError, SubmitError};
use sora_telemetry::TelemetryError;

/// Why a call is refused. Flat: a kind to react to, and a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum RunnerError {
    /// The request asks for something that the model cannot do.
    #[error("{0}")]
    BadInput(String),
    /// A model file is missing, unreadable or not what its config says.
    #[error("{0}")]
    BadModel(String),
    /// The device does not exist, or cannot hold the model.
    #[error("{0}")]
    Device(String),
    /// The memory budget is too small.
    #[error("{0}")]
    OverBudget(String),
    /// As many videos wait as may wait.
    #[error("{0}")]
    QueueFull(String),
    /// The runner was closed.
    #[error("{0}")]
    Closed(String),
    /// Nothing is saved under this key.
    #[error("{0}")]
    NotFound(String),
    /// The video is being made at this moment.
    #[error("{0}")]
    Busy(String),
    /// What was saved cannot be used: it is damaged, or of another model.
    #[error("{0}")]
    SavedWork(String),
    /// The operating system refuses a file, a folder or a thread.
    #[error("{0}")]
    System(String),
    /// Telemetry cannot go where it shall.
    #[error("{0}")]
    Telemetry(String),
}

impl RunnerError {
    pub(crate) fn closed() -> Self {
        Self::Closed("the runner is closed: open another one".into())
    }

    /// The operating system refuses something that has to do with `what`.
    pub(crate) fn system(what: impl std::fmt::Display, cause: &std::io::Error) -> Self {
        Self::System(format!("{what}: {cause}"))
    }
}

impl From<ModelError> for RunnerError {
    fn from(cause: ModelError) -> Self {
        let text = cause.to_string();
        match cause.kind() {
            ErrorKind::BadInput => Self::BadInput(text),
            ErrorKind::BadModel => Self::BadModel(text),
            // Outside of jobs, tensors are only moved to the device.
            ErrorKind::Device | ErrorKind::Compute => Self::Device(text),
        }
    }
}

impl From<PipelineError> for RunnerError {
    fn from(cause: PipelineError) -> Self {
        match cause {
            PipelineError::Model(cause) => cause.into(),
            PipelineError::OverBudget(_) => Self::OverBudget(cause.to_string()),
            PipelineError::Thread(_) => Self::System(cause.to_string()),
            PipelineError::Limits { .. }
            | PipelineError::TooManyWorkers { .. }
            | PipelineError::NothingToDecode => Self::BadInput(cause.to_string()),
        }
    }
}

impl From<SubmitError> for RunnerError {
    fn from(cause: SubmitError) -> Self {
        match cause {
            SubmitError::Full { .. } => Self::QueueFull(cause.to_string()),
            SubmitError::Closed { .. } | SubmitError::Gone => Self::closed(),
            SubmitError::OverBudget(_) => Self::OverBudget(cause.to_string()),
            SubmitError::Invalid(cause) => cause.into(),
        }
    }
}

impl From<SavedJobError> for RunnerError {
    fn from(cause: SavedJobError) -> Self {
        match cause {
            SavedJobError::Io { .. } => Self::System(cause.to_string()),
            _ => Self::SavedWork(cause.to_string()),
        }
    }
}

impl From<TelemetryError> for RunnerError {
    fn from(cause: TelemetryError) -> Self {
        Self::Telemetry(cause.to_string())
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct JobFailure {
    /// What to react to.
    pub kind: FailureKind,
    /// The stage that failed.
    pub stage: String,
    /// A text for people.
    pub message: String,
}

/// What a failed job's owner may want to react to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum FailureKind {
    /// The request asks for something that the model cannot do.
    BadInput,
    /// A model file is missing, unreadable or not what its config says.
    BadModel,
    /// The device cannot be used.
    Device,
    /// The memory budget is too small.
    OverBudget,
    /// The computation failed, or its result is not finite.
    Compute,
    /// The work cannot be saved: a full disk, say.
    Output,
    /// The stage is gone.
    StageDied,
    /// Nobody took the frames.
    ConsumerGone,
    /// The job's listener threw an error.
    Listener,
}

impl From<StageErrorKind> for FailureKind {
    fn from(kind: StageErrorKind) -> Self {
        match kind {
            StageErrorKind::BadInput => Self::BadInput,
            StageErrorKind::BadModel => Self::BadModel,
            StageErrorKind::Device => Self::Device,
            StageErrorKind::OverBudget => Self::OverBudget,
            StageErrorKind::Compute => Self::Compute,
            StageErrorKind::Output => Self::Output,
            StageErrorKind::StageDied => Self::StageDied,
            StageErrorKind::Cancelled => Self::ConsumerGone,
        }
    }
}

impl From<&StageError> for JobFailure {
    fn from(error: &StageError) -> Self {
        Self {
            kind: error.kind().into(),
            stage: error.stage.to_string(),
            message: error.cause.to_string(),
        }
    }
}

/// What a listener throws when it cannot go on: its job ends, and what was done is still saved.
#[derive(Debug, Clone, thiserror::Error, uniffi::Error)]
pub enum ListenerError {
    /// With the reason.
    #[error("{reason}")]
    Failed {
        /// Why it cannot go on.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for ListenerError {
    fn from(cause: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: cause.reason }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sora_actors::memory::OverBudget;
    use sora_actors::messages::JobId;
    use sora_actors::{StageFailure, StageName};

    use super::*;

    #[test]
    fn kinds_stay_apart() {
        let model = ModelError::bad_input("no such thing");
        assert_eq!(RunnerError::from(model), RunnerError::BadInput("no such thing".into()));
        let limits = PipelineError::Limits { limit: "queue_capacity" };
        assert!(matches!(RunnerError::from(limits), RunnerError::BadInput(_)));
        assert!(matches!(RunnerError::from(SubmitError::Gone), RunnerError::Closed(_)));
        let telemetry = TelemetryError::AlreadyInstalled;
        assert!(matches!(RunnerError::from(telemetry), RunnerError::Telemetry(_)));
    }

    /// What no client can bring about on a CPU; the others, `tests/python` does.
    #[test]
    fn a_failed_job_tells_kind_stage_and_cause() {
        let device = ModelError::Device { name: "metal".into(), reason: "it is gone".into() };
        let budget = OverBudget { needed_bytes: 3, base_bytes: 2, budget_bytes: 4 };
        let causes = [
            (StageFailure::Model(ModelError::bad_input("no frames")), FailureKind::BadInput),
            (StageFailure::Model(device), FailureKind::Device),
            (StageFailure::OverBudget(budget), FailureKind::OverBudget),
            (StageFailure::StageDied { reason: "a bug".into() }, FailureKind::StageDied),
            (StageFailure::ConsumerStalled { seconds: 60 }, FailureKind::ConsumerGone),
        ];
        for (cause, kind) in causes {
            let cause = Arc::new(cause);
            let stage = StageName::StditWorker(1);
            let error = StageError { stage, job: JobId(7), cause: Arc::clone(&cause) };
            let JobFailure { kind: found, stage, message } = (&error).into();
            assert_eq!(
                (found, stage.as_str(), message),
                (kind, "stdit_worker_1", cause.to_string())
            );
        }
    }
}
