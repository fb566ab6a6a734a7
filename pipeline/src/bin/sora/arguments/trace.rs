//! Whether to write down what each thread does when.

use std::path::PathBuf;

use clap::Args;

/// Whether to write down what each thread does when.
#[derive(Args)]
pub struct TraceArguments {
    /// Write a timeline of all stages in the Chrome trace format, to be opened at ui.perfetto.dev
    #[arg(long = "trace", value_name = "FILE")]
    pub file: Option<PathBuf>,
}
