//! A job between two steps: all that is needed to go on with it, in another process or on another machine.

use serde::{Deserialize, Serialize};
use sora_models::ModelError;
use sora_models::guiding_texts::GuidingTexts;
use sora_models::rflow::{SavedArray, SavedRun};

use super::{Caption, GenerationRequest, JobSummary, Latent};
use crate::compute::{EmbeddedPrompt, EmbeddedTexts};
use crate::error::PayloadError;

/// What is known of a job whose prompt is embedded. Going on from it gives the same bits as never having stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobCheckpoint {
    /// [`JobCheckpoint::FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// What is being generated.
    pub request: GenerationRequest,
    /// What the text encoder made of the prompt, and of the negative one.
    #[serde(flatten)]
    pub texts: EmbeddedTexts,
    /// How far the job is.
    pub progress: JobProgress,
    /// What was done so far, and how long it took.
    pub work: JobSummary,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobProgress {
    /// Nothing is denoised yet.
    Embedded,
    /// Some steps are done.
    Denoising(Box<SavedRun>),
    /// All that is left is to decode.
    Denoised(Latent),
}

impl JobCheckpoint {
    /// Version of this payload's layout: since 2, it may have a negative prompt.
    pub const FORMAT_VERSION: u32 = 2;

    /// The oldest version that can be read.
    const OLDEST_VERSION: u32 = 1;

    /// How many steps are done, those passed over included, of how many.
    pub fn steps_done(&self) -> (usize, usize) {
        let steps = self.request.sampling.steps;
        match &self.progress {
            JobProgress::Embedded => (0, steps),
            JobProgress::Denoising(run) => (run.step, steps),
            JobProgress::Denoised(_) => (steps, steps),
        }
    }

    /// What the text encoder read.
    pub fn captions(&self) -> GuidingTexts<Caption> {
        self.texts.as_ref().map(EmbeddedPrompt::read)
    }

    /// All long rows of numbers, as [`SavedRun::arrays`].
    pub fn arrays(&mut self) -> Vec<SavedArray<'_>> {
        let EmbeddedTexts { prompt, negative } = &mut self.texts;
        let mut arrays = vec![prompt.embedding.array("prompt")];
        arrays.extend(negative.as_mut().map(|text| text.embedding.array("negative")));
        match &mut self.progress {
            JobProgress::Embedded => {}
            JobProgress::Denoising(run) => arrays.extend(run.arrays()),
            JobProgress::Denoised(latent) => arrays.push(SavedArray {
                name: "latent".into(),
                shape: latent.shape.to_vec(),
                values: &mut latent.values,
            }),
        }
        arrays
    }

    /// Checks a checkpoint that came from outside; what depends on the model is found when the job goes on.
    ///
    /// # Errors
    /// Another version, or parts that do not belong together.
    pub fn check(&self) -> Result<(), PayloadError> {
        if self.format_version < Self::OLDEST_VERSION || self.format_version > Self::FORMAT_VERSION
        {
            let (found, supported) = (self.format_version, Self::FORMAT_VERSION);
            return Err(PayloadError::Version { payload: "job checkpoint", found, supported });
        }
        self.texts.iter().try_for_each(|text| text.embedding.check())?;
        let unfit = |reason: String| PayloadError::Unfit { payload: "job checkpoint", reason };
        if self.texts.iter().count() != self.request.text_count() {
            return Err(unfit("its embeddings are not those of its texts".into()));
        }
        let size = self.request.video_settings().size;
        let expected = size.latent().map_err(|cause: ModelError| unfit(cause.to_string()))?;
        let [_, found @ ..] = match &self.progress {
            JobProgress::Embedded => return Ok(()),
            JobProgress::Denoising(run) => {
                if run.settings != self.request.sampling || run.step >= run.settings.steps {
                    return Err(unfit("its sampling is not that of its request".into()));
                }
                run.shape
            }
            JobProgress::Denoised(latent) => {
                latent.check()?;
                if latent.num_frames != size.frames {
                    let (found, expected) = (latent.num_frames, size.frames);
                    return Err(unfit(format!(
                        "it has {found} frames, but {expected} are asked for"
                    )));
                }
                latent.shape
            }
        };
        if found != expected {
            return Err(unfit(format!(
                "its latent is {found:?} large, but the video that is asked for takes {expected:?}"
            )));
        }
        Ok(())
    }
}
