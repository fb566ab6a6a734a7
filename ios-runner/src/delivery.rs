//! Takes a job's events and tells them to its listener, on a thread of its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sora_actors::JobEvents;
use sora_actors::messages::{JobEvent, JobId};
use sora_models::device_work::releasing;

use crate::error::{FailureKind, JobFailure, ListenerError};
use crate::frame::SoraFrame;
use crate::listener::{JobListener, ProgressEvent};
use crate::saved::KeptJob;
use crate::telemetry_file::TelemetryLines;

/// The stage that a listener's own failure is told of.
const LISTENER: &str = "listener";

/// One job's events on their way to its listener.
pub(crate) struct Delivery {
    pub(crate) id: JobId,
    pub(crate) events: JobEvents,
    pub(crate) listener: Arc<dyn JobListener>,
    pub(crate) kept: Arc<KeptJob>,
    pub(crate) lines: Option<TelemetryLines>,
    pub(crate) over: Arc<AtomicBool>,
}

impl Delivery {
    /// Begins to deliver.
    ///
    /// # Errors
    /// No thread can be started; the job is cancelled then.
    pub(crate) fn start(self) -> io::Result<()> {
        let name = format!("sora-job-{}", self.id);
        thread::Builder::new().name(name).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let over = self.over.clone();
        // A listener's errors come as errors; a panic is this crate's own, and must not end the process.
        if catch_unwind(AssertUnwindSafe(|| self.deliver())).is_err() {
            tracing::error!(job = %self.id, "telling a listener panicked");
        }
        self.end();
        drop(self);
        over.store(true, Ordering::Release);
    }

    fn deliver(&self) {
        while let Ok(event) = self.events.recv() {
            if let Some(lines) = &self.lines {
                lines.job(self.id, &event);
            }
            if let Err(cause) = releasing(|| self.tell(event)) {
                tracing::warn!(job = %self.id, %cause, "a listener failed, so its job ends");
                let message = cause.to_string();
                let failure =
                    JobFailure { kind: FailureKind::Listener, stage: LISTENER.into(), message };
                self.end();
                // It may fail again; there is nothing left to tell.
                let _ = self.listener.failed(failure);
                return;
            }
        }
    }

    fn tell(&self, event: JobEvent) -> Result<(), ListenerError> {
        if let Some(progress) = ProgressEvent::of(&event) {
            return self.listener.progress(progress);
        }
        match event {
            JobEvent::Preview { done, picture } => {
                let frame = SoraFrame::of_chunk(picture).into_iter().next();
                frame.map_or(Ok(()), |frame| self.listener.preview(done as u32, frame))
            }
            JobEvent::Chunk(chunk) => self.listener.frames(SoraFrame::of_chunk(chunk)),
            JobEvent::Finished(summary) => {
                self.listener.finished(summary.into())?;
                self.kept.discard();
                Ok(())
            }
            JobEvent::Failed(error) => {
                self.end();
                self.told(self.listener.failed(JobFailure::from(&*error)))
            }
            JobEvent::Cancelled => {
                self.end();
                self.told(self.listener.cancelled())
            }
            // All others are progress.
            _ => Ok(()),
        }
    }

    /// Ends the job, if it has not ended, and lets its key go: whoever hears that it failed or was cancelled finds it among the
    /// unfinished ones, or gone.
    fn end(&self) {
        self.events.canceller().cancel();
        self.kept.over();
    }

    /// The job is over, whatever the listener makes of it.
    fn told(&self, outcome: Result<(), ListenerError>) -> Result<(), ListenerError> {
        if let Err(cause) = outcome {
            tracing::warn!(job = %self.id, %cause, "a listener failed at the end of its job");
        }
        Ok(())
    }
}
