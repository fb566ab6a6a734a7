//! What a job tells the one who submitted it.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::VideoChunk;
use crate::error::StageError;

/// Progress of one job, in order. The last event is [`JobEvent::Finished`], [`JobEvent::Failed`] or
/// [`JobEvent::Cancelled`], and nothing follows it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// The job was accepted.
    Queued {
        /// How many accepted prompts wait before this one.
        position: usize,
    },
    /// The prompt is being embedded.
    Embedding,
    /// The prompt is embedded.
    Embedded {
        /// What the text encoder read: the prompt with its scores, cleaned.
        caption: String,
        /// Tokens of the prompt, the end token included.
        tokens: usize,
        /// The end of the prompt that did not fit and was left out.
        cut: Option<String>,
        /// The negative prompt.
        #[serde(skip_serializing_if = "Option::is_none")]
        negative: Option<Caption>,
        /// How long embedding took.
        seconds: f64,
    },
    /// A job that was saved goes on: its prompt is embedded already, and so many steps are done.
    Resumed {
        /// Steps done before, those passed over included.
        done: usize,
        /// How many steps there will be at most.
        steps: usize,
    },
    /// One denoising step is done.
    Step {
        /// Which step, from 0.
        index: usize,
        /// How many steps there will be at most.
        steps: usize,
        /// The timestep (1000 is noise, 0 the video) that the model was run at.
        timestep: f64,
        /// Cosine between this step's velocity and the one before it, where it was measured.
        cosine: Option<f64>,
        /// Whether temporal token merging was on.
        merged: bool,
        /// Whether this step leapt to the end.
        leapt: bool,
        /// How many steps after it were walked without the model.
        coasted: usize,
        /// From the start of the step to its end; with several jobs in flight the others' turns included.
        seconds: f64,
    },
    /// The first frame of the video as it would be if its denoising were finished at once. It comes when it was asked for,
    /// and is no part of the video.
    Preview {
        /// Steps that were done when it was made, those passed over included.
        done: usize,
        /// The one frame.
        #[serde(serialize_with = "without_pixels")]
        picture: VideoChunk,
    },
    /// The latent is being decoded.
    Decoding,
    /// The next frames of the video.
    Chunk(#[serde(serialize_with = "without_pixels")] VideoChunk),
    /// The video is complete.
    Finished(JobSummary),
    /// The job failed; the others go on.
    Failed(#[serde(serialize_with = "as_report")] Arc<StageError>),
    /// The job was cancelled, or nobody was left to receive its events.
    Cancelled,
}

/// A text as the text encoder reads it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Caption {
    /// The prompt with its scores, or the negative prompt, cleaned.
    pub text: String,
    /// Tokens, the end token included.
    pub tokens: usize,
    /// The end of the text that the model has no room for, and did not see.
    pub cut: Option<String>,
}

/// What a job did; in all, when it was saved and went on in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Model evaluations that were made.
    pub steps_computed: usize,
    /// The step that leapt to the end, if one did.
    pub leapt_at: Option<usize>,
    /// Where the time went.
    pub stage_seconds: StageSeconds,
    /// From submission to the last frame, without the time in which it lay saved.
    pub seconds: f64,
}

/// Wall-clock seconds of one job in each stage; with several jobs in flight the others' turns are included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Waiting for the prompt embedder, and for a token slot.
    pub queued: f64,
    /// Prompt embedding.
    pub embed: f64,
    /// Denoising.
    pub denoise: f64,
    /// Decoding, the consumer's pauses included.
    pub decode: f64,
}

/// Pixels have no place in a line of JSON: their position and number say it.
fn without_pixels<S: Serializer>(chunk: &VideoChunk, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct ChunkHead {
        first_frame: usize,
        frames: usize,
        width_px: usize,
        height_px: usize,
    }
    ChunkHead {
        first_frame: chunk.first_frame,
        frames: chunk.frames.len(),
        width_px: chunk.width_px,
        height_px: chunk.height_px,
    }
    .serialize(serializer)
}

fn as_report<S: Serializer>(error: &Arc<StageError>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Report<'a> {
        stage: &'a str,
        kind: &'a str,
        message: String,
    }
    let stage = error.stage.to_string();
    let message = error.cause.to_string();
    Report { stage: &stage, kind: error.kind().as_str(), message }.serialize(serializer)
}
