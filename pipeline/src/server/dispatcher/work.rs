//! The saved work of one video, which ends with the wish for it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sora_actors::messages::JobCheckpoint;
use sora_actors::{JobJournal, JournalError};

use crate::saved_job::FileJournal;
use crate::sidecar::{Compute, ModelIdentity};

/// A journal that saves nothing more once it is [closed](WorkJournal::close): a stage may still be about to save when
/// nobody wants the video any more.
pub(super) struct WorkJournal {
    file: FileJournal,
    is_closed: Mutex<bool>,
}

impl WorkJournal {
    pub(super) fn new(path: PathBuf, model: ModelIdentity, compute: Compute) -> Self {
        Self { file: FileJournal::new(path, model, compute), is_closed: Mutex::new(false) }
    }

    /// Removes what is saved, for good.
    pub(super) fn close(&self) {
        let mut is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        *is_closed = true;
        if let Err(cause) = self.file.remove() {
            let path = self.file.path().display();
            tracing::warn!(%path, %cause, "saved work that is not needed cannot be removed");
        }
    }
}

impl JobJournal for WorkJournal {
    fn is_due(&self) -> bool {
        self.file.is_due()
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_closed { Ok(()) } else { self.file.save(checkpoint) }
    }
}
