//! What clients are told of a failure: all that helps them, and nothing of the server's own.

use sora_actors::{StageError, StageErrorKind};

use crate::SubmitError;
use crate::output::OutputError;
use crate::server::ids::VideoId;
use crate::server::store::VideoError;

/// What a client is told who cancelled.
pub fn cancelled() -> VideoError {
    VideoError::new("cancelled", "The video was cancelled.")
}

/// A stage failed the video.
pub(super) fn of_stage(id: VideoId, cause: &StageError) -> VideoError {
    let code = cause.kind().as_str();
    tracing::error!(%id, stage = %cause.stage, kind = code, cause = %loggable(cause), "a video failed");
    let message = match cause.kind() {
        // These speak of the request alone.
        StageErrorKind::BadInput | StageErrorKind::OverBudget => cause.cause.to_string(),
        StageErrorKind::BadModel => "The model's files on the server cannot be used.".into(),
        StageErrorKind::Device => "The server's device for computing cannot be used.".into(),
        StageErrorKind::Output => "The server cannot write the video.".into(),
        StageErrorKind::Compute | StageErrorKind::StageDied | StageErrorKind::Cancelled => {
            format!("Computing the video failed in {}.", cause.stage)
        }
    };
    VideoError::new(code, message)
}

/// A cause as the log may have it: what speaks of the request may quote its prompt.
fn loggable(cause: &StageError) -> String {
    match cause.kind() {
        StageErrorKind::BadInput => "the request cannot be fulfilled".into(),
        _ => cause.cause.to_string(),
    }
}

/// The graph did not take the video.
pub(super) fn of_submission(id: VideoId, cause: &SubmitError) -> VideoError {
    let code = match cause {
        SubmitError::Invalid(_) => "bad_input",
        SubmitError::OverBudget(_) => "over_budget",
        _ => "refused",
    };
    tracing::error!(%id, kind = code, "the graph does not take a video");
    VideoError::new(code, cause.to_string())
}

/// The frames cannot be written.
pub(super) fn of_writing(id: VideoId, cause: &OutputError) -> VideoError {
    tracing::error!(%id, %cause, "a video cannot be written");
    VideoError::new("output", "The server cannot write the video.")
}

/// The task that wrote frames panicked.
pub(super) fn of_panic(id: VideoId) -> VideoError {
    tracing::error!(%id, "writing a video panicked (this is a bug, please report it)");
    VideoError::new("compute", "Writing the video failed.")
}
