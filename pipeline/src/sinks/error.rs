//! What can go wrong while writing a video.

use std::io;
use std::path::PathBuf;

use super::SinkKind;

/// Why a video could not be written; every variant names the path as the user knows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The path's extension is none that this program writes.
    #[error("{}: unknown kind of output; known are {}", target.display(), SinkKind::KNOWN)]
    UnknownExtension {
        /// The path asked for.
        target: PathBuf,
    },

    /// `.mp4` was asked for, and this build has no encoder.
    #[error(
        "{}: this build writes no MP4: build with `--features mp4`, or choose `.gif`, `.png` or a folder",
        target.display()
    )]
    NotCompiledIn {
        /// The path asked for.
        target: PathBuf,
    },

    /// The format cannot hold such a video.
    #[error("{}: {reason}", target.display())]
    Format {
        /// The path asked for.
        target: PathBuf,
        /// What the limit is.
        reason: String,
    },

    /// The operating system refused to write.
    #[error("cannot write {}: {source}", target.display())]
    Io {
        /// The path asked for.
        target: PathBuf,
        /// The operating system's reason, with the bytes written so far.
        source: io::Error,
    },

    /// The encoder refused a frame.
    #[error("cannot encode {}: {reason}", target.display())]
    Encoder {
        /// The path asked for.
        target: PathBuf,
        /// The encoder's reason.
        reason: String,
    },
}
