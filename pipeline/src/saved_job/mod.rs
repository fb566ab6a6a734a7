//! Jobs on disk: what an interrupted run left, and what `sora decode` reads.
//!
//! A file is safetensors: the long rows of numbers are its tensors, and everything else is JSON in its header, with a
//! checksum of both. Files are replaced as a whole, so a crash leaves the one before or the one after.

mod differences;
pub mod exact_json;
mod file;
mod journal;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sora_actors::messages::{JobCheckpoint, JobProgress};

use crate::sidecar::{Compute, MadeVideo, ModelIdentity};

pub use differences::differences;
pub use journal::FileJournal;

/// How names of files end that are being written; a process that is killed while it saves leaves one beside the saved job.
pub use crate::whole_file::PARTIAL_EXTENSION;

/// What is added to a video's name to name the file that its work is saved in.
pub const SAVED_JOB_EXTENSION: &str = "sora-job";

/// A job as it was saved, and what its bits depend on besides its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedJob {
    /// The weights.
    pub model: ModelIdentity,
    /// Device and dtype.
    pub compute: Compute,
    /// The job.
    pub checkpoint: JobCheckpoint,
}

/// Why a saved job cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedJobError {
    /// The operating system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// It is something else.
    #[error("{} is no saved job: either sora did not write it, or it is cut short", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },

    /// Another version of this program wrote it.
    #[error(
        "{} is a saved job of format {found}, but this program reads {supported}: go on with the version of sora that \
         saved it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
        /// The format that this program reads.
        supported: u32,
    },

    /// It is not as it was written.
    #[error("{} is damaged ({reason}): delete it and start afresh", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// Other weights would go on with other bits.
    #[error(
        "{} was computed with other weights (model `{saved}`) than those at hand (model `{at_hand}`): name the folder of \
         its model with --model",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The saved job's model.
        saved: String,
        /// The model that was opened.
        at_hand: String,
    },

    /// Another device or dtype would go on with other bits.
    #[error(
        "{} was computed on {} in {}: go on with --device {} --dtype {}",
        path.display(), saved.device, saved.dtype, saved.device, saved.dtype
    )]
    OtherCompute {
        /// The file.
        path: PathBuf,
        /// What it was computed with.
        saved: Compute,
    },

    /// There is nothing to decode yet.
    #[error(
        "{} is denoised for {done} of {steps} steps, so there is no video to decode yet: finish it with \
         `sora generate --resume`",
        path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Steps done.
        done: usize,
        /// Of how many.
        steps: usize,
    },
}

impl SavedJob {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, not a saved job, of another version, or damaged.
    pub fn load(path: &Path) -> Result<Self, SavedJobError> {
        let failed = |source| SavedJobError::Io { path: path.to_path_buf(), source };
        Self::read(File::open(path).map_err(failed)?, path)
    }

    fn read(mut file: impl Read, path: &Path) -> Result<Self, SavedJobError> {
        let failed = |source| SavedJobError::Io { path: path.to_path_buf(), source };
        let mut bytes = Vec::new();
        // Something else may be very large, so its beginning is looked at first.
        file.by_ref().take(file::LENGTH_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        let header_bytes = file::header_bytes(&bytes).unwrap_or(0);
        file.by_ref().take(header_bytes).read_to_end(&mut bytes).map_err(failed)?;
        file::check_format(&bytes, path)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        file::from_bytes(&bytes, path)
    }

    /// Whether this is the work of that video.
    pub(crate) fn is_of(&self, video: &MadeVideo) -> bool {
        self.model.fingerprint == video.model.fingerprint
            && differences(&self.checkpoint.request, &video.request).is_empty()
    }

    /// Refuses other weights than those that the job was begun with.
    ///
    /// # Errors
    /// [`SavedJobError::OtherModel`].
    pub fn check_model(&self, model: &ModelIdentity, path: &Path) -> Result<(), SavedJobError> {
        if self.model.fingerprint == model.fingerprint {
            return Ok(());
        }
        let (saved, at_hand) = (self.model.name.clone(), model.name.clone());
        Err(SavedJobError::OtherModel { path: path.to_path_buf(), saved, at_hand })
    }

    /// Refuses another device or dtype than that which the job was begun with.
    ///
    /// # Errors
    /// [`SavedJobError::OtherCompute`].
    pub fn check_compute(&self, compute: &Compute, path: &Path) -> Result<(), SavedJobError> {
        if self.compute == *compute {
            return Ok(());
        }
        Err(SavedJobError::OtherCompute { path: path.to_path_buf(), saved: self.compute.clone() })
    }

    /// Refuses a job that is not denoised yet.
    ///
    /// # Errors
    /// [`SavedJobError::Unfinished`].
    pub fn check_denoised(&self, path: &Path) -> Result<(), SavedJobError> {
        if matches!(self.checkpoint.progress, JobProgress::Denoised(_)) {
            return Ok(());
        }
        let (done, steps) = self.checkpoint.steps_done();
        Err(SavedJobError::Unfinished { path: path.to_path_buf(), done, steps })
    }
}
