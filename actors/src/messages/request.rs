//! A wish for one video.

use std::fmt;

use serde::{Deserialize, Serialize};
use sora_models::rflow::SamplingSettings;

/// Names one job for as long as the pipeline runs; ids rise in order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What Open-Sora appends to a caption to steer quality and motion.
///
/// # Source
/// Open-Sora v1.2 `opensora/utils/inference_utils.py`, `append_score_to_prompts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptionScores {
    /// Aesthetic score; the published model saw about 4 to 7.
    pub aesthetic: Option<f64>,
    /// Motion score (optical flow); higher asks for more motion.
    pub motion: Option<f64>,
    /// Camera motion in words: `pan left`, `zoom in`, `static`.
    pub camera_motion: Option<String>,
}

/// One video to generate: everything that its bits depend on, besides the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationRequest {
    /// What the video shall show, as the user wrote it.
    pub prompt: String,
    /// Seed of the initial noise. The same request with the same seed gives the same video.
    pub seed: u64,
    /// Width of a frame in pixels.
    pub width_px: usize,
    /// Height of a frame in pixels.
    pub height_px: usize,
    /// Number of frames.
    pub num_frames: usize,
    /// Frames a second: the model is told, and the video file says so.
    pub fps: f64,
    /// Steps, guidance, leap and token merging.
    pub sampling: SamplingSettings,
    /// Scores to append to the caption.
    pub scores: CaptionScores,
}
