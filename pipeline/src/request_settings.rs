//! What users may ask for or leave open, and what a request becomes of it: the command line and the server share it.

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::{CoastRule, LeapRule, SamplingSettings};
use sora_models::sizes::PictureSize;
use sora_models::stdit3::Merging;

/// Settings of one video; what is `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestSettings {
    /// What the video shall not show; a blank text takes away what was asked for before.
    pub negative_prompt: Option<String>,
    /// Seed of the noise.
    pub seed: Option<u64>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Strength of guidance.
    pub cfg_scale: Option<f64>,
    /// When to leap to the end of denoising.
    pub lpl: Option<LeapRule>,
    /// Which steps to evaluate.
    pub coast: Option<CoastRule>,
    /// In which steps to merge tokens, and how.
    pub tdtm: Option<Merging>,
    /// Size of a frame.
    pub size: Option<PictureSize>,
    /// Number of frames.
    pub frames: Option<usize>,
    /// Frames a second.
    pub fps: Option<f64>,
    /// Aesthetic score to ask for.
    pub aesthetic_score: Option<f64>,
    /// Amount of motion to ask for.
    pub motion_score: Option<f64>,
    /// Camera motion to ask for.
    pub camera_motion: Option<String>,
}

impl RequestSettings {
    /// Sets in `request` what is given here.
    pub fn apply(&self, request: &mut GenerationRequest) {
        let negative_prompt = self.negative_prompt.clone();
        set(
            &mut request.negative_prompt,
            negative_prompt.map(|text| Some(text).filter(|text| !text.trim().is_empty())),
        );
        set(&mut request.seed, self.seed);
        set(&mut request.width_px, self.size.map(|size| size.width_px));
        set(&mut request.height_px, self.size.map(|size| size.height_px));
        set(&mut request.num_frames, self.frames);
        set(&mut request.fps, self.fps);
        let SamplingSettings { steps, guidance_scale, leap, coast, merge, odd_frame, .. } =
            &mut request.sampling;
        set(steps, self.steps);
        set(guidance_scale, self.cfg_scale);
        set(leap, self.lpl);
        set(coast, self.coast);
        set(merge, self.tdtm.map(|tdtm| tdtm.steps));
        set(odd_frame, self.tdtm.map(|tdtm| tdtm.odd_frame));
        let PromptScores { aesthetic, motion, camera_motion } = &mut request.scores;
        set(aesthetic, self.aesthetic_score.map(Some));
        set(motion, self.motion_score.map(Some));
        set(camera_motion, self.camera_motion.clone().map(Some));
    }
}

/// What a model makes of a prompt when nothing else is asked for.
pub fn default_request(prompt: &str, seed: u64, defaults: &GenerationConfig) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.to_string(),
        negative_prompt: None,
        seed,
        width_px: defaults.width,
        height_px: defaults.height,
        num_frames: defaults.num_frames,
        fps: f64::from(defaults.fps),
        sampling: defaults.sampling(),
        scores: PromptScores {
            aesthetic: defaults.aesthetic_score.map(f64::from),
            ..PromptScores::default()
        },
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}
