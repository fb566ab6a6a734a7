//! Whose fault a failure is, and what clients are told of it: all that helps them, and nothing of the server's own.

use sora_actors::{StageError, StageErrorKind};

use crate::SubmitError;
use crate::output::OutputError;
use crate::server::ids::VideoId;
use crate::server::store::VideoError;
use crate::sinks::SinkError;

/// Whose fault a failure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The video's own: it would fail again.
    OfVideo(VideoError),
    /// The server's: any video would fail, and this one may well be made later.
    OfServer(Fault),
}

/// What the server lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Work or videos cannot be read or written, or not as fast as they come.
    Disk,
    /// Weights cannot be read.
    Model,
    /// The device for computing cannot be used.
    Device,
}

impl Fault {
    /// What those are told who ask whether videos are made.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "The server cannot use its disk and tries again.",
            Self::Model => "The server cannot read the model's files and tries again.",
            Self::Device => "The server's device for computing fails, and it tries again.",
        }
    }
}

/// What a client is told who cancelled.
pub fn cancelled() -> VideoError {
    VideoError::new("cancelled", "The video was cancelled.")
}

/// What clients are told of a video that ends each process that works on it.
pub(super) fn crashed() -> VideoError {
    VideoError::new("crashed", "The server ended each time when it worked on this video.")
}

/// What clients are told of a video at which the device fails each time, though it makes others.
pub(super) fn refused_by_device() -> VideoError {
    VideoError::new("compute", "Computing the video failed on the server's device each time.")
}

/// A stage failed the video.
pub(super) fn of_stage(id: VideoId, cause: &StageError) -> Failure {
    let code = cause.kind().as_str();
    tracing::error!(%id, stage = %cause.stage, kind = code, cause = %cause.for_log(), "a video failed");
    let message = match cause.kind() {
        // A decoder whose frames nobody takes waits for the disk.
        StageErrorKind::Output | StageErrorKind::Cancelled => {
            return Failure::OfServer(Fault::Disk);
        }
        StageErrorKind::BadModel => return Failure::OfServer(Fault::Model),
        StageErrorKind::Device => return Failure::OfServer(Fault::Device),
        // These speak of the request alone.
        StageErrorKind::BadInput | StageErrorKind::OverBudget => cause.cause.to_string(),
        StageErrorKind::Compute | StageErrorKind::StageDied => {
            format!("Computing the video failed in {}.", cause.stage)
        }
    };
    Failure::OfVideo(VideoError::new(code, message))
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
pub(super) fn of_writing(id: VideoId, cause: &OutputError) -> Failure {
    tracing::error!(%id, %cause, "a video cannot be written");
    match cause {
        OutputError::Sink(SinkError::Io { .. }) | OutputError::NotWritable { .. } => {
            Failure::OfServer(Fault::Disk)
        }
        // The same frames would be refused again.
        _ => Failure::OfVideo(VideoError::new("output", "The server cannot write the video.")),
    }
}

/// A task that worked on the video panicked.
pub(super) fn of_panic(id: VideoId) -> VideoError {
    tracing::error!(%id, "work on a video panicked (this is a bug, please report it)");
    VideoError::new("compute", "Writing the video failed.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;
    use std::sync::Arc;

    use sora_actors::messages::JobId;
    use sora_actors::{JournalError, StageFailure, StageName};
    use sora_models::ModelError;

    use super::*;

    fn failed(cause: impl Into<StageFailure>) -> Failure {
        let cause = Arc::new(cause.into());
        let error = StageError { stage: StageName::DenoiseController, job: JobId(1), cause };
        of_stage(VideoId::random().unwrap(), &error)
    }

    #[test]
    fn what_the_server_lacks_fails_no_video() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let gone = ModelError::Io { file: "weights".into(), source: full() };
        assert_eq!(failed(JournalError::new(full())), Failure::OfServer(Fault::Disk));
        assert_eq!(failed(gone), Failure::OfServer(Fault::Model));
        let lost = candle_core::Error::Cuda("the device is lost".into());
        assert_eq!(failed(ModelError::from(lost)), Failure::OfServer(Fault::Device));
        let path = || "video.mp4".into();
        let written = |cause: OutputError| of_writing(VideoId::random().unwrap(), &cause);
        let not_writable = OutputError::NotWritable { path: path(), source: full() };
        assert_eq!(written(not_writable), Failure::OfServer(Fault::Disk));
        let io = SinkError::Io { target: path(), source: full() };
        assert_eq!(written(io.into()), Failure::OfServer(Fault::Disk));
        let encoder = SinkError::Encoder { target: path(), reason: "too odd".into() };
        for own in [
            failed(ModelError::BadInput("no".into())),
            failed(ModelError::NotFinite { what: "latent".into() }),
            written(encoder.into()),
        ] {
            assert!(matches!(own, Failure::OfVideo(_)), "{own:?}");
        }
    }
}
