//! The video that an app asks for.

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_models::rflow::{CoastRule, DynamicLeap, LeapRule};
use sora_models::sizes::PictureSize;
use sora_models::stdit3::{MergeSteps, Merging, OddFrame};
use sora_pipeline::request_settings::{RequestSettings, default_request};

use crate::error::RunnerError;

/// A video to make. What is left out is the model's own default.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct VideoRequest {
    /// What the video shall show.
    pub prompt: String,
    /// Seed of the noise: the same request with the same seed gives the same video.
    #[uniffi(default = 42)]
    pub seed: u64,
    /// Width of a frame in pixels; pixels beyond a multiple of 8 are not generated.
    #[uniffi(default = None)]
    pub width_px: Option<u32>,
    /// Height of a frame in pixels; as the width.
    #[uniffi(default = None)]
    pub height_px: Option<u32>,
    /// Number of frames.
    #[uniffi(default = None)]
    pub frames: Option<u32>,
    /// Frames a second.
    #[uniffi(default = None)]
    pub fps: Option<f64>,
    /// Denoising steps.
    #[uniffi(default = None)]
    pub steps: Option<u32>,
    /// Strength of guidance.
    #[uniffi(default = None)]
    pub guidance_scale: Option<f64>,
    /// When to leap to the end of denoising (Linear Proportional Leap).
    #[uniffi(default = None)]
    pub leap: Option<LeapSetting>,
    /// Evaluate the model in so many steps only, and walk the others without it.
    #[uniffi(default = None)]
    pub evaluations: Option<u32>,
    /// In which steps to merge the tokens of frame pairs (Temporal Dimension Token Merging).
    #[uniffi(default = None)]
    pub merge: Option<MergeSetting>,
    /// Aesthetic score to ask for.
    #[uniffi(default = None)]
    pub aesthetic_score: Option<f64>,
    /// Amount of motion to ask for.
    #[uniffi(default = None)]
    pub motion_score: Option<f64>,
    /// Camera motion to ask for, such as `pan left`.
    #[uniffi(default = None)]
    pub camera_motion: Option<String>,
    /// What guidance leads away from.
    #[uniffi(default = None)]
    pub negative_prompt: Option<String>,
}

/// When to leap to the end of denoising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum LeapSetting {
    /// Never.
    Off,
    /// At the step of this index.
    Fixed {
        /// The step, from 0.
        step: u32,
    },
    /// When the direction of the velocity has stopped settling.
    Dynamic,
}

/// In which steps to merge the tokens of frame pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum MergeSetting {
    /// In none.
    Off,
    /// In all.
    All,
    /// In the first so many.
    First {
        /// How many.
        steps: u32,
    },
}

impl From<LeapSetting> for LeapRule {
    fn from(setting: LeapSetting) -> Self {
        match setting {
            LeapSetting::Off => Self::Off,
            LeapSetting::Fixed { step } => Self::Fixed(step as usize),
            LeapSetting::Dynamic => Self::Dynamic(DynamicLeap::default()),
        }
    }
}

impl From<MergeSetting> for Merging {
    fn from(setting: MergeSetting) -> Self {
        let steps = match setting {
            MergeSetting::Off => MergeSteps::Off,
            MergeSetting::All => MergeSteps::All,
            MergeSetting::First { steps } => MergeSteps::First(steps as usize),
        };
        Self { steps, odd_frame: OddFrame::default() }
    }
}

impl VideoRequest {
    /// The request with the model's defaults in it.
    ///
    /// # Errors
    /// [`RunnerError::BadInput`] when no model could fulfil it.
    pub(crate) fn resolve(
        &self,
        defaults: &GenerationConfig,
    ) -> Result<GenerationRequest, RunnerError> {
        let mut request = default_request(&self.prompt, self.seed, defaults);
        let side = |given: Option<u32>, default| given.map_or(default, |side| side as usize);
        let size = PictureSize {
            width_px: side(self.width_px, request.width_px),
            height_px: side(self.height_px, request.height_px),
        };
        let settings = RequestSettings {
            seed: None,
            negative_prompt: self.negative_prompt.clone(),
            steps: self.steps.map(|steps| steps as usize),
            cfg_scale: self.guidance_scale,
            lpl: self.leap.map(Into::into),
            coast: self.evaluations.map(|count| CoastRule::Evaluations(count as usize)),
            tdtm: self.merge.map(Into::into),
            size: Some(size),
            frames: self.frames.map(|frames| frames as usize),
            fps: self.fps,
            aesthetic_score: self.aesthetic_score,
            motion_score: self.motion_score,
            camera_motion: self.camera_motion.clone(),
        };
        settings.apply(&mut request);
        request.check()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    pub(crate) fn of(prompt: &str) -> VideoRequest {
        VideoRequest {
            prompt: prompt.into(),
            seed: 42,
            width_px: None,
            height_px: None,
            frames: None,
            fps: None,
            steps: None,
            guidance_scale: None,
            leap: None,
            evaluations: None,
            merge: None,
            aesthetic_score: None,
            motion_score: None,
            camera_motion: None,
            negative_prompt: None,
        }
    }

    #[test]
    fn what_is_left_out_is_the_models_own() {
        let defaults = GenerationConfig::default();
        let request = of("a cat").resolve(&defaults).unwrap();
        assert_eq!(request, default_request("a cat", 42, &defaults));
        let narrow = VideoRequest { width_px: Some(64), ..of("a cat") };
        let narrow = narrow.resolve(&defaults).unwrap();
        assert_eq!((narrow.width_px, narrow.height_px), (64, defaults.height));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let defaults = GenerationConfig::default();
        for bad in [
            of(" "),
            VideoRequest { steps: Some(0), ..of("a cat") },
            VideoRequest { fps: Some(f64::NAN), ..of("a cat") },
            VideoRequest { leap: Some(LeapSetting::Fixed { step: 30 }), ..of("a cat") },
            VideoRequest { width_px: Some(7), ..of("a cat") },
        ] {
            assert!(matches!(bad.resolve(&defaults), Err(RunnerError::BadInput(_))), "{bad:?}");
        }
    }
}
