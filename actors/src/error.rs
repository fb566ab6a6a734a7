//! Why a job failed, and where.

use std::fmt;
use std::sync::Arc;

use candle_core::DType;
use sora_models::{ErrorKind, ModelError};

use crate::journal::JournalError;
use crate::memory::{KeptFor, OverBudget};
use crate::messages::JobId;

/// A stage of the graph, as errors, threads and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageName {
    /// Turns prompts into embeddings.
    PromptEmbedder,
    /// Owns the sampling state of the jobs in flight.
    DenoiseController,
    /// Runs one span of transformer blocks.
    StditWorker(usize),
    /// Turns latents into frames.
    VaeDecoder,
    /// Reads blocks of weights for another stage.
    BlockLoader(LoaderOf),
}

/// The stage that a block loader serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoaderOf {
    /// The prompt embedder.
    PromptEmbedder,
    /// One of the workers.
    StditWorker(usize),
    /// The video decoder.
    VaeDecoder,
}

impl From<LoaderOf> for StageName {
    fn from(owner: LoaderOf) -> Self {
        match owner {
            LoaderOf::PromptEmbedder => Self::PromptEmbedder,
            LoaderOf::StditWorker(index) => Self::StditWorker(index),
            LoaderOf::VaeDecoder => Self::VaeDecoder,
        }
    }
}

impl fmt::Display for LoaderOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        StageName::from(*self).fmt(f)
    }
}

impl From<LoaderOf> for KeptFor {
    fn from(owner: LoaderOf) -> Self {
        match owner {
            LoaderOf::PromptEmbedder => Self::Embedding,
            LoaderOf::StditWorker(_) => Self::Denoising,
            LoaderOf::VaeDecoder => Self::Decoding,
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PromptEmbedder => f.write_str("prompt_embedder"),
            Self::DenoiseController => f.write_str("denoise_controller"),
            Self::StditWorker(index) => write!(f, "stdit_worker_{index}"),
            Self::VaeDecoder => f.write_str("vae_decoder"),
            Self::BlockLoader(owner) => write!(f, "block_loader_{owner}"),
        }
    }
}

/// The failure of one job: where it happened, and the original cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("job {job} failed in {stage}: {cause}")]
pub struct StageError {
    /// The stage that failed.
    pub stage: StageName,
    /// The job that it failed.
    pub job: JobId,
    /// What went wrong; shared, since one cause can fail every job of a sweep.
    #[source]
    pub cause: Arc<StageFailure>,
}

impl StageError {
    /// The class of this error.
    pub fn kind(&self) -> StageErrorKind {
        self.cause.kind()
    }

    /// The cause as a log may have it: what speaks of the request could quote its prompt.
    pub fn for_log(&self) -> String {
        match self.kind() {
            StageErrorKind::BadInput => "the request cannot be fulfilled".into(),
            _ => self.cause.to_string(),
        }
    }
}

/// What went wrong within a stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageFailure {
    /// The model refused or failed.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// Data from the stage before cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),

    /// The job needs more memory than the budget leaves for it.
    #[error("not enough memory: {0}; give it more, or make the video smaller or shorter")]
    OverBudget(#[from] OverBudget),

    /// The job could not be saved.
    #[error(transparent)]
    Journal(#[from] JournalError),

    /// The stage's computation panicked; the stage goes on with other jobs.
    #[error("the computation panicked (this is a bug, please report it): {message}")]
    Panicked {
        /// The panic's own message.
        message: String,
    },

    /// The stage can work no more: this job and all later ones fail here.
    #[error("the stage died: {reason}")]
    StageDied {
        /// Why it died.
        reason: String,
    },

    /// Nobody took the finished frames for so long that they held the decoder up for the other jobs.
    #[error("nobody took the finished frames for {seconds} seconds")]
    ConsumerStalled {
        /// How long the decoder waited.
        seconds: u64,
    },
}

/// What a caller may want to react to, without reading messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageErrorKind {
    /// The request asks for something that the model cannot do.
    BadInput,
    /// A model file is missing, unreadable or not what its config says.
    BadModel,
    /// The chosen device cannot be used, or fails.
    Device,
    /// The memory budget is too small.
    OverBudget,
    /// The computation failed, or its result is not finite.
    Compute,
    /// What was done cannot be kept: a full disk, say.
    Output,
    /// The stage is gone.
    StageDied,
    /// The one who asked for the video stopped listening.
    Cancelled,
}

impl StageErrorKind {
    /// A short name for machines to read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::BadModel => "bad_model",
            Self::Device => "device",
            Self::OverBudget => "over_budget",
            Self::Compute => "compute",
            Self::Output => "output",
            Self::StageDied => "stage_died",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<ErrorKind> for StageErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::BadInput => Self::BadInput,
            ErrorKind::BadModel => Self::BadModel,
            ErrorKind::Device => Self::Device,
            ErrorKind::Compute => Self::Compute,
        }
    }
}

impl StageFailure {
    /// The class of this failure.
    pub fn kind(&self) -> StageErrorKind {
        match self {
            Self::Model(cause) => cause.kind().into(),
            Self::OverBudget(_) => StageErrorKind::OverBudget,
            Self::Payload(PayloadError::Compute(cause)) => ErrorKind::of_computing(cause).into(),
            Self::Panicked { .. } => StageErrorKind::Compute,
            Self::Payload(_) => StageErrorKind::BadInput,
            Self::Journal(_) => StageErrorKind::Output,
            Self::StageDied { .. } => StageErrorKind::StageDied,
            Self::ConsumerStalled { .. } => StageErrorKind::Cancelled,
        }
    }
}

/// Data between two stages that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Another version of this program made it.
    #[error("{payload}: format version {found} is not the supported {supported}")]
    Version {
        /// Which payload.
        payload: &'static str,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        supported: u32,
    },

    /// The values do not fill the shape.
    #[error("{payload}: {values} values do not fill shape {shape:?}")]
    Count {
        /// Which payload.
        payload: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values it has.
        values: usize,
    },

    /// Parts that do not belong together.
    #[error("{payload}: {reason}")]
    Unfit {
        /// Which payload.
        payload: &'static str,
        /// What does not fit.
        reason: String,
    },

    /// A tensor that is not what the payload is made of.
    #[error("{payload}: expected {expected}, found shape {shape:?} in {dtype:?}")]
    Tensor {
        /// Which payload.
        payload: &'static str,
        /// What it is made of.
        expected: &'static str,
        /// The shape found.
        shape: Vec<usize>,
        /// The dtype found.
        dtype: DType,
    },

    /// Copying the values failed.
    #[error("tensor operation failed: {0}")]
    Compute(#[from] candle_core::Error),
}
