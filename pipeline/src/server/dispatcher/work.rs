//! The saved work of one video, which ends with the wish for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sora_actors::messages::JobCheckpoint;
use sora_actors::{JobJournal, JournalError};

use crate::saved_job::FileJournal;
use crate::sidecar::{Compute, ModelIdentity};

/// A journal that saves nothing more once it is [closed](WorkJournal::close): a stage may still be about to save when
/// nobody wants the video any more.
pub(super) struct WorkJournal {
    file: FileJournal,
    is_closed: Mutex<bool>,
    has_saved: AtomicBool,
}

impl WorkJournal {
    pub(super) fn new(path: PathBuf, model: ModelIdentity, compute: Compute) -> Self {
        let file = FileJournal::new(path, model, compute);
        Self { file, is_closed: Mutex::new(false), has_saved: AtomicBool::new(false) }
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

    /// Whether anything was saved here; waits for nothing.
    pub(super) fn has_saved(&self) -> bool {
        self.has_saved.load(Ordering::Acquire)
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
            self.has_saved.store(true, Ordering::Release);
        }
        Ok(())
    }
}
