//! Open-Sora v1.2 on [candle](candle_core): the text encoder ([`t5`]), the diffusion transformer ([`stdit3`]), its
//! sampler ([`rflow`]) and the video autoencoder ([`vae`]), with weights ([`weights`]) by their official names. A whole
//! model is a [`bundle`]; [`checkpoint_tools`] write such folders.
//!
//! Everything here is synchronous tensor maths: no actors, no runtime, no I/O beyond weights. The crate is
//! device-neutral; features `metal` and `cuda` compile the GPU backends in.

#[macro_use]
mod as_written;
pub mod bundle;
pub mod checkpoint_tools;
mod config_limits;
pub mod device;
pub mod device_work;
pub mod error;
pub mod footprint;
pub mod generation;
pub mod guiding_texts;
pub mod mask_strategy;
pub mod nn;
pub mod probe;
pub mod prompt_notation;
pub mod rflow;
pub mod sizes;
pub mod stdit3;
pub mod t5;
pub mod vae;
pub mod verify;
pub mod weights;

pub use device::DeviceChoice;
pub use error::{ErrorKind, ModelError, Result};
