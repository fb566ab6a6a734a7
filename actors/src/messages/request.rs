//! A wish for one video.

use std::fmt;

use serde::{Deserialize, Serialize};
use sora_models::ModelError;
use sora_models::generation::VideoSettings;
use sora_models::guiding_texts::GuidingTexts;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;
use sora_models::sizes::VideoSize;
use sora_models::t5::CaptionCleaning;

/// Names one job for as long as the pipeline runs; ids rise in order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One video to generate: everything that its bits depend on, besides the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationRequest {
    /// What the video shall show, as the user wrote it.
    pub prompt: String,
    /// What it shall not show, as the user wrote it: guidance leads away from it. Without, or when it is blank, guidance
    /// leads away from the model's null caption.
    pub negative_prompt: Option<String>,
    /// Seed of the initial noise. The same request with the same seed gives the same video.
    pub seed: u64,
    /// Width of a frame in pixels. Pixels beyond a multiple of 8 are not generated.
    pub width_px: usize,
    /// Height of a frame in pixels; as the width.
    pub height_px: usize,
    /// Number of frames.
    pub num_frames: usize,
    /// Frames a second: the model is told, and the video file says so.
    pub fps: f64,
    /// Steps, guidance, leap and token merging.
    pub sampling: SamplingSettings,
    /// Scores to append to the caption.
    pub scores: PromptScores,
}

/// What the captions of the training went through, so that prompts must, too.
const CLEANING: CaptionCleaning = CaptionCleaning::OpenSora;

/// Longer prompts are not cleaned by [`GenerationRequest::check`], whose caller may not wait. Our choice: several times
/// what the model reads.
const CHEAPLY_CLEANED_BYTES: usize = 8 * 1024;

impl GenerationRequest {
    /// What the text encoder reads: the prompt with its scores, cleaned.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when cleaning leaves nothing of the prompt, or the prompt is too long for it. The text does
    /// not quote the prompt: errors go to logs, where prompts must not be.
    pub fn caption(&self) -> Result<String, ModelError> {
        if CLEANING.apply(&self.prompt)?.is_empty() {
            return Err(ModelError::bad_input(
                "nothing is left of the prompt without web addresses and account names: say what the video shall show",
            ));
        }
        CLEANING.apply(&self.scores.append_to(&self.prompt))
    }

    /// What the text encoder reads of the negative prompt: it cleaned, without scores, which are asked for and not to be
    /// avoided.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when cleaning leaves nothing of it, or it is too long for it.
    pub fn negative_caption(&self) -> Result<Option<String>, ModelError> {
        let Some(text) = self.negative_text() else { return Ok(None) };
        let cleaned = CLEANING.apply(text)?;
        if cleaned.is_empty() {
            return Err(ModelError::bad_input(
                "nothing is left of the negative prompt without web addresses and account names: say what the video \
                 shall not show, or leave it out",
            ));
        }
        Ok(Some(cleaned))
    }

    /// All that the text encoder reads.
    ///
    /// # Errors
    /// As [`GenerationRequest::caption`] and [`GenerationRequest::negative_caption`].
    pub fn captions(&self) -> Result<GuidingTexts<String>, ModelError> {
        Ok(GuidingTexts { prompt: self.caption()?, negative: self.negative_caption()? })
    }

    /// How many texts the text encoder reads.
    pub fn text_count(&self) -> usize {
        1 + usize::from(self.negative_text().is_some())
    }

    fn negative_text(&self) -> Option<&str> {
        self.negative_prompt.as_deref().filter(|text| !text.trim().is_empty())
    }

    /// The video, apart from its prompt and its seed.
    pub fn video_settings(&self) -> VideoSettings {
        VideoSettings {
            size: VideoSize {
                height_px: self.height_px,
                width_px: self.width_px,
                frames: self.num_frames,
            },
            frames_per_second: self.fps,
            sampling: self.sampling.clone(),
        }
    }

    /// Whether any model could fulfil this, as far as can be told at once; what depends on the model, and on very long
    /// prompts, is found by the stages.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] saying what would be accepted.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.prompt.trim().is_empty() {
            return Err(ModelError::bad_input(
                "the prompt is empty: say what the video shall show",
            ));
        }
        if self.prompt.len() <= CHEAPLY_CLEANED_BYTES {
            self.caption()?;
        }
        if self.negative_text().is_some_and(|text| text.len() <= CHEAPLY_CLEANED_BYTES) {
            self.negative_caption()?;
        }
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(ModelError::bad_input(format!(
                "{} frames a second: expected a number above 0",
                self.fps
            )));
        }
        self.video_settings().size.latent()?;
        self.sampling.check()
    }
}

/// The smallest request, of three steps, for tests of what does not look into requests.
#[cfg(test)]
pub(crate) fn one_pixel_request(seed: u64) -> GenerationRequest {
    GenerationRequest {
        prompt: "a prompt".into(),
        negative_prompt: None,
        seed,
        width_px: 1,
        height_px: 1,
        num_frames: 1,
        fps: 8.0,
        sampling: SamplingSettings { steps: 3, ..SamplingSettings::default() },
        scores: PromptScores::default(),
    }
}
