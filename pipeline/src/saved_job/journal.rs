//! Saves a job beside the video that it will be.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sora_actors::messages::JobCheckpoint;
use sora_actors::{JobJournal, JournalError};

use super::{SavedJob, file};
use crate::sidecar::{Compute, ModelIdentity};
use crate::whole_file;

/// Our choice: after a save, so many times as long as it took goes by before the next one, so that saving takes at most
/// a twentieth of the time. A save takes some milliseconds, so with real models every step is saved.
const PAUSE_PER_SAVE: u32 = 19;

/// A file that always holds the latest state of one job.
pub struct FileJournal {
    path: PathBuf,
    model: ModelIdentity,
    compute: Compute,
    next_due: Mutex<Option<Instant>>,
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
struct NotWritten {
    path: PathBuf,
    source: std::io::Error,
}

impl FileJournal {
    /// Saves to `path` a job that is computed with this model and on this device.
    pub fn new(path: PathBuf, model: ModelIdentity, compute: Compute) -> Self {
        Self { path, model, compute, next_due: Mutex::new(None) }
    }

    /// The file, which is there from the first save on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is saved.
    pub fn is_left(&self) -> bool {
        self.path.exists()
    }

    /// Removes the file, when what it was for is done.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

impl JobJournal for FileJournal {
    fn is_due(&self) -> bool {
        let next_due = self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        next_due.is_none_or(|due| Instant::now() >= due)
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        let started = Instant::now();
        let (model, compute) = (self.model.clone(), self.compute.clone());
        let job = SavedJob { model, compute, checkpoint: checkpoint.clone() };
        let bytes = file::to_bytes(&job).map_err(JournalError::new)?;
        whole_file::replace_durably(&self.path, &bytes)
            .map_err(|source| JournalError::new(NotWritten { path: self.path.clone(), source }))?;
        let next_due = Instant::now() + started.elapsed() * PAUSE_PER_SAVE;
        *self.next_due.lock().unwrap_or_else(PoisonError::into_inner) = Some(next_due);
        Ok(())
    }
}
