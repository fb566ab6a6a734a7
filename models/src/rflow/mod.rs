//! Rectified flow: from noise to a latent along velocities that a model predicts.
//!
//! [`DenoiseRun`] is a whole sampling job as a state machine that never calls a model: it says what to evaluate next
//! and takes the result, so a plain loop and a graph of actors run the very same arithmetic. [`leap`] decides when to
//! stop early, [`CoastRule`] which steps to walk without asking the model.

mod coast;
mod conditioning;
mod guidance;
pub mod leap;
mod noise;
mod run;
mod settings;
mod timesteps;

pub use coast::CoastRule;
pub use conditioning::{FrameConditioning, ReleaseNoise};
pub use guidance::guided_velocity;
pub use leap::{CosineOver, DynamicLeap, LeapRule, LinearProportionalLeap};
pub use noise::{add_noise, initial_noise, standard_normal};
pub use run::{
    DenoiseRun, SavedArray, SavedConditioning, SavedRun, SavedVelocity, StepOutcome, StepRequest,
};
pub use settings::SamplingSettings;
pub use timesteps::{NUM_TIMESTEPS, TimestepTransform, step_sizes, timesteps};
