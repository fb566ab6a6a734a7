//! The stages of the streaming text-to-video graph, and what travels between them.

pub mod error;
pub mod messages;

pub use error::{PayloadError, StageError, StageErrorKind, StageFailure, StageName};
