//! The command line.

mod bench;
mod bench_parts;
mod decode;
mod eval;
mod memory;
mod metrics;
mod pack;
mod plan;
mod quantize;
#[cfg(feature = "serve")]
mod serve;
mod synth;
mod verify;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use candle_core::DType;
use clap::{Args, Parser, Subcommand};
use sora_models::DeviceChoice;
use sora_models::bundle::ModelBundle;
use sora_models::rflow::{CoastRule, LeapRule};
use sora_models::sizes::{PictureSize, parse_frames};
use sora_models::stdit3::Merging;

pub use bench::{
    AblationArguments, Bench, BenchArguments, CidlArguments, ReadLimitChoice, RepeatArguments,
    RunArguments,
};
pub use bench_parts::{E2eArguments, PartArguments, TimingArguments};
pub use decode::DecodeArguments;
pub use eval::EvalArguments;
pub use memory::{MemoryArguments, free_bytes};
pub use metrics::{MetricsArguments, MetricsForm};
pub use pack::PackArguments;
pub use plan::PlanArguments;
pub use quantize::QuantizeArguments;
#[cfg(feature = "serve")]
pub use serve::ServeArguments;
pub use synth::SynthArguments;
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

/// What `sora generate` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct GenerateArguments {
    /// What the video shall show; each prompt makes a video of its own
    #[arg(value_name = "PROMPT")]
    pub prompts: Vec<String>,

    /// More prompts from a file, one a line; `-` is standard input. Blank lines and lines with # are skipped
    #[arg(long = "prompts", value_name = "FILE")]
    pub prompts_file: Option<PathBuf>,

    /// Where the video goes: `.mp4`, `.gif`, `.png` (contact sheet), or a folder for single frames
    /// [default: named after the prompt]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<String>,

    /// Go on with what an interrupted run of the same command left, and skip the videos that it finished. A setting that
    /// is not given is the saved job's; without a prompt, so is the prompt of the video that -o names
    #[arg(long)]
    pub resume: bool,

    /// Keep the latent beside the finished video, for `sora decode`
    #[arg(long)]
    pub keep_latent: bool,

    /// Show a picture of the unfinished video here, a PNG file that is overwritten as steps are done. Left out where it would
    /// delay the video; several prompts share the picture
    #[arg(long, value_name = "FILE")]
    pub preview: Option<PathBuf>,

    /// What no video shall show: guidance leads away from it, in place of the model's null caption. It has no effect with
    /// --cfg-scale 1 [default: none]
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,

    /// Seed of the first video's noise; every further prompt takes the next number [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,

    /// How closely to follow the prompt [default: the model's]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    pub cfg_scale: Option<f64>,

    /// When to leap to the end of denoising: `off`, `fixed:N`, `dynamic`, or
    /// `dynamic:from=14,tolerance=0.001,patience=3,over=first-frame|whole` with any of the four [default: off]
    #[arg(long, value_name = "RULE")]
    pub lpl: Option<LeapRule>,

    /// Walk all steps, but evaluate the model at N of them only: far closer to the full run than a leap of as many
    /// evaluations [default: off]
    #[arg(long, value_name = "N")]
    pub coast: Option<CoastRule>,

    /// In which steps to merge the tokens of neighbouring frames: `off`, `all`, or the first N. With `,keep-last` the
    /// last frame of an odd number is kept by itself instead of left out, which is more faithful: `10,keep-last`
    /// [default: off]
    #[arg(long, value_name = "STEPS")]
    pub tdtm: Option<Merging>,

    /// Size of a frame in pixels, such as 256x144 [default: the model's]
    #[arg(long, value_name = "WxH", conflicts_with_all = ["resolution", "aspect"])]
    pub size: Option<PictureSize>,

    /// Size of a frame by name, such as 240p
    #[arg(long, value_name = "NAME")]
    pub resolution: Option<String>,

    /// Height to width, as Open-Sora names it: 9:16 is a wide picture [default: 9:16]
    #[arg(long, value_name = "H:W", requires = "resolution")]
    pub aspect: Option<String>,

    /// Length: a number of frames, or 2s, 4s, 8s, 16s [default: the model's]
    #[arg(long, value_parser = parse_frames, value_name = "N")]
    pub frames: Option<usize>,

    /// Frames per second [default: the model's]
    #[arg(long, value_name = "N")]
    pub fps: Option<f64>,

    /// Aesthetic score to ask for, about 4 to 7 [default: the model's]
    #[arg(long, value_name = "SCORE")]
    pub aesthetic_score: Option<f64>,

    /// Amount of motion to ask for
    #[arg(long, value_name = "SCORE")]
    pub motion_score: Option<f64>,

    /// Camera motion to ask for, such as `pan left`
    #[arg(long, value_name = "WORDS")]
    pub camera_motion: Option<String>,

    #[command(flatten)]
    pub model: ModelArguments,

    #[command(flatten)]
    pub memory: MemoryArguments,

    /// Workers that share the transformer's blocks, so that several prompts overlap
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Print what happens as lines of JSON, without bars
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print errors and the names of finished videos only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub metrics: MetricsArguments,

    #[command(flatten)]
    pub trace: TraceArguments,
}

/// Whether to write down what each thread does when.
#[derive(Args)]
pub struct TraceArguments {
    /// Write a timeline of all stages in the Chrome trace format, to be opened at ui.perfetto.dev
    #[arg(long = "trace", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Which model, and how it computes.
#[derive(Args)]
pub struct ModelArguments {
    /// Folder with the model's weights [default: the small model in this program]
    #[arg(long = "model", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,

    /// Where to compute: auto, cpu, metal or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Number format to compute in: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_parser = parse_dtype)]
    pub dtype: DType,
}

impl ModelArguments {
    /// Opens the model.
    ///
    /// # Errors
    /// As [`ModelBundle::open`].
    pub fn open(&self) -> sora_models::Result<ModelBundle> {
        match &self.folder {
            Some(folder) => ModelBundle::open(folder),
            None => ModelBundle::embedded(),
        }
    }
}

/// The reference's seed.
pub const DEFAULT_SEED: u64 = 42;

const AFTER_HELP: &str = "\
Output names:
  film.mp4                 one video; with several prompts film-1.mp4, film-2.mp4, …
  frames/                  a folder of single frames; with several prompts frames/1/, frames/2/, …
  {index}-{prompt}.gif     every video by itself; {seed} is known too
Missing folders are created. Beside each video a .json tells every setting.
The same prompt, seed and settings give the same bytes.

Until a video is finished, its work is saved beside it step by step, as film.mp4.sora-job. After
Ctrl-C, a crash or a full disk, the same command with --resume goes on from there, to the same bytes.

Exit codes: 0 all videos are there, 1 some failed, 2 it cannot be done as asked, 130 stopped by Ctrl-C.";

fn parse_dtype(name: &str) -> Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "f16" => Ok(DType::F16),
        "bf16" => Ok(DType::BF16),
        _ => Err("expected f32, f16 or bf16".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;
    use sora_models::stdit3::{MergeSteps, OddFrame};

    use super::*;

    fn generate(arguments: &[&str]) -> Result<GenerateArguments, String> {
        let all = ["sora", "generate"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Generate(arguments) => Ok(*arguments),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_setting_can_be_given() {
        let arguments = generate(&[
            "a cat",
            "a dog",
            "-o",
            "x.mp4",
            "--negative-prompt",
            "a bird",
            "--seed",
            "7",
            "--steps",
            "20",
            "--cfg-scale",
            "4.5",
            "--lpl",
            "fixed:15",
            "--tdtm",
            "10",
            "--resolution",
            "240p",
            "--aspect",
            "16:9",
            "--frames",
            "2s",
            "--fps",
            "12.5",
            "--device",
            "cpu",
            "--dtype",
            "bf16",
            "--threads",
            "2",
            "--workers",
            "2",
            "--quiet",
        ])
        .unwrap();
        assert_eq!(arguments.prompts, ["a cat", "a dog"]);
        assert_eq!(arguments.negative_prompt.as_deref(), Some("a bird"));
        let merging = Merging { steps: MergeSteps::First(10), odd_frame: OddFrame::DropLast };
        assert_eq!((arguments.lpl, arguments.tdtm), (Some(LeapRule::Fixed(15)), Some(merging)));
        assert_eq!((arguments.frames, arguments.seed), (Some(51), Some(7)));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_accepted() {
        for (arguments, told) in [
            (&["x", "--lpl", "soon"][..], "dynamic"),
            (&["x", "--tdtm", "some"], "a number of steps"),
            (&["x", "--tdtm", "10,keep"], "keep-last"),
            (&["x", "--size", "64"], "WIDTHxHEIGHT"),
            (&["x", "--frames", "0"], "2s"),
            (&["x", "--device", "tpu"], "metal"),
            (&["x", "--dtype", "int8"], "bf16"),
            (&["x", "--size", "64x64", "--resolution", "240p"], "cannot be used with"),
            (&["x", "--aspect", "1:1"], "--resolution"),
            (&["x", "--threads", "0"], "--threads"),
            (&["x", "--json", "--quiet"], "cannot be used with"),
        ] {
            let error = generate(arguments).err().unwrap_or_default();
            assert!(error.contains(told), "{arguments:?}: {error}");
        }
    }
}
