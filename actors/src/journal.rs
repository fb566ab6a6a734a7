//! Jobs that are saved as they go, so that they can go on after a crash.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use crate::compute::{Computed, Denoise, EmbeddedTexts};
use crate::job::JobContext;
use crate::messages::{JobCheckpoint, JobProgress, Latent};

/// Where a job is saved. Stages call it and know neither files nor networks.
pub trait JobJournal: Send + Sync {
    /// Whether to save the job now that another step is done; saving may cost more than the step.
    ///
    /// Without regard to this, a job is saved when its latent is denoised, before it is decoded, and when it ends
    /// early.
    fn is_due(&self) -> bool;

    /// Saves the job in place of what was saved of it before. When the job was cancelled or failed, this may come after
    /// its last event.
    ///
    /// # Errors
    /// Nothing could be saved, which fails the job: work that nobody can save is not worth hours of computing. What
    /// was saved before must still be there.
    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError>;
}

/// A job could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the work done so far cannot be saved: {0}")]
pub struct JournalError(#[source] Box<dyn Error + Send + Sync>);

impl JournalError {
    /// With its cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Saves one job in flight.
pub(crate) struct JobKeeper {
    journal: Arc<dyn JobJournal>,
    checkpoint: JobCheckpoint,
    started: Instant,
    /// Whether steps were done since the last save.
    behind: bool,
}

impl JobKeeper {
    /// For a job whose denoising starts; `None` when it has no journal.
    pub(crate) fn of(job: &JobContext, texts: EmbeddedTexts, started: Instant) -> Option<Self> {
        let checkpoint = JobCheckpoint {
            format_version: JobCheckpoint::FORMAT_VERSION,
            request: job.request().clone(),
            texts,
            progress: JobProgress::Embedded,
            work: job.summary(),
        };
        Some(Self { journal: job.journal()?.clone(), checkpoint, started, behind: false })
    }

    /// Saves that the prompt is embedded.
    pub(crate) fn embedded(&mut self, job: &JobContext) -> Computed<()> {
        self.save(job, JobProgress::Embedded)
    }

    /// Another step is done.
    pub(crate) fn step_done<D: Denoise>(
        &mut self,
        job: &JobContext,
        denoiser: &D,
        run: &D::Run,
    ) -> Computed<()> {
        self.behind = true;
        if self.journal.is_due() { self.catch_up(job, denoiser, run) } else { Ok(()) }
    }

    /// Saves what was done since the last save.
    pub(crate) fn catch_up<D: Denoise>(
        &mut self,
        job: &JobContext,
        denoiser: &D,
        run: &D::Run,
    ) -> Computed<()> {
        if !self.behind {
            return Ok(());
        }
        let saved = denoiser.save(run)?;
        self.save(job, JobProgress::Denoising(Box::new(saved)))
    }

    /// Saves the latent; nothing can be behind any more.
    pub(crate) fn denoised(&mut self, job: &JobContext, latent: &Latent) -> Computed<()> {
        self.save(job, JobProgress::Denoised(latent.clone()))
    }

    fn save(&mut self, job: &JobContext, progress: JobProgress) -> Computed<()> {
        // Whatever comes of it: what could not be saved once is not tried again.
        self.behind = false;
        self.checkpoint.progress = progress;
        self.checkpoint.work = job.summary();
        self.checkpoint.work.stage_seconds.denoise += self.started.elapsed().as_secs_f64();
        Ok(self.journal.save(&self.checkpoint)?)
    }
}
