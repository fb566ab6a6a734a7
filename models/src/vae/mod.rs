//! The video autoencoder of Open-Sora v1.2, both directions: pixels to latents and back.
//!
//! Two networks in a row. The spatial one works on single frames and makes height and width 8 times smaller
//! (`AutoencoderKL` in SDXL's layout); the temporal one works on chunks of 17 such frames and makes them 5
//! (`VAE_Temporal_SD`, causal in time). Decoding runs them one after the other ([`TemporalPass`],
//! [`SpatialPass`]) and hands out pixels as they come, so that memory does not grow with a video's length.
//!
//! # Source
//! `opensora/models/vae/` of Open-Sora v1.2; `AutoencoderKL` of diffusers.

mod config;
mod encoder;
mod frame_stream;
mod posterior;
mod residual;
mod rgb;
mod spatial;
mod temporal;
#[cfg(test)]
mod tests;
mod video_vae;

pub use config::{Activation, SpatialArchitecture, SpatialVaeConfig};
pub use config::{TemporalArchitecture, TemporalVaeConfig, VaeConfig};
pub use frame_stream::{FrameStream, SpatialPass, TemporalPass};
pub use posterior::PosteriorNoise;
pub use rgb::to_rgb8;
pub use video_vae::VideoVae;
