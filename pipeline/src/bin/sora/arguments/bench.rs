//! What `sora bench` is told.

use std::num::{NonZeroU64, NonZeroUsize};

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use sora_models::rflow::LeapRule;
use sora_models::sizes::{PictureSize, parse_frames};
use sora_models::stdit3::Merging;

use super::ModelArguments;
use super::bench_parts::{
    BlockArguments, E2eArguments, MatmulArguments, T5BlockArguments, VaeArguments,
};
use super::memory::parse_rate;

/// What `sora bench` is told.
#[derive(Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub bench: Bench,
}

/// What is measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Whole videos: each of LPL, TDTM, CI and CI-DL alone and all together, against none
    Ablation(AblationArguments),
    /// Denoising steps: blocks read before, beside or not at all during the computation, and several prompts against one
    Cidl(CidlArguments),
    /// A spatial and a temporal block of the diffusion transformer, at full width with random weights
    Block(BlockArguments),
    /// A block of the text encoder
    #[command(name = "t5-block")]
    T5Block(T5BlockArguments),
    /// The autoencoder's spatial decoder: one micro batch of frames
    VaeSpatial(VaeArguments),
    /// The autoencoder's temporal decoder: one chunk of frames
    VaeTemporal(VaeArguments),
    /// A product of two 2048x2048 matrices: what the machine can do
    Matmul(MatmulArguments),
    /// Whole videos, from the prompt to the frames
    E2e(E2eArguments),
    /// One run, out of a task on standard input
    #[command(hide = true)]
    One(ModelArguments),
}

/// What every benchmark is told.
#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub model: ModelArguments,

    /// Size of a frame in pixels, such as 256x144 [default: the model's]
    #[arg(long, value_name = "WxH")]
    pub size: Option<PictureSize>,

    /// Length: a number of frames, or 2s, 4s, 8s, 16s [default: the model's]
    #[arg(long, value_parser = parse_frames, value_name = "N")]
    pub frames: Option<usize>,

    /// Workers that share the transformer's blocks
    #[arg(long, default_value = "1", value_name = "N")]
    pub workers: NonZeroUsize,

    #[command(flatten)]
    pub repeat: RepeatArguments,
}

/// How many runs there are, and how they are told.
#[derive(Args)]
pub struct RepeatArguments {
    /// Runs of everything that is compared, of which the medians are shown
    #[arg(long = "repeat", default_value = "3", value_name = "N")]
    pub runs: NonZeroUsize,

    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What `sora bench ablation` is told.
#[derive(Args)]
pub struct AblationArguments {
    #[command(flatten)]
    pub run: RunArguments,

    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,

    /// Memory for the whole program, such as 3.3GB [default: what the machine has free]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,

    /// Read weights no faster than so many megabytes a second
    #[arg(long, value_name = "MB/S", value_parser = parse_rate)]
    pub read_limit: Option<NonZeroU64>,

    /// Prompts in flight together
    #[arg(long, default_value = "1", value_name = "N")]
    pub prompts: NonZeroUsize,

    /// When LPL leaps, as for `sora generate` [default: after half of the steps, as in the paper]
    #[arg(long, value_name = "RULE")]
    pub lpl: Option<LeapRule>,

    /// In which steps TDTM merges, as for `sora generate`
    #[arg(long, default_value = "all", value_name = "STEPS")]
    pub tdtm: Merging,
}

/// What `sora bench cidl` is told.
#[derive(Args)]
#[command(after_help = CIDL_HELP)]
pub struct CidlArguments {
    #[command(flatten)]
    pub run: RunArguments,

    /// Denoising steps; the first is not counted
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub steps: usize,

    /// Memory for the whole program [default: room for half of the transformer's blocks]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,

    /// Read weights no faster than so many megabytes a second; `auto` makes a step's reads take as long as its
    /// computation
    #[arg(long, default_value = "auto", value_name = "MB/S", value_parser = parse_limit)]
    pub read_limit: ReadLimitChoice,

    /// Prompts in flight together, to be compared with one; 1 leaves that out
    #[arg(long, default_value = "4", value_name = "N")]
    pub prompts: NonZeroUsize,
}

/// How fast weights are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLimitChoice {
    /// As fast as they are computed with.
    Auto,
    /// At so many bytes a second.
    Fixed(NonZeroU64),
}

const CIDL_HELP: &str = "\
With `--read-limit auto` a run without limits tells how long a step computes. Several prompts are
compared with one where reading takes half as long again as computing with all of them, so that
all wait for the disk. Each run is a process of its own; prompts are made up, and nothing is
decoded.";

fn parse_limit(text: &str) -> Result<ReadLimitChoice, String> {
    match text {
        "auto" => Ok(ReadLimitChoice::Auto),
        _ => parse_rate(text)
            .map(ReadLimitChoice::Fixed)
            .map_err(|told| format!("{told}, or `auto`")),
    }
}
