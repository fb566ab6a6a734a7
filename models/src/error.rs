//! The one error type of this crate; its [`ModelError::kind`] keeps the causes apart.

use std::path::PathBuf;

use crate::weights::CheckpointMismatch;

/// Result of every fallible call of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// What a caller may want to react to, without reading messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request asks for something that the model cannot do.
    BadInput,
    /// A model file is missing, unreadable, truncated or not what its config says.
    BadModel,
    /// The chosen device does not exist, is not compiled in, or fails.
    Device,
    /// A tensor operation failed, or produced values that are not finite.
    Compute,
}

/// Everything that can go wrong while reading a model or computing with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The request asks for something that cannot be done; the text says what would be accepted.
    #[error("{0}")]
    BadInput(String),

    /// A `config.json` (or its like) that cannot be used.
    #[error("{}: {reason}", file.display())]
    Config {
        /// The config file.
        file: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },

    /// A file that the model needs does not exist.
    #[error("{} does not exist: {hint}", file.display())]
    MissingFile {
        /// The path that was looked for.
        file: PathBuf,
        /// What belongs there.
        hint: String,
    },

    /// The operating system refused to read a file.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A weight file whose contents contradict its own header, or that is cut short.
    #[error("{} is corrupt: {reason}", file.display())]
    CorruptFile {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// A tensor that the architecture needs is not in the checkpoint.
    #[error("{}: tensor `{tensor}` (shape {shape:?}) is missing{hint}", file.display())]
    MissingTensor {
        /// The checkpoint.
        file: PathBuf,
        /// The official parameter name.
        tensor: String,
        /// The shape that the config asks for.
        shape: Vec<usize>,
        /// What may help, starting with punctuation, or empty.
        hint: String,
    },

    /// A tensor whose shape is not the one that the config asks for.
    #[error(
        "{}: tensor `{tensor}` has shape {found:?}, but config.json asks for {expected:?}: \
         the config belongs to another checkpoint, or the file is damaged",
        file.display()
    )]
    TensorShape {
        /// The checkpoint.
        file: PathBuf,
        /// The official parameter name.
        tensor: String,
        /// The shape that the config asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A checkpoint that does not hold exactly what its config asks for.
    #[error(
        "{} does not fit its config.json: {mismatch}: the config belongs to another checkpoint, or the file is damaged",
        file.display()
    )]
    CheckpointMismatch {
        /// The checkpoint.
        file: PathBuf,
        /// What is missing, of another shape, or left over.
        mismatch: Box<CheckpointMismatch>,
    },

    /// The device cannot be used.
    #[error("device `{name}` cannot be used: {reason}")]
    Device {
        /// What was asked for.
        name: String,
        /// Why not, and what to do.
        reason: String,
    },

    /// A result holds NaN or infinities.
    #[error(
        "{what} holds values that are not finite: the weights are damaged, or the compute dtype is too narrow (try f32)"
    )]
    NotFinite {
        /// Which tensor, and at which step.
        what: String,
    },

    /// A computation panicked, which is a fault of this program.
    #[error("{what} panicked, which is a fault of this program: {message}")]
    Panicked {
        /// What was computed.
        what: String,
        /// What the panic said.
        message: String,
    },

    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// A [`ModelError::BadInput`] from anything printable.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::BadInput(message.into())
    }

    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadInput(_) => ErrorKind::BadInput,
            Self::Config { .. }
            | Self::MissingFile { .. }
            | Self::Io { .. }
            | Self::CorruptFile { .. }
            | Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::CheckpointMismatch { .. } => ErrorKind::BadModel,
            Self::Device { .. } => ErrorKind::Device,
            Self::Compute(cause) => ErrorKind::of_computing(cause),
            Self::NotFinite { .. } | Self::Panicked { .. } => ErrorKind::Compute,
        }
    }
}

impl ErrorKind {
    /// Of a tensor operation that failed: because of the device, such as a GPU that is out of memory or gone, or of what was
    /// asked of it.
    pub fn of_computing(cause: &candle_core::Error) -> Self {
        use candle_core::Error;
        match cause {
            // Candle wraps what its backends for GPUs say when they are waited for; the CPU's wraps nothing that we call.
            Error::Cuda(_) | Error::Metal(_) | Error::Wrapped(_) => Self::Device,
            Error::WithPath { inner, .. }
            | Error::WithBacktrace { inner, .. }
            | Error::Context { inner, .. } => Self::of_computing(inner),
            _ => Self::Compute,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Error;

    use super::*;

    #[test]
    fn a_device_that_fails_while_it_computes_is_told_from_what_it_computes() {
        let kind = |cause: Error| ModelError::from(cause).kind();
        let lost = || Error::Cuda("an illegal memory access was encountered".into());
        assert_eq!(kind(lost()), ErrorKind::Device);
        assert_eq!(kind(lost().context("in a block").with_path("weights")), ErrorKind::Device);
        assert_eq!(kind(Error::wrap("out of memory")), ErrorKind::Device);
        let own = Error::UnexpectedNumberOfDims { expected: 4, got: 3, shape: (1, 2, 3).into() };
        assert_eq!(kind(own.context("in a block")), ErrorKind::Compute);
        assert_eq!(kind(Error::msg("no such offset")), ErrorKind::Compute);
    }
}
