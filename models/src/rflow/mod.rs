//! Rectified flow: how sampling runs.

use serde::{Deserialize, Serialize};

/// When sampling leaps the rest of the way along the last velocity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LeapRule {
    /// Never.
    Off,
}

/// Steps, guidance, leap and token merging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance scale.
    pub guidance_scale: f64,
    /// When to leap.
    pub leap: LeapRule,
    /// Steps that merge tokens.
    pub merge_steps: usize,
}
