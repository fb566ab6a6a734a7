//! The stages' computation by the real models.

mod block_span;
mod denoiser;
mod text_encoder;
mod video_decoder;

pub use block_span::{ResidentBlocks, StepTokens, share_blocks};
pub use denoiser::{GuidedDenoiser, SamplingRun};
pub use text_encoder::{PromptPass, TextEncoder};
pub use video_decoder::VideoDecoder;
