//! The saved work of one video, which ends with the wish for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sora_actors::messages::JobCheckpoint;
use sora_actors::{JobJournal, JournalError};

use crate::saved_job::FileJournal;
use crate::sidecar::{Compute, ModelIdentity};

/// A journal that saves nothing more once it is [closed](WorkJournal::close): a stage may still be about to save when
/// nobody wants the video any more.
pub(super) struct WorkJournal {
    file: FileJournal,
    is_closed: Mutex<bool>,
    /// Steps that were done when work was taken up.
    steps_before: OnceLock<usize>,
    has_progressed: AtomicBool,
}

impl WorkJournal {
    pub(super) fn new(path: PathBuf, model: ModelIdentity, compute: Compute) -> Self {
        let file = FileJournal::new(path, model, compute);
        Self {
            file,
            is_closed: Mutex::new(false),
            steps_before: OnceLock::new(),
            has_progressed: AtomicBool::new(false),
        }
    }

    /// Tells what work is taken up at, which may be saved once more as it is.
    pub(super) fn goes_on_from(&self, checkpoint: &JobCheckpoint) {
        // Work is taken up once.
        let _ = self.steps_before.set(checkpoint.steps_done().0);
    }

    /// Saves nothing more; waits for a save that is under way.
    pub(super) fn close(&self) {
        *self.is_closed() = true;
    }

    /// Removes what is saved, for good; waits for a save that is under way.
    pub(super) fn remove(&self) {
        self.close();
        if let Err(cause) = self.file.remove() {
            let path = self.file.path().display();
            tracing::warn!(%path, %cause, "saved work that is not needed cannot be removed");
        }
    }

    /// Whether more is saved than there was when work was taken up; waits for nothing.
    pub(super) fn has_progressed(&self) -> bool {
        self.has_progressed.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> MutexGuard<'_, bool> {
        self.is_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobJournal for WorkJournal {
    fn is_due(&self) -> bool {
        self.file.is_due()
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        let is_closed = self.is_closed();
        if !*is_closed {
            self.file.save(checkpoint)?;
            let steps = checkpoint.steps_done().0;
            if self.steps_before.get().is_none_or(|&before| steps > before) {
                self.has_progressed.store(true, Ordering::Release);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_actors::messages::JobProgress;

    use super::*;
    use crate::saved_job::SavedJob;
    use crate::saved_job::tests::saved;

    #[test]
    fn only_what_is_more_than_before_is_progress() {
        let folder = tempfile::tempdir().unwrap();
        let SavedJob { model, compute, checkpoint: denoised } = saved();
        let embedded = JobCheckpoint { progress: JobProgress::Embedded, ..denoised.clone() };
        let journal = || {
            let path = folder.path().join("film.mp4.sora-job");
            WorkJournal::new(path, model.clone(), compute.clone())
        };
        let afresh = journal();
        assert!(!afresh.has_progressed());
        afresh.save(&embedded).unwrap();
        assert!(afresh.has_progressed());
        let resumed = journal();
        resumed.goes_on_from(&embedded);
        resumed.save(&embedded).unwrap();
        assert!(!resumed.has_progressed(), "that was there before");
        resumed.save(&denoised).unwrap();
        assert!(resumed.has_progressed());
    }
}
