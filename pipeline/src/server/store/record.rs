//! What is kept of a video.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Error, Row};
use serde::{Deserialize, Serialize};
use sora_actors::messages::GenerationRequest;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;
use utoipa::ToSchema;

use crate::saved_job::exact_json;
use crate::server::ids::VideoId;

/// Where a video is, in the words of the Videos API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoStatus {
    /// Accepted, and waiting for its turn.
    Queued,
    /// Being made.
    InProgress,
    /// There.
    Completed,
    /// Not to come; its error says why.
    Failed,
}

impl VideoStatus {
    /// Its word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl FromStr for VideoStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let all = [Self::Queued, Self::InProgress, Self::Completed, Self::Failed];
        all.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// A word that is no status.
#[derive(Debug, thiserror::Error)]
#[error("not a video's status")]
pub struct UnknownStatus;

/// Why a video failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VideoError {
    /// For programs: `cancelled`, `bad_input`, `over_budget`, and others.
    pub code: String,
    /// For people.
    pub message: String,
}

impl VideoError {
    /// From its two halves.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// Which API key a video belongs to: the beginning of the key's SHA-256, or nothing where keys are not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Owner(pub String);

impl Owner {
    /// Whether keys are not asked for.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }
}

/// A video as it is accepted.
#[derive(Debug, Clone)]
pub struct NewVideo {
    /// Its id.
    pub id: VideoId,
    /// Whose it is.
    pub owner: Owner,
    /// Higher ones go first.
    pub priority: i64,
    /// What is to be made.
    pub request: GenerationRequest,
    /// The model's name, as the client is told.
    pub model: String,
    /// Weights, device and dtype.
    pub fingerprint: String,
    /// What the client keeps with it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The video that it is made after.
    pub remixed_from: Option<VideoId>,
    /// The same key again means the same video.
    pub idempotency_key: Option<String>,
    /// When it was accepted, in seconds of Unix time.
    pub created_at: i64,
}

/// A video as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoRecord {
    /// Order of acceptance.
    pub sequence: i64,
    /// Its id.
    pub id: VideoId,
    /// Where it is.
    pub status: VideoStatus,
    /// Higher ones go first.
    pub priority: i64,
    /// What is to be made; something empty where that cannot be read.
    pub request: GenerationRequest,
    /// Whether what is to be made can be read: a later version of this program may have written it.
    pub is_readable: bool,
    /// The model's name.
    pub model: String,
    /// What the client keeps with it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The video that it is made after.
    pub remixed_from: Option<VideoId>,
    /// When it was accepted, in seconds of Unix time.
    pub created_at: i64,
    /// When it was over.
    pub completed_at: Option<i64>,
    /// Why it failed.
    pub error: Option<VideoError>,
    /// SHA-256 of the finished file, in hexadecimal.
    pub sha256: Option<String>,
    /// How often it was taken up since work on it was saved for the last time.
    pub attempts: u32,
}

impl VideoRecord {
    /// The columns that [`VideoRecord::from_row`] reads, in order.
    pub(super) const COLUMNS: &'static str = "sequence, id, status, priority, request, model, metadata, remixed_from, \
         created_at, completed_at, error_code, error_message, sha256, attempts";

    /// Reads a row of [`VideoRecord::COLUMNS`].
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let error = match (row.get::<_, Option<String>>(10)?, row.get::<_, Option<String>>(11)?) {
            (Some(code), Some(message)) => Some(VideoError { code, message }),
            _ => None,
        };
        let metadata = row.get::<_, Option<String>>(6)?;
        let request = exact_json::from_text(&row.get::<_, String>(4)?);
        let remixed_from = row.get::<_, Option<String>>(7)?;
        Ok(Self {
            sequence: row.get(0)?,
            id: parsed(1, &row.get::<_, String>(1)?)?,
            status: parsed(2, &row.get::<_, String>(2)?)?,
            priority: row.get(3)?,
            is_readable: request.is_ok(),
            request: request.unwrap_or_else(|_| nothing()),
            model: row.get(5)?,
            metadata: metadata
                .map(|text| serde_json::from_str(&text).map_err(|cause| unreadable(6, cause)))
                .transpose()?,
            remixed_from: remixed_from.map(|text| parsed(7, &text)).transpose()?,
            created_at: row.get(8)?,
            completed_at: row.get(9)?,
            error,
            sha256: row.get(12)?,
            attempts: row.get(13)?,
        })
    }
}

/// What stands for a request that cannot be read, so that its video can still be listed, deleted and failed.
fn nothing() -> GenerationRequest {
    GenerationRequest {
        prompt: String::new(),
        negative_prompt: None,
        seed: 0,
        width_px: 0,
        height_px: 0,
        num_frames: 0,
        fps: 1.0,
        sampling: SamplingSettings::default(),
        scores: PromptScores::default(),
    }
}

/// A value that is kept as text.
pub(super) fn parsed<T: FromStr>(column: usize, text: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|cause| unreadable(column, cause))
}

fn unreadable(column: usize, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(cause))
}
