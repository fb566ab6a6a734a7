//! From the command line and a model's defaults to requests.

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;
use sora_models::sizes::{PictureSize, picture_size};

use crate::arguments::{DEFAULT_SEED, GenerateArguments};

/// The shape that `--resolution` alone means: wide, as films are.
const DEFAULT_ASPECT: &str = "9:16";

/// The request of the prompt with this index, from 0. What the command line leaves open, an earlier run of the same prompt
/// decides or, without one, the model's own defaults; the seed rises by one with every prompt, so that equal prompts give
/// different videos.
///
/// # Errors
/// The resolution or the aspect ratio is not known.
pub fn request(
    arguments: &GenerateArguments,
    index: u64,
    prompt: &str,
    earlier: Option<&GenerationRequest>,
    defaults: &GenerationConfig,
) -> anyhow::Result<GenerationRequest> {
    let mut request = earlier.cloned().unwrap_or_else(|| GenerationRequest {
        prompt: String::new(),
        seed: DEFAULT_SEED.wrapping_add(index),
        width_px: defaults.width,
        height_px: defaults.height,
        num_frames: defaults.num_frames,
        fps: f64::from(defaults.fps),
        sampling: defaults.sampling(),
        scores: PromptScores {
            aesthetic: defaults.aesthetic_score.map(f64::from),
            ..PromptScores::default()
        },
    });
    request.prompt = prompt.to_string();
    set(&mut request.seed, arguments.seed.map(|first| first.wrapping_add(index)));
    if let Some(size) = picture(arguments)? {
        (request.width_px, request.height_px) = (size.width_px, size.height_px);
    }
    set(&mut request.num_frames, arguments.frames);
    set(&mut request.fps, arguments.fps);
    let SamplingSettings { steps, guidance_scale, leap, coast, merge, odd_frame, .. } =
        &mut request.sampling;
    set(steps, arguments.steps);
    set(guidance_scale, arguments.cfg_scale);
    set(leap, arguments.lpl);
    set(coast, arguments.coast);
    set(merge, arguments.tdtm.map(|tdtm| tdtm.steps));
    set(odd_frame, arguments.tdtm.map(|tdtm| tdtm.odd_frame));
    let PromptScores { aesthetic, motion, camera_motion } = &mut request.scores;
    set(aesthetic, arguments.aesthetic_score.map(Some));
    set(motion, arguments.motion_score.map(Some));
    set(camera_motion, arguments.camera_motion.clone().map(Some));
    Ok(request)
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The size of a frame, if the command line says one.
fn picture(arguments: &GenerateArguments) -> anyhow::Result<Option<PictureSize>> {
    let Some(resolution) = &arguments.resolution else { return Ok(arguments.size) };
    let aspect = arguments.aspect.as_deref().unwrap_or(DEFAULT_ASPECT);
    Ok(Some(picture_size(resolution, aspect)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use sora_models::stdit3::{MergeSteps, OddFrame};

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parsed(arguments: &[&str]) -> GenerateArguments {
        let all = ["sora", "generate"].iter().chain(arguments);
        let Command::Generate(arguments) = Arguments::try_parse_from(all).unwrap().command else {
            panic!("another command");
        };
        *arguments
    }

    fn requested(arguments: &[&str], index: u64) -> GenerationRequest {
        let defaults =
            GenerationConfig { width: 64, height: 48, fps: 8, ..GenerationConfig::default() };
        request(&parsed(arguments), index, "a cat", None, &defaults).unwrap()
    }

    #[test]
    fn the_model_decides_what_is_left_open() {
        let request = requested(&["a cat"], 0);
        assert_eq!(
            (request.width_px, request.height_px, request.fps, request.seed),
            (64, 48, 8.0, 42)
        );
        assert_eq!(request.sampling, SamplingSettings::default());
        assert_eq!(request.scores.aesthetic, Some(6.5));
    }

    #[test]
    fn the_command_line_decides_the_rest() {
        let arguments =
            ["a", "--resolution", "240p", "--seed", "7", "--steps", "5", "--frames", "2s"];
        let [first, second] = [0, 1].map(|index| requested(&arguments, index));
        assert_eq!((first.width_px, first.height_px, first.num_frames), (426, 240, 51));
        assert_eq!((first.seed, second.seed, second.sampling.steps), (7, 8, 5));
        assert_eq!(requested(&["a", "--size", "80x56"], 0).width_px, 80);
        let sampling = requested(&["a", "--tdtm", "all,keep-last"], 0).sampling;
        assert_eq!((sampling.merge, sampling.odd_frame), (MergeSteps::All, OddFrame::KeepLast));
    }

    #[test]
    fn an_earlier_run_decides_what_is_left_open() {
        let given = ["a", "--steps", "9", "--coast", "4", "--size", "80x56", "--motion-score", "3"];
        let earlier = requested(&[&given[..], &["--seed", "6"]].concat(), 0);
        let go_on = |arguments: &[&str]| {
            let defaults = GenerationConfig::default();
            request(&parsed(arguments), 0, "a cat", Some(&earlier), &defaults).unwrap()
        };
        assert_eq!(go_on(&["a"]), earlier);
        let other = go_on(&["a", "--steps", "10", "--seed", "5"]);
        assert_eq!((other.sampling.steps, other.seed, other.width_px), (10, 5, 80));
        assert_eq!(other.sampling.coast, earlier.sampling.coast);
    }
}
