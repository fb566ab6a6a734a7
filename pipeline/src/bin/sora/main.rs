//! The `sora` command: videos from prompts, and a check of the models against recorded cases.

mod arguments;
mod exit;
mod generate;
mod interrupt;
mod job;
mod prompts;
mod report;
mod request;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};
use exit::Outcome;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(arguments).unwrap_or_else(|cause| {
        // The chain on one line: causes are written to be read after a colon.
        eprintln!("error: {cause:#}");
        Outcome::BadInput
    });
    outcome.into()
}

/// # Errors
/// Whatever makes the command impossible before it begins; what happens later is an [`Outcome`].
fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    if let Some(threads) = arguments.threads {
        // Before any tensor work, since the pool is built once.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .context("cannot start so many threads")?;
    }
    match arguments.command {
        Command::Generate(arguments) => generate::run(*arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    }
}
