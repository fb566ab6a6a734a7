//! What an app hears of a job.

use std::sync::Arc;

use sora_actors::messages::{JobEvent, JobSummary};

use crate::error::{JobFailure, ListenerError};
use crate::frame::SoraFrame;

/// Hears what becomes of one job. The app implements it.
///
/// It is called on a thread that belongs to the job, in order, one call after the other. [`JobListener::finished`],
/// [`JobListener::failed`] or [`JobListener::cancelled`] comes last, once. Throwing an error from any of the others ends the job, which is
/// told as a failure; what was done stays saved.
#[uniffi::export(with_foreign)]
pub trait JobListener: Send + Sync {
    /// The job went on.
    ///
    /// # Errors
    /// The listener's own.
    fn progress(&self, event: ProgressEvent) -> Result<(), ListenerError>;

    /// What the first frame would be if the video were finished after `steps_done` steps. It comes when it was asked for.
    ///
    /// # Errors
    /// The listener's own.
    fn preview(&self, steps_done: u32, frame: Arc<SoraFrame>) -> Result<(), ListenerError>;

    /// The next frames of the video.
    ///
    /// # Errors
    /// The listener's own.
    fn frames(&self, frames: Vec<Arc<SoraFrame>>) -> Result<(), ListenerError>;

    /// All frames have come. When this returns, what was saved of the job is deleted: write the video to its end before.
    ///
    /// # Errors
    /// The listener's own: the work stays saved.
    fn finished(&self, summary: VideoSummary) -> Result<(), ListenerError>;

    /// The job failed; the others go on. What was done so far stays saved.
    ///
    /// # Errors
    /// The listener's own, which changes nothing.
    fn failed(&self, failure: JobFailure) -> Result<(), ListenerError>;

    /// The job was cancelled.
    ///
    /// # Errors
    /// The listener's own, which changes nothing.
    fn cancelled(&self) -> Result<(), ListenerError>;
}

/// A job went on.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum ProgressEvent {
    /// It was accepted.
    Queued {
        /// How many wait before it.
        position: u32,
    },
    /// The prompt is being embedded.
    Embedding,
    /// The prompt is embedded.
    Embedded {
        /// What the text encoder read.
        caption: String,
        /// Tokens of the prompt, the end token included.
        tokens: u32,
        /// The end of the prompt that did not fit and was left out.
        cut: Option<String>,
        /// How long it took.
        seconds: f64,
    },
    /// A saved job goes on.
    Resumed {
        /// Steps that were done before.
        done: u32,
        /// Steps that there will be at most.
        steps: u32,
    },
    /// A denoising step is done.
    Step {
        /// Which one, from 0.
        index: u32,
        /// Steps that there will be at most.
        steps: u32,
        /// Cosine between this step's velocity and the one before it, where it was measured.
        cosine: Option<f64>,
        /// Whether tokens were merged.
        merged: bool,
        /// Whether this step leapt to the end.
        leapt: bool,
        /// Steps after it that were walked without the model.
        coasted: u32,
        /// How long it took.
        seconds: f64,
    },
    /// The latent is being decoded.
    Decoding,
}

impl ProgressEvent {
    /// `None` for what is told otherwise.
    pub(crate) fn of(event: &JobEvent) -> Option<Self> {
        Some(match event {
            JobEvent::Queued { position } => Self::Queued { position: *position as u32 },
            JobEvent::Embedding => Self::Embedding,
            JobEvent::Embedded { caption, tokens, cut, seconds, .. } => Self::Embedded {
                caption: caption.clone(),
                tokens: *tokens as u32,
                cut: cut.clone(),
                seconds: *seconds,
            },
            JobEvent::Resumed { done, steps } => {
                Self::Resumed { done: *done as u32, steps: *steps as u32 }
            }
            JobEvent::Step { index, steps, cosine, merged, leapt, coasted, seconds, .. } => {
                Self::Step {
                    index: *index as u32,
                    steps: *steps as u32,
                    cosine: *cosine,
                    merged: *merged,
                    leapt: *leapt,
                    coasted: *coasted as u32,
                    seconds: *seconds,
                }
            }
            JobEvent::Decoding => Self::Decoding,
            JobEvent::Preview { .. }
            | JobEvent::Chunk(_)
            | JobEvent::Finished(_)
            | JobEvent::Failed(_)
            | JobEvent::Cancelled => return None,
        })
    }
}

/// What a finished video took. Seconds are wall-clock time, the turns of other jobs included.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct VideoSummary {
    /// Model evaluations that were made.
    pub steps_computed: u32,
    /// The step that leapt to the end, if one did.
    pub leapt_at: Option<u32>,
    /// Waiting.
    pub queued_seconds: f64,
    /// Embedding the prompt.
    pub embed_seconds: f64,
    /// Denoising.
    pub denoise_seconds: f64,
    /// Decoding, and handing over the frames.
    pub decode_seconds: f64,
    /// All of it, without the time in which it lay saved.
    pub seconds: f64,
}

impl From<JobSummary> for VideoSummary {
    fn from(summary: JobSummary) -> Self {
        let JobSummary { steps_computed, leapt_at, stage_seconds, seconds } = summary;
        Self {
            steps_computed: steps_computed as u32,
            leapt_at: leapt_at.map(|step| step as u32),
            queued_seconds: stage_seconds.queued,
            embed_seconds: stage_seconds.embed,
            denoise_seconds: stage_seconds.denoise,
            decode_seconds: stage_seconds.decode,
            seconds,
        }
    }
}
