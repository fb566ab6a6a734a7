//! What the benchmarks of single parts are told.

use std::num::NonZeroUsize;

use candle_core::DType;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use sora_models::DeviceChoice;
use sora_models::checkpoint_tools::Preset;
use sora_models::sizes::SPATIAL_FACTOR;

use super::bench::{RepeatArguments, RunArguments};
use super::model::parse_dtype;

/// What the benchmark of any part is told.
#[derive(Args)]
pub struct PartArguments {
    /// Which model's sizes: opensora-v1.2 (T5-XXL, STDiT3-XL/2 and the VAE) or tiny
    #[arg(long, default_value_t = Preset::OpenSoraV12, value_name = "NAME")]
    pub preset: Preset,

    /// Where to compute: auto, cpu, metal or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Number format to compute in: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_parser = parse_dtype)]
    pub dtype: DType,

    #[command(flatten)]
    pub timing: TimingArguments,

    #[command(flatten)]
    pub repeat: RepeatArguments,
}

/// How often something is timed, and what it is compared with.
#[derive(Args)]
pub struct TimingArguments {
    /// Timed iterations of each run, after one that is not counted
    #[arg(long, default_value = "3", value_name = "N")]
    pub iterations: NonZeroUsize,

    /// Compare with another program: a shell command that times the same work and prints one JSON object with `median_s`
    /// and, if known, `peak_rss_mib` and `gflop_s`; `{threads}` in it is replaced
    #[arg(long, value_name = "COMMAND")]
    pub against: Option<String>,
}

/// What `sora bench block` is told.
#[derive(Args)]
#[command(after_help = PART_HELP)]
pub struct BlockArguments {
    /// Latent frames
    #[arg(long, default_value_t = 20, value_parser = up_to(MOST_LATENT), value_name = "N")]
    pub frames: usize,

    /// Latent rows, an eighth of a picture's
    #[arg(long, default_value_t = 24, value_parser = up_to(MOST_LATENT), value_name = "N")]
    pub height: usize,

    /// Latent columns
    #[arg(long, default_value_t = 24, value_parser = up_to(MOST_LATENT), value_name = "N")]
    pub width: usize,

    /// Text tokens, each of the prompt and of guidance's empty prompt
    #[arg(long, default_value_t = 30, value_parser = up_to(MOST_TEXT), value_name = "N")]
    pub tokens: usize,

    /// Merge frame pairs (TDTM)
    #[arg(long)]
    pub tdtm: bool,

    #[command(flatten)]
    pub part: PartArguments,
}

/// What `sora bench t5-block` is told.
#[derive(Args)]
#[command(after_help = PART_HELP)]
pub struct T5BlockArguments {
    /// Tokens of the text
    #[arg(long, default_value_t = 300, value_parser = up_to(MOST_LATENT), value_name = "N")]
    pub tokens: usize,

    #[command(flatten)]
    pub part: PartArguments,
}

/// What `sora bench vae-spatial` and `sora bench vae-temporal` are told.
#[derive(Args)]
#[command(after_help = PART_HELP)]
pub struct VaeArguments {
    /// Pixels of a frame's side, a multiple of 8
    #[arg(long, default_value = "256", value_parser = parse_side, value_name = "N")]
    pub size: usize,

    #[command(flatten)]
    pub part: PartArguments,
}

/// What `sora bench matmul` is told.
#[derive(Args)]
#[command(after_help = PART_HELP)]
pub struct MatmulArguments {
    #[command(flatten)]
    pub part: PartArguments,
}

/// What `sora bench e2e` is told.
#[derive(Args)]
#[command(after_help = E2E_HELP)]
pub struct E2eArguments {
    #[command(flatten)]
    pub run: RunArguments,

    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,

    /// Collect metrics meanwhile, and read them every second: against a run without, this shows what they cost
    #[arg(long)]
    pub metrics: bool,

    #[command(flatten)]
    pub timing: TimingArguments,
}

/// Our choice: beyond any video that Open-Sora makes, and far from numbers that overflow.
const MOST_LATENT: u64 = 4096;

/// Text tokens that the transformer takes at most.
const MOST_TEXT: u64 = 300;

/// Our choice, as above.
const MOST_PIXELS: usize = 8192;

fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

fn parse_side(text: &str) -> Result<usize, String> {
    let side = text.parse().ok().filter(|side: &usize| {
        (1..=MOST_PIXELS).contains(side) && side.is_multiple_of(SPATIAL_FACTOR)
    });
    side.ok_or_else(|| format!("expected a multiple of {SPATIAL_FACTOR}, at most {MOST_PIXELS}"))
}

const PART_HELP: &str = "\
Weights and inputs are random, and nothing of the model but the part is in memory. Each run is a
process of its own; between the runs a product of two 2048x2048 matrices is timed, which shows what
the machine can do. Operations are those of dense layers; with --tdtm, of the merged tokens where
tokens are merged. Those of the VAE, which are convolutions, are not counted.

With --against, runs take turns with those of another program, which may be another build of this
one: --against \"other/sora bench block --json --repeat 1 --threads {threads}\".";

const E2E_HELP: &str = "\
Whole videos as `sora generate` makes them, from the prompt to the frames' pixels; what comes behind,
writing a video file, is left out. Each iteration is a graph of its own, each run a process of its own.";
