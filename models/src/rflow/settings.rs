//! How a job is sampled.

use serde::{Deserialize, Serialize};

use super::coast::CoastRule;
use super::leap::LeapRule;
use super::timesteps::{TimestepTransform, timesteps};
use crate::error::{ModelError, Result};
use crate::sizes::VideoSize;
use crate::stdit3::{MergeSteps, OddFrame, TemporalTokenMerge};

/// Every setting of the sampler. The defaults are the reference's, without its accelerations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingSettings {
    /// Denoising steps.
    pub steps: usize,
    /// Strength of classifier-free guidance: 0 ignores the prompt, 1 follows it as it is.
    pub guidance_scale: f64,
    /// Whether timesteps are whole numbers before the transform.
    pub discrete_timesteps: bool,
    /// Whether timesteps are shifted for the video's size; see [`TimestepTransform`].
    pub timestep_transform: bool,
    /// Pixels of the picture that the transform leaves alone.
    pub base_resolution_px: usize,
    /// When to leap.
    pub leap: LeapRule,
    /// Which steps to evaluate; a run either leaps or coasts.
    pub coast: CoastRule,
    /// In which steps to merge tokens.
    pub merge: MergeSteps,
    /// What merging does with the last frame of an odd number.
    pub odd_frame: OddFrame,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self {
            steps: 30,
            guidance_scale: 7.0,
            discrete_timesteps: true,
            timestep_transform: true,
            base_resolution_px: TimestepTransform::BASE_RESOLUTION_PX,
            leap: LeapRule::Off,
            coast: CoastRule::Off,
            merge: MergeSteps::Off,
            odd_frame: OddFrame::DropLast,
        }
    }
}

/// More steps than this are refused: it is our choice, ten times what anyone samples with, to catch typing errors.
const MOST_STEPS: usize = 1000;

impl SamplingSettings {
    /// Whether a run with these settings can work.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] saying what would be accepted.
    pub fn check(&self) -> Result<()> {
        if self.steps == 0 || self.steps > MOST_STEPS {
            let steps = self.steps;
            return Err(ModelError::bad_input(format!(
                "{steps} steps: expected 1 to {MOST_STEPS}"
            )));
        }
        if !self.guidance_scale.is_finite() || self.guidance_scale < 0.0 {
            let scale = self.guidance_scale;
            return Err(ModelError::bad_input(format!(
                "guidance scale {scale}: expected 0 or more"
            )));
        }
        if self.base_resolution_px == 0 {
            return Err(ModelError::bad_input("base resolution 0: expected at least one pixel"));
        }
        if self.leap != LeapRule::Off && self.coast != CoastRule::Off {
            return Err(ModelError::bad_input("a run can leap or coast, not both"));
        }
        self.coast.check(self.steps)?;
        self.leap.check(self.steps)
    }

    /// The timestep of every step for a video.
    pub fn timesteps(&self, size: VideoSize) -> Vec<f32> {
        let transform = TimestepTransform::new(size, self.base_resolution_px);
        timesteps(self.steps, self.discrete_timesteps, self.timestep_transform.then_some(transform))
    }

    /// Token merging in the step of this index.
    pub fn merge_at(&self, step: usize) -> Option<TemporalTokenMerge> {
        let merge = TemporalTokenMerge { odd_frame: self.odd_frame };
        self.merge.includes(step).then_some(merge)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let base = SamplingSettings::default();
        assert!(base.check().is_ok());
        let bad = [
            (SamplingSettings { steps: 0, ..base.clone() }, "0 steps"),
            (SamplingSettings { steps: 100_000, ..base.clone() }, "100000 steps"),
            (SamplingSettings { guidance_scale: f64::NAN, ..base.clone() }, "NaN"),
            (SamplingSettings { guidance_scale: -1.0, ..base.clone() }, "-1"),
            (SamplingSettings { leap: LeapRule::Fixed(30), ..base.clone() }, "step 30"),
            (SamplingSettings { coast: CoastRule::Evaluations(31), ..base.clone() }, "2 to 30"),
            (
                SamplingSettings {
                    leap: LeapRule::Fixed(9),
                    coast: CoastRule::Evaluations(9),
                    ..base.clone()
                },
                "not both",
            ),
        ];
        for (settings, word) in bad {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn settings_survive_json() {
        let leap = LeapRule::Fixed(15);
        let settings =
            SamplingSettings { leap, merge: MergeSteps::First(10), ..Default::default() };
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<SamplingSettings>(&json).unwrap(), settings);
        assert!(serde_json::from_str::<SamplingSettings>(r#"{"step": 3}"#).is_err());
    }
}
