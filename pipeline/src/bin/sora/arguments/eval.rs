//! What `sora eval` is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use sora_pipeline::eval::EvalSetting;

use super::{DEFAULT_SEED, MemoryArguments, ModelArguments, TraceArguments};

/// What `sora eval` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct EvalArguments {
    /// Prompts, one a line, or lines of JSON that also say what each prompt names [default: those that the embedded
    /// model was not trained on]
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,

    /// Take the first N prompts only
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// A setting to compare with the model's own, such as `lpl=dynamic` or `coast=10 tdtm=all,keep-last`; may be given
    /// again
    #[arg(long = "setting", value_name = "SETTING")]
    pub settings: Vec<EvalSetting>,

    /// Run the standard comparison of all shortcuts instead, and write `quality.md` with its tables and pictures into
    /// this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["settings", "prompts", "folder"])]
    pub quality_page: Option<PathBuf>,

    /// Seed of the first prompt; every further one takes the next number
    #[arg(long, default_value_t = DEFAULT_SEED, value_name = "N")]
    pub seed: u64,

    /// Fail when a setting has fewer percent of clips that show all that their prompt names
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub require: Option<f64>,

    /// Time each setting with so many prompts, one clip at a time, on as many cores as --threads says
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub timed: usize,

    /// List the clips that do not show what their prompt names
    #[arg(long, conflicts_with = "json")]
    pub mistakes: bool,

    #[command(flatten)]
    pub memory: MemoryArguments,

    #[command(flatten)]
    pub model: ModelArguments,

    /// Workers that share the transformer's blocks [default: one for each core, as far as there are blocks]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    #[command(flatten)]
    pub trace: TraceArguments,

    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "\
A setting is made of steps=N, cfg=SCALE, lpl=RULE, coast=N and tdtm=STEPS, with spaces between;
the values are those of `sora generate`. PSNR and SSIM compare with the model's own settings at
the same seed. A line of JSON is {\"prompt\": \"...\", \"attributes\": {...}, \"seed\": N}, where attributes
are any of colour, background, shape, size and motion.

Exit codes: 0 done, 1 below what was required, or a clip failed, 2 it cannot be done as asked.";

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| "expected a number from 0 to 100".into())
}
