//! The text encoder: T5 v1.1's encoder, its tokenizer, and what happens to a prompt before either.
//!
//! A prompt gets its score suffixes ([`PromptScores`](crate::prompt_notation::PromptScores)), is cleaned
//! ([`CaptionCleaning`]), tokenised ([`PromptTokenizer`]) and encoded ([`T5Encoder`]), which holds one block of
//! weights at a time.

mod block;
pub mod caption;
mod character_reference;
mod config;
mod encoder;
mod html;
mod position_bias;
mod tokenizer;

pub use block::T5Block;
pub use caption::CaptionCleaning;
pub use config::T5Config;
pub use encoder::{T5Encoder, T5Pass, TokenBatch};
pub use position_bias::RelativePositionBias;
pub use tokenizer::{PromptTokenizer, TokenizedPrompt};
