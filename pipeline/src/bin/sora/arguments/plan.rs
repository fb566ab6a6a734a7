//! What `sora plan` is told.

use std::num::NonZeroUsize;

use clap::Args;
use sora_models::sizes::{PictureSize, parse_frames};

use super::{MemoryArguments, ModelArguments};

/// What `sora plan` is told.
#[derive(Args)]
pub struct PlanArguments {
    /// Size of a frame in pixels, such as 256x144 [default: the model's]
    #[arg(long, value_name = "WxH")]
    pub size: Option<PictureSize>,

    /// Length: a number of frames, or 2s, 4s, 8s, 16s [default: the model's]
    #[arg(long, value_parser = parse_frames, value_name = "N")]
    pub frames: Option<usize>,

    /// A negative prompt, which is embedded as well [default: none]
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,

    /// Workers that share the transformer's blocks
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Videos that are made in one run: some of them are denoised together
    #[arg(long, default_value = "1", value_name = "N")]
    pub prompts: NonZeroUsize,

    #[command(flatten)]
    pub memory: MemoryArguments,

    #[command(flatten)]
    pub model: ModelArguments,

    /// Print a line of JSON
    #[arg(long)]
    pub json: bool,
}
