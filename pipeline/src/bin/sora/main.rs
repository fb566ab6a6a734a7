//! The `sora` command: videos from prompts, their judgement, benchmarks, model folders, and checks of the models.

mod arguments;
mod bench;
mod compute_threads;
mod decode;
mod eval;
mod exit;
mod generate;
mod interrupt;
mod job;
mod metrics;
mod pack;
mod plan;
mod print;
mod prompts;
mod quantize;
mod report;
mod request;
mod resume;
#[cfg(feature = "serve")]
mod serve;
mod synth;
mod tracing_output;
mod verify;
mod verify_quantised;
mod write_model;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use exit::Outcome;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    compute_threads::set(arguments.threads, arguments.default_threads());
    let outcome = run(arguments).unwrap_or_else(|cause| {
        print::note(&format!("error: {}", on_one_line(&cause)));
        Outcome::BadInput
    });
    tracing_output::close();
    outcome.into()
}

/// An error and its causes, each told once: many errors name their cause in their own text already.
fn on_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}

/// # Errors
/// Whatever makes the command impossible before it begins; what happens later is an [`Outcome`].
fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    tracing_output::open(arguments.timeline(), arguments.default_log())?;
    match arguments.command {
        Command::Generate(arguments) => generate::run(*arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Pack(arguments) => pack::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Quantize(arguments) => quantize::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let cause = anyhow::anyhow!("no such file");
        let outer = cause.context("cannot read x: no such file").context("no model");
        assert_eq!(on_one_line(&outer), "no model: cannot read x: no such file");
        let plain = anyhow::anyhow!("busy").context("cannot serve metrics");
        assert_eq!(on_one_line(&plain), "cannot serve metrics: busy");
    }
}
