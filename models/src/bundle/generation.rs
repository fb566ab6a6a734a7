//! What a model does when nothing else is asked for.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};
use crate::rflow::SamplingSettings;

/// A model's own defaults, from its `generation_config.json`. A field that the file leaves out is that of
/// [`GenerationConfig::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// What the model is called.
    pub name: String,
    /// Frame width in pixels.
    pub width: usize,
    /// Frame height in pixels.
    pub height: usize,
    /// Frames of a video.
    pub num_frames: usize,
    /// Frames per second.
    pub fps: u32,
    /// Denoising steps.
    pub num_sampling_steps: usize,
    /// Guidance scale.
    pub cfg_scale: f64,
    /// Whether timesteps are warped by resolution and length.
    pub use_timestep_transform: bool,
    /// Pixels of the frame at which the warp does nothing.
    pub timestep_transform_base_resolution: usize,
    /// The aesthetic score that prompts get; `None` for models that were trained without.
    pub aesthetic_score: Option<f32>,
}

impl Default for GenerationConfig {
    /// Open-Sora v1.2: 240p at 9:16 (height to width), 51 frames.
    ///
    /// # Source
    /// `configs/opensora-v1-2/inference/sample.py`; the base resolution from `opensora/schedulers/rf`.
    fn default() -> Self {
        Self {
            name: "open-sora-v1.2".into(),
            width: 426,
            height: 240,
            num_frames: 51,
            fps: 24,
            num_sampling_steps: 30,
            cfg_scale: 7.0,
            use_timestep_transform: true,
            timestep_transform_base_resolution: 512 * 512,
            aesthetic_score: Some(6.5),
        }
    }
}

impl GenerationConfig {
    /// The model's own way of sampling.
    pub fn sampling(&self) -> SamplingSettings {
        SamplingSettings {
            steps: self.num_sampling_steps,
            guidance_scale: self.cfg_scale,
            timestep_transform: self.use_timestep_transform,
            base_resolution_px: self.timestep_transform_base_resolution,
            ..SamplingSettings::default()
        }
    }

    /// Parses and checks a `generation_config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Config`] that says which field is wrong.
    pub fn from_json(json: &str, file: &Path) -> Result<Self> {
        let unusable = |reason: String| ModelError::Config { file: file.to_path_buf(), reason };
        let config: Self =
            serde_json::from_str(json).map_err(|cause| unusable(cause.to_string()))?;
        let sizes = [
            ("width", config.width),
            ("height", config.height),
            ("num_frames", config.num_frames),
            ("fps", config.fps as usize),
            ("num_sampling_steps", config.num_sampling_steps),
            ("timestep_transform_base_resolution", config.timestep_transform_base_resolution),
        ];
        match sizes.iter().find(|(_, size)| *size == 0) {
            Some((field, _)) => Err(unusable(format!("{field} is 0, expected at least 1"))),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_left_out_are_those_of_open_sora_and_zero_is_refused() {
        let file = Path::new("generation_config.json");
        let config = GenerationConfig::from_json(r#"{"name": "x", "fps": 8}"#, file).unwrap();
        let expected = GenerationConfig { name: "x".into(), fps: 8, ..GenerationConfig::default() };
        assert_eq!(config, expected);
        let without = GenerationConfig::from_json(r#"{"aesthetic_score": null}"#, file).unwrap();
        assert_eq!(without.aesthetic_score, None);
        let error = GenerationConfig::from_json(r#"{"width": 0}"#, file).unwrap_err().to_string();
        assert!(error.contains("width is 0"), "{error}");
    }
}
