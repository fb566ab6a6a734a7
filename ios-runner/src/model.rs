//! What is known of a model.

use serde::Deserialize;
use sora_models::bundle::EMBEDDED_PROMPTS;

use crate::engine::Engine;

/// What is known of a runner's model.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct ModelDescription {
    /// What it is called.
    pub name: String,
    /// Differs between any two models with different weights or settings.
    pub fingerprint: String,
    /// Where it is computed: `cpu`, `metal`.
    pub device: String,
    /// Number format: `f32`, `f16`, `bf16`.
    pub precision: String,
    /// Width of a frame when nothing else is asked for.
    pub width_px: u32,
    /// Height of a frame when nothing else is asked for.
    pub height_px: u32,
    /// Frames when nothing else is asked for.
    pub frames: u32,
    /// Frames a second when nothing else is asked for.
    pub fps: f64,
    /// Steps when nothing else is asked for.
    pub steps: u32,
    /// Guidance when nothing else is asked for.
    pub guidance_scale: f64,
}

impl From<&Engine> for ModelDescription {
    fn from(engine: &Engine) -> Self {
        let defaults = &engine.generation;
        Self {
            name: engine.model.name.clone(),
            fingerprint: engine.model.fingerprint.clone(),
            device: engine.compute.device.clone(),
            precision: engine.compute.dtype.clone(),
            width_px: defaults.width as u32,
            height_px: defaults.height as u32,
            frames: defaults.num_frames as u32,
            fps: f64::from(defaults.fps),
            steps: defaults.num_sampling_steps as u32,
            guidance_scale: defaults.cfg_scale,
        }
    }
}

/// Prompts that the embedded model understands.
#[uniffi::export]
pub fn embedded_prompts() -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        prompt: String,
    }
    let prompt = |line| serde_json::from_str(line).map(|line: Line| line.prompt).ok();
    EMBEDDED_PROMPTS.lines().filter_map(prompt).collect()
}

/// The version of the runner.
#[uniffi::export]
pub fn runner_version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_has_prompts() {
        assert!(embedded_prompts().len() > 10);
    }
}
