//! From the command line and a model's defaults to requests.

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;
use sora_models::sizes::{PictureSize, picture_size};

use crate::arguments::GenerateArguments;

/// The shape that `--resolution` alone means: wide, as films are.
const DEFAULT_ASPECT: &str = "9:16";

/// One request for each prompt. What the command line leaves open, the model's own defaults decide; the seed rises by
/// one with every prompt, so that equal prompts give different videos.
///
/// # Errors
/// The resolution or the aspect ratio is not known.
pub fn requests(
    arguments: &GenerateArguments,
    prompts: Vec<String>,
    defaults: &GenerationConfig,
) -> anyhow::Result<Vec<GenerationRequest>> {
    let size = picture(arguments, defaults)?;
    let own = defaults.sampling();
    let sampling = SamplingSettings {
        steps: arguments.steps.unwrap_or(own.steps),
        guidance_scale: arguments.cfg_scale.unwrap_or(own.guidance_scale),
        leap: arguments.lpl,
        coast: arguments.coast,
        merge: arguments.tdtm.steps,
        odd_frame: arguments.tdtm.odd_frame,
        ..own
    };
    let scores = PromptScores {
        aesthetic: arguments.aesthetic_score.or(defaults.aesthetic_score.map(f64::from)),
        motion: arguments.motion_score,
        camera_motion: arguments.camera_motion.clone(),
    };
    let request = |(index, prompt)| GenerationRequest {
        prompt,
        seed: arguments.seed.wrapping_add(index),
        width_px: size.width_px,
        height_px: size.height_px,
        num_frames: arguments.frames.unwrap_or(defaults.num_frames),
        fps: arguments.fps.unwrap_or(f64::from(defaults.fps)),
        sampling: sampling.clone(),
        scores: scores.clone(),
    };
    Ok((0..).zip(prompts).map(request).collect())
}

fn picture(
    arguments: &GenerateArguments,
    defaults: &GenerationConfig,
) -> anyhow::Result<PictureSize> {
    if let Some(resolution) = &arguments.resolution {
        return Ok(picture_size(
            resolution,
            arguments.aspect.as_deref().unwrap_or(DEFAULT_ASPECT),
        )?);
    }
    let own = PictureSize { height_px: defaults.height, width_px: defaults.width };
    Ok(arguments.size.unwrap_or(own))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use sora_models::stdit3::{MergeSteps, OddFrame};

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn requested(arguments: &[&str]) -> Vec<GenerationRequest> {
        let all = ["sora", "generate"].iter().chain(arguments);
        let Command::Generate(arguments) = Arguments::try_parse_from(all).unwrap().command else {
            panic!("another command");
        };
        let prompts = arguments.prompts.clone();
        let defaults =
            GenerationConfig { width: 64, height: 48, fps: 8, ..GenerationConfig::default() };
        requests(&arguments, prompts, &defaults).unwrap()
    }

    #[test]
    fn the_model_decides_what_is_left_open() {
        let request = &requested(&["a cat"])[0];
        assert_eq!(
            (request.width_px, request.height_px, request.fps, request.seed),
            (64, 48, 8.0, 42)
        );
        assert_eq!(request.sampling, SamplingSettings::default());
        assert_eq!(request.scores.aesthetic, Some(6.5));
    }

    #[test]
    fn the_command_line_decides_the_rest() {
        let both = requested(&[
            "a",
            "b",
            "--resolution",
            "240p",
            "--seed",
            "7",
            "--steps",
            "5",
            "--frames",
            "2s",
        ]);
        assert_eq!((both[0].width_px, both[0].height_px, both[0].num_frames), (426, 240, 51));
        assert_eq!((both[0].seed, both[1].seed, both[1].sampling.steps), (7, 8, 5));
        assert_eq!(requested(&["a", "--size", "80x56"])[0].width_px, 80);
        let sampling = &requested(&["a", "--tdtm", "all,keep-last"])[0].sampling;
        assert_eq!((sampling.merge, sampling.odd_frame), (MergeSteps::All, OddFrame::KeepLast));
    }
}
