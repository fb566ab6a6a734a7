//! The command line.

mod bench;
mod bench_parts;
mod decode;
mod eval;
mod generate;
mod memory;
mod metrics;
mod model;
mod pack;
mod plan;
mod quantize;
#[cfg(feature = "serve")]
mod serve;
mod synth;
mod trace;
mod verify;

use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use clap::{Parser, Subcommand};

pub use bench::{
    AblationArguments, Bench, BenchArguments, CidlArguments, ReadLimitChoice, RepeatArguments,
    RunArguments,
};
pub use bench_parts::{E2eArguments, PartArguments, TimingArguments};
pub use decode::DecodeArguments;
pub use eval::EvalArguments;
pub use generate::{DEFAULT_SEED, GenerateArguments};
pub use memory::{MemoryArguments, free_bytes};
pub use metrics::{MetricsArguments, MetricsForm};
pub use model::ModelArguments;
pub use pack::PackArguments;
pub use plan::PlanArguments;
pub use quantize::QuantizeArguments;
#[cfg(feature = "serve")]
pub use serve::ServeArguments;
pub use synth::SynthArguments;
pub use trace::TraceArguments;
pub use verify::{VerifyArguments, open_original};

/// Makes short videos from text, on this machine.
#[derive(Parser)]
#[command(name = "sora", version, max_term_width = 100)]
pub struct Arguments {
    /// CPU threads for each tensor operation [default: one for each core; 1 for eval, which computes clips beside each
    /// other]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// How many threads one tensor operation uses when nobody says otherwise: all cores, unless clips are computed
    /// beside each other.
    pub fn default_threads(&self) -> NonZeroUsize {
        match self.command {
            Command::Eval(_) => NonZeroUsize::MIN,
            _ => available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// What goes to the log when `RUST_LOG` does not say: a server tells of each request, but not of what is no HTTP.
    pub fn default_log(&self) -> &'static str {
        match self.command {
            #[cfg(feature = "serve")]
            Command::Serve(_) => {
                "error,actix_http=off,sora=info,sora_pipeline=info,sora_actors=info"
            }
            _ => "error",
        }
    }

    /// Where a timeline of the run goes, if one is asked for.
    pub fn timeline(&self) -> Option<&Path> {
        match &self.command {
            Command::Generate(arguments) => arguments.trace.file.as_deref(),
            Command::Eval(arguments) => arguments.trace.file.as_deref(),
            #[cfg(feature = "serve")]
            Command::Serve(arguments) => arguments.trace.file.as_deref(),
            _ => None,
        }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Make videos from prompts
    Generate(Box<GenerateArguments>),
    /// Make a video of a latent that `sora generate` saved
    Decode(DecodeArguments),
    /// Make videos of many prompts with several settings, and judge them
    Eval(Box<EvalArguments>),
    /// Measure what streaming and the shortcuts cost and bring, and how fast the model's parts are, on this machine
    Bench(Box<BenchArguments>),
    /// Say what a video takes of memory and disk reads, before any work
    Plan(PlanArguments),
    /// Write a model folder of random weights, to rehearse memory and speed without a download
    Synth(SynthArguments),
    /// Take prompts over HTTP, keep them on disk, and make their videos
    #[cfg(feature = "serve")]
    Serve(Box<ServeArguments>),
    /// Rewrite a model folder so that each block can be streamed, or check one that was
    Pack(PackArguments),
    /// Write a model folder with quantised weights: half of the bytes to read, or a third
    Quantize(QuantizeArguments),
    /// Check this build and device against recorded cases of the reference implementation, or quantised weights against
    /// the original
    Verify(VerifyArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
