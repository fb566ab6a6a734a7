//! One run of a video, and what is kept of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sora_actors::messages::JobCheckpoint;
use sora_actors::{JobJournal, JournalError};
use sora_pipeline::saved_job::FileJournal;

use super::JobStore;

/// Which writer may touch a key's files: the one of the latest run, until the work is thrown away.
#[derive(Default)]
pub(super) struct Gate(Mutex<Option<u64>>);

impl Gate {
    pub(super) fn give_to(&self, writer: u64) {
        *self.lock() = Some(writer);
    }

    /// Does something with the files, if it is this writer's turn; `None` if it is not.
    fn pass<T>(&self, writer: u64, work: impl FnOnce(&mut Option<u64>) -> T) -> Option<T> {
        let mut owner = self.lock();
        (*owner == Some(writer)).then(|| work(&mut owner))
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is reserved for a run. Dropping it ends the run, after which the video can be taken up again.
pub(crate) struct KeptJob {
    store: Arc<JobStore>,
    key: String,
    writer: u64,
    gate: Arc<Gate>,
    journal: Arc<GatedJournal>,
    /// Whether what is kept is to be deleted when the run is over.
    unwanted: Mutex<bool>,
}

impl KeptJob {
    pub(super) fn new(store: Arc<JobStore>, key: String, writer: u64, gate: Arc<Gate>) -> Self {
        let file = store.files.journal(&key);
        let journal = Arc::new(GatedJournal { gate: gate.clone(), writer, file });
        Self { store, key, writer, gate, journal, unwanted: Mutex::default() }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn journal(&self) -> Arc<dyn JobJournal> {
        self.journal.clone()
    }

    /// Cancels the run: if that is what ends it, nobody wants what is kept. It waits for no file: those who hear of the end delete
    /// what is kept.
    pub(crate) fn give_up(&self, cancel: impl FnOnce() -> bool) -> bool {
        // Whoever hears of the end comes after this.
        let mut unwanted = self.unwanted();
        let cancelled = cancel();
        *unwanted |= cancelled;
        cancelled
    }

    /// The run is over, although somebody may still hold this.
    pub(crate) fn over(&self) {
        let unwanted = std::mem::take(&mut *self.unwanted());
        if unwanted {
            self.discard();
        }
        self.store.release(&self.key, self.writer);
    }

    /// Deletes what is kept: the video is finished, or nobody wants it.
    pub(crate) fn discard(&self) {
        if let Err(cause) = self.delete() {
            tracing::warn!(key = self.key, %cause, "saved work cannot be deleted");
        }
    }

    /// Deletes what is kept, unless a later run has taken it up; whoever still works on this one saves no more.
    pub(super) fn delete(&self) -> io::Result<()> {
        let deleted = self.gate.pass(self.writer, |owner| {
            *owner = None;
            self.store.files.delete(&self.key)
        });
        let Some(deleted) = deleted else { return Ok(()) };
        // Nobody will come this way again: the key is no video's any more.
        self.store.is_no_video(&self.key);
        deleted
    }

    /// Keeps everybody from the files, as a save does for as long as it takes.
    #[cfg(test)]
    pub(super) fn hold_files(&self) -> MutexGuard<'_, Option<u64>> {
        self.gate.lock()
    }

    fn unwanted(&self) -> MutexGuard<'_, bool> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptJob {
    fn drop(&mut self) {
        self.over();
    }
}

/// Saves a run for as long as no later one has taken it up, and it is not thrown away.
struct GatedJournal {
    gate: Arc<Gate>,
    writer: u64,
    file: FileJournal,
}

impl JobJournal for GatedJournal {
    fn is_due(&self) -> bool {
        self.file.is_due()
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        self.gate.pass(self.writer, |_| self.file.save(checkpoint)).unwrap_or(Ok(()))
    }
}
