//! What `sora decode` is told.

use std::path::PathBuf;

use clap::Args;

use super::{MemoryArguments, ModelArguments};

/// What `sora decode` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct DecodeArguments {
    /// The saved job, such as film.mp4.sora-job
    #[arg(value_name = "FILE")]
    pub saved: PathBuf,

    /// Where the video goes: `.mp4`, `.gif`, `.png` (contact sheet), or a folder for single frames [default: FILE without
    /// .sora-job]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<String>,

    #[command(flatten)]
    pub model: ModelArguments,

    #[command(flatten)]
    pub memory: MemoryArguments,

    /// Print what happens as lines of JSON, without bars
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print errors and the name of the finished video only
    #[arg(short, long)]
    pub quiet: bool,
}

const AFTER_HELP: &str = "\
`sora generate` saves a latent before it is decoded, and --keep-latent keeps it. Decoding loads the
video autoencoder alone. The saved job stays where it is.

Exit codes: 0 the video is there, 1 it failed, 2 it cannot be done as asked, 130 stopped by Ctrl-C.";
