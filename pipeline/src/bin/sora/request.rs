//! From the command line and a model's defaults to requests.

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_models::sizes::{PictureSize, picture_size};
use sora_pipeline::request_settings::{RequestSettings, default_request};

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
    let seed = DEFAULT_SEED.wrapping_add(index);
    let fresh = || default_request(prompt, seed, defaults);
    let mut request = earlier.cloned().unwrap_or_else(fresh);
    request.prompt = prompt.to_string();
    let settings = RequestSettings {
        negative_prompt: arguments.negative_prompt.clone(),
        seed: arguments.seed.map(|first| first.wrapping_add(index)),
        steps: arguments.steps,
        cfg_scale: arguments.cfg_scale,
        lpl: arguments.lpl,
        coast: arguments.coast,
        tdtm: arguments.tdtm,
        size: picture(arguments)?,
        frames: arguments.frames,
        fps: arguments.fps,
        aesthetic_score: arguments.aesthetic_score,
        motion_score: arguments.motion_score,
        camera_motion: arguments.camera_motion.clone(),
    };
    settings.apply(&mut request);
    Ok(request)
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
    use sora_models::rflow::SamplingSettings;
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
    fn a_negative_prompt_is_every_videos_and_a_blank_one_is_none() {
        for index in [0, 1] {
            let request = requested(&["a", "--negative-prompt", "a blue square"], index);
            assert_eq!(request.negative_prompt.as_deref(), Some("a blue square"));
        }
        assert_eq!(requested(&["a", "--negative-prompt", " "], 0), requested(&["a"], 0));
    }

    #[test]
    fn an_earlier_run_decides_what_is_left_open() {
        let given = [
            "a",
            "--steps",
            "9",
            "--coast",
            "4",
            "--size",
            "80x56",
            "--motion-score",
            "3",
            "--negative-prompt",
            "b",
        ];
        let earlier = requested(&[&given[..], &["--seed", "6"]].concat(), 0);
        let go_on = |arguments: &[&str]| {
            let defaults = GenerationConfig::default();
            request(&parsed(arguments), 0, "a cat", Some(&earlier), &defaults).unwrap()
        };
        assert_eq!(go_on(&["a"]), earlier);
        assert_eq!(go_on(&["a", "--negative-prompt", ""]).negative_prompt, None);
        let other = go_on(&["a", "--steps", "10", "--seed", "5"]);
        assert_eq!((other.sampling.steps, other.seed, other.width_px), (10, 5, 80));
        assert_eq!(other.sampling.coast, earlier.sampling.coast);
    }
}
