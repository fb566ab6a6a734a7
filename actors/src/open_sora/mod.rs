//! The stages' computation by the real models.

mod block_span;
mod denoiser;
mod loading;
mod text_encoder;
mod video_decoder;

pub use block_span::{Stdit3Span, StepTokens, share_blocks};
pub use denoiser::{DenoisingMemory, GuidedDenoiser, SamplingRun};
pub use loading::{CheckpointBlocks, DecoderPart, DeviceBlock};
pub use text_encoder::{EmbeddingMemory, PromptPass, TextEncoder};
pub use video_decoder::VideoDecoder;
