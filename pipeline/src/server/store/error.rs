//! Why the record of videos cannot be read or written.

use rusqlite::ErrorCode;

/// Why the record of videos cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite refuses.
    #[error("the database of videos: {0}")]
    Sqlite(#[from] rusqlite::Error),

    /// What was changed did not get to the disk, so that it is not changed.
    #[error("the database of videos cannot be written: {reason}")]
    Commit {
        /// SQLite's reason.
        reason: String,
        /// Whether the disk is full.
        full: bool,
    },

    /// A later version of this program made it.
    #[error(
        "the database of videos has layout {found}, but this program knows {known}: use the version of sora that made it"
    )]
    Later {
        /// Its layout's version.
        found: usize,
        /// The latest that this program knows.
        known: usize,
    },

    /// The database's thread cannot be started.
    #[error("a thread for the database cannot be started: {0}")]
    Thread(std::io::Error),

    /// The database's thread is gone.
    #[error("the database's thread has ended")]
    Gone,
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite(cause) => cause.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Commit { full, .. } => *full,
            _ => false,
        }
    }
}
