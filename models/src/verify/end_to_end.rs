//! Cases of kind `e2e`: from a prompt (or its recorded tokens) to frames.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::case::Case;
use super::compare::Comparison;
use super::sampling::{self, Recording, RunParams};
use super::text::encoder_config;
use crate::error::Result;
use crate::generation::{PlainInput, PlainPath, PlainText, VideoSettings};
use crate::guiding_texts::GuidingTexts;
use crate::probe::NoProbe;
use crate::prompt_notation::PromptScores;
use crate::stdit3::{Stdit3, Stdit3Config};
use crate::t5::{CaptionCleaning, PromptTokenizer, T5Config, T5Encoder, TokenBatch};
use crate::vae::{VideoVae, to_rgb8};

#[derive(Deserialize)]
struct Params {
    prompt: String,
    aes: Option<f64>,
    flow: Option<f64>,
    camera_motion: Option<String>,
    text_with_scores: String,
    cleaned: String,
    model_max_length: usize,
    /// Absent where the case may not carry the tokenizer; the recorded token ids are the input then.
    tokenizer: Option<PathBuf>,
}

pub(super) fn run(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let params: Params = case.part("/params")?;
    let run: RunParams = case.part("/params")?;
    let config = encoder_config(case, "/config/t5")?;
    let (ids, mask) = tokens(case, &params, &config, comparison)?;

    let transformer_config: serde_json::Value = case.part("/config/stdit3")?;
    let file = case.dir.join("case.json");
    let transformer_config = Stdit3Config::from_json(&transformer_config.to_string(), &file)?;
    let path = PlainPath {
        text_encoder: &T5Encoder::new(case.weights(Some("t5"), device)?, config),
        transformer: &Stdit3::load(&case.weights(Some("stdit3"), device)?, &transformer_config)?,
        vae: &VideoVae::load(&case.weights(Some("vae"), device)?, &case.part("/config/vae")?)?,
    };
    let settings = VideoSettings {
        size: run.size(),
        frames_per_second: f64::from(run.fps),
        sampling: run.settings(case)?,
    };
    let input = PlainInput {
        texts: GuidingTexts::alone(PlainText { tokens: TokenBatch::padded(&ids, &mask)?, mask }),
        noise: &case.tensor("z", device)?,
        settings,
    };
    let output = path.generate(&input, &mut NoProbe)?;

    comparison.check("text_embedding", &output.text_embedding);
    let recorded: Vec<f32> = case.tensor("timesteps", &Device::Cpu)?.to_vec1()?;
    sampling::check_timesteps(comparison, &output.timesteps, &recorded);
    let mut recording = Recording::default();
    for step in &output.steps {
        recording.add_outcome(step);
    }
    recording.compare(&run, comparison)?;
    comparison.check("z_final", &output.latent);
    comparison.check("video", &output.video);
    comparison.check("frames", &to_rgb8(&output.video.squeeze(0)?)?);
    Ok(())
}

/// Token ids and mask, `[1, L]` each: through scores, cleaning and the tokenizer where the case has one.
fn tokens(
    case: &Case,
    params: &Params,
    config: &T5Config,
    comparison: &mut Comparison,
) -> Result<(Tensor, Tensor)> {
    let scores = PromptScores {
        aesthetic: params.aes,
        motion: params.flow,
        camera_motion: params.camera_motion.clone(),
    };
    let scored = scores.append_to(&params.prompt);
    let cleaned = CaptionCleaning::OpenSora.apply(&scored)?;
    for (name, actual, expected) in [
        ("text_with_scores", &scored, &params.text_with_scores),
        ("cleaned", &cleaned, &params.cleaned),
    ] {
        comparison
            .check_that(name, actual == expected, || format!("{actual:?} instead of {expected:?}"));
    }
    let Some(tokenizer) = &params.tokenizer else {
        return Ok((
            case.tensor("input_ids", &Device::Cpu)?,
            case.tensor("attention_mask", &Device::Cpu)?,
        ));
    };
    let file = case.dir.join(tokenizer);
    let tokenizer = PromptTokenizer::open(&file, config, params.model_max_length)?;
    let (ids, mask) = tokenizer.tokenize(&cleaned)?.padded();
    let row = |values: Vec<u32>| -> Result<Tensor> {
        Ok(Tensor::new(vec![values], &Device::Cpu)?.to_dtype(DType::I64)?)
    };
    let (ids, mask) = (row(ids)?, row(mask)?);
    comparison.check("input_ids", &ids);
    comparison.check("attention_mask", &mask);
    Ok((ids, mask))
}
