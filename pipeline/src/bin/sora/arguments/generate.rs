//! What `sora generate` is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use sora_models::rflow::{CoastRule, LeapRule};
use sora_models::sizes::{PictureSize, parse_frames};
use sora_models::stdit3::Merging;

use super::{MemoryArguments, MetricsArguments, ModelArguments, TraceArguments};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use sora_models::stdit3::{MergeSteps, OddFrame};

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn generate(arguments: &[&str]) -> Result<GenerateArguments, String> {
        let all = ["sora", "generate"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Generate(arguments) => Ok(*arguments),
            _ => Err("another command".into()),
        }
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
