//! What can go wrong while a model folder is written.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::error::ModelError;

/// Result of every fallible call of this module.
pub type Result<T, E = ToolError> = std::result::Result<T, E>;

/// Everything that can go wrong while a model folder is made from nothing or from another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The model that is read, or the one that was written, cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The operating system refused to write.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file or folder.
        file: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// The disk has too little room; nothing was written.
    #[error(
        "{} needs {} on its disk, but only {} are free: free some, or choose a folder on another disk",
        folder.display(), Bytes(*needed_bytes), Bytes(*free_bytes)
    )]
    DiskSpace {
        /// The folder that was to be written.
        folder: PathBuf,
        /// What is still to be written.
        needed_bytes: u64,
        /// What the file system gives to this user.
        free_bytes: u64,
    },

    /// The folder to write is already in use for something.
    #[error("{} cannot become a model folder: {reason}", folder.display())]
    FolderTaken {
        /// The folder.
        folder: PathBuf,
        /// What is there, and what to do.
        reason: String,
    },

    /// Another process is writing the same folder.
    #[error("{} is being written by another process: wait for it, or end it", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },

    /// A value that the wanted dtype cannot hold.
    #[error(
        "{}: tensor `{tensor}` holds {value:e}, which {dtype} cannot hold: choose bf16, f32 or as-stored",
        file.display()
    )]
    Overflow {
        /// The checkpoint.
        file: PathBuf,
        /// The official parameter name.
        tensor: String,
        /// The dtype that was asked for.
        dtype: &'static str,
        /// The value.
        value: f64,
    },

    /// A tensor that is quantised already, where its numbers are needed as they were.
    #[error(
        "{}: tensor `{tensor}` is quantised already: start from the original, or choose f16, bf16 or f32 to pack its values",
        file.display()
    )]
    Quantised {
        /// The checkpoint.
        file: PathBuf,
        /// The official parameter name.
        tensor: String,
    },

    /// A value that no quantised block can hold.
    #[error(
        "{}: tensor `{tensor}` holds {value:e}, which quantised weights cannot hold: the file is damaged, or \
         this network is not for quantising",
        file.display()
    )]
    NotQuantisable {
        /// The checkpoint.
        file: PathBuf,
        /// The official parameter name.
        tensor: String,
        /// The value.
        value: f32,
    },
}

/// Bytes as people read them, and to the last one: `12.73 GB (12728123456 bytes)`.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (unit, name) = if self.0 < 1_000_000_000 { (1e6, "MB") } else { (1e9, "GB") };
        write!(f, "{:.2} {name} ({} bytes)", self.0 as f64 / unit, self.0)
    }
}
