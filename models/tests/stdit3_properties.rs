//! What must hold for an STDiT3 of any weights.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use sora_models::error::{ErrorKind, Result};
use sora_models::probe::NoProbe;
use sora_models::rflow::standard_normal;
use sora_models::stdit3::{
    OddFrame, PromptContext, PromptInput, Stdit3, Stdit3Block, Stdit3Config, Stdit3Ends, StepInput,
    TemporalTokenMerge, TextFeatures,
};
use sora_models::weights::{TensorInfo, TensorSource, Weights};

/// Random weights that follow from the tensors' names.
struct NamedNoise;

impl TensorSource for NamedNoise {
    fn location(&self) -> &Path {
        Path::new("(noise)")
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn info(&self, _name: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let seed = name.bytes().fold(0u64, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        Ok((standard_normal(seed, 0, shape.dims(), device)? * 0.3)?.to_dtype(dtype)?)
    }
}

const TEXT_TOKENS: usize = 6;
const LATENT: [usize; 3] = [5, 3, 4];

fn config() -> Stdit3Config {
    let text = r#"{"in_channels": 2, "patch_size": [1, 2, 2], "hidden_size": 16, "depth": 2, "num_heads": 2,
        "mlp_ratio": 2.0, "input_sq_size": 64, "caption_channels": 8, "model_max_length": 6,
        "qk_norm": true, "pred_sigma": true}"#;
    Stdit3Config::from_json(text, Path::new("config.json")).unwrap()
}

fn weights() -> Weights {
    Weights::new(Arc::new(NamedNoise), DType::F32, &Device::Cpu)
}

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    standard_normal(seed, 0, shape, &Device::Cpu).unwrap()
}

/// A mask that keeps the first tokens of each row.
fn mask(kept: &[usize]) -> Tensor {
    let flags = kept.iter().flat_map(|&kept| (0..TEXT_TOKENS).map(move |i| i64::from(i < kept)));
    let flags: Vec<i64> = flags.collect();
    Tensor::from_vec(flags, (kept.len(), TEXT_TOKENS), &Device::Cpu).unwrap()
}

fn prepare(
    ends: &Stdit3Ends,
    text: &Tensor,
    kept: &[usize],
    latent_size: [usize; 3],
) -> Result<PromptContext> {
    let input = PromptInput {
        text,
        text_mask: &mask(kept),
        frames_per_second: &[24.0],
        picture_px: (24.0, 32.0),
        latent_size,
    };
    ends.prepare(&input, &mut NoProbe)
}

/// One evaluation of two rows of random latents and texts.
fn evaluate(
    model: &Stdit3,
    latent_size: [usize; 3],
    frame_mask: Option<&Tensor>,
    merge: Option<TemporalTokenMerge>,
) -> Vec<f32> {
    let prompt = prepare(model.ends(), &noise(1, &[2, TEXT_TOKENS, 8]), &[4], latent_size).unwrap();
    let [frames, height, width] = latent_size;
    let latent = &noise(2, &[2, 2, frames, height, width]);
    let input = StepInput { latent, timesteps: &[700.0; 2], frame_mask, merge };
    let output = model.forward(&prompt, &input, &mut NoProbe).unwrap();
    assert_eq!(output.dims(), [2, 4, frames, height, width]);
    output.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn blocks_loaded_one_by_one_give_the_same_bits() {
    let (config, weights) = (config(), weights());
    let model = Stdit3::load(&weights, &config).unwrap();
    let resident = evaluate(&model, LATENT, None, Some(TemporalTokenMerge::default()));

    let ends = Stdit3Ends::load(&weights, &config).unwrap();
    let prompt = prepare(&ends, &noise(1, &[2, TEXT_TOKENS, 8]), &[4], LATENT).unwrap();
    let input = StepInput {
        latent: &noise(2, &[2, 2, 5, 3, 4]),
        timesteps: &[700.0; 2],
        frame_mask: None,
        merge: Some(TemporalTokenMerge::default()),
    };
    let (mut tokens, step) = ends.begin(&prompt, &input, &mut NoProbe).unwrap();
    for index in 0..config.blocks() {
        let block = Stdit3Block::load(&weights, &config, index).unwrap();
        tokens = block.forward(&tokens, &step, &mut NoProbe).unwrap();
    }
    let streamed = ends.finish(&tokens, &step, &mut NoProbe).unwrap();
    assert_eq!(streamed.flatten_all().unwrap().to_vec1::<f32>().unwrap(), resident);
}

#[test]
fn merging_changes_videos_and_leaves_pictures_alone() {
    let model = Stdit3::load(&weights(), &config()).unwrap();
    let merge = |odd_frame| Some(TemporalTokenMerge { odd_frame });
    let (drop, keep) = (merge(OddFrame::DropLast), merge(OddFrame::KeepLast));
    let run = |frames, merge| evaluate(&model, [frames, 3, 4], None, merge);
    assert_eq!(run(1, drop), run(1, None));
    assert_ne!(run(4, drop), run(4, None));
    assert_eq!(run(4, drop), run(4, keep), "the rules differ for odd numbers of frames only");
    assert_ne!(run(5, drop), run(5, keep));
}

#[test]
fn a_frame_mask_of_ones_changes_nothing() {
    let model = Stdit3::load(&weights(), &config()).unwrap();
    let ones = Tensor::ones((2, 5), DType::U8, &Device::Cpu).unwrap();
    let zeros = Tensor::zeros((2, 5), DType::U8, &Device::Cpu).unwrap();
    let plain = evaluate(&model, LATENT, None, None);
    assert_eq!(evaluate(&model, LATENT, Some(&ones), None), plain);
    assert_ne!(evaluate(&model, LATENT, Some(&zeros), None), plain);
}

#[test]
fn narrow_dtypes_compute_the_same_to_their_accuracy() {
    let mask = Tensor::new(&[[0u8, 1, 1, 1, 1]; 2], &Device::Cpu).unwrap();
    let run = |dtype| {
        let model = Stdit3::load(&weights().with_dtype(dtype), &config()).unwrap();
        evaluate(&model, LATENT, Some(&mask), Some(TemporalTokenMerge::default()))
    };
    let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let exact = run(DType::F32);
    for (dtype, accuracy) in [(DType::F16, 0.01), (DType::BF16, 0.08)] {
        let difference: Vec<f32> = run(dtype).iter().zip(&exact).map(|(a, b)| a - b).collect();
        let relative = norm(&difference) / norm(&exact);
        assert!(relative > 0.0 && relative < accuracy, "{dtype:?} is off by {relative}");
    }
}

#[test]
fn text_behind_the_mask_does_not_matter() {
    let ends = Stdit3Ends::load(&weights(), &config()).unwrap();
    let model = Stdit3::load(&weights(), &config()).unwrap();
    let text = noise(1, &[1, TEXT_TOKENS, 8]);
    let kept = text.narrow(1, 0, 3).unwrap();
    let other = Tensor::cat(&[&kept, &noise(9, &[1, 3, 8])], 1).unwrap();
    let run = |text: &Tensor, kept: usize| {
        let text = ends.with_null_captions(text).unwrap();
        let prompt = prepare(&ends, &text, &[kept], LATENT).unwrap();
        let input = StepInput {
            latent: &noise(2, &[2, 2, 5, 3, 4]),
            timesteps: &[700.0; 2],
            frame_mask: None,
            merge: None,
        };
        let output = model.forward(&prompt, &input, &mut NoProbe).unwrap();
        output.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(run(&text, 3), run(&other, 3));
    assert_ne!(run(&text, 4), run(&other, 4));
}

fn features(seed: u64, length: usize) -> TextFeatures {
    let mask = Tensor::ones((1, length), DType::U8, &Device::Cpu).unwrap();
    TextFeatures { values: noise(seed, &[1, length, 8]), mask }
}

/// The output's two rows, from two rows of the same latent.
fn rows_of(model: &Stdit3, text: &Tensor, mask: &Tensor) -> [Vec<f32>; 2] {
    let input = PromptInput {
        text,
        text_mask: mask,
        frames_per_second: &[24.0],
        picture_px: (24.0, 32.0),
        latent_size: LATENT,
    };
    let prompt = model.ends().prepare(&input, &mut NoProbe).unwrap();
    let latent = noise(2, &[1, 2, 5, 3, 4]);
    let input = StepInput {
        latent: &Tensor::cat(&[&latent, &latent], 0).unwrap(),
        timesteps: &[700.0; 2],
        frame_mask: None,
        merge: Some(TemporalTokenMerge::default()),
    };
    let output = model.forward(&prompt, &input, &mut NoProbe).unwrap();
    [0, 1].map(|row| output.get(row).unwrap().flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn texts_of_different_lengths_in_a_pair_do_not_see_each_other() {
    // The fused path, and the plain one.
    for dtype in [DType::F32, DType::BF16] {
        let model = Stdit3::load(&weights().with_dtype(dtype), &config()).unwrap();
        let run = |prompt: &TextFeatures, negative: &TextFeatures| {
            let (text, mask) = model.ends().with_negative_captions(prompt, negative).unwrap();
            rows_of(&model, &text, &mask)
        };
        let (long, short) = (features(1, 6), features(3, 2));
        let [with_long, with_short] = run(&long, &short);
        assert_ne!(with_long, with_short);
        assert_eq!(run(&short, &long), [with_short.clone(), with_long.clone()]);
        assert_eq!(run(&long, &long), [with_long.clone(), with_long.clone()]);
        assert_eq!(run(&short, &short), [with_short.clone(), with_short]);
    }
}

#[test]
fn the_null_caption_as_a_negative_prompt_changes_nothing() {
    let model = Stdit3::load(&weights(), &config()).unwrap();
    let prompt = features(1, 4);
    let text = model.ends().with_null_captions(&prompt.values).unwrap();
    let null = TextFeatures { values: text.narrow(0, 1, 1).unwrap(), mask: prompt.mask.clone() };
    let expected = rows_of(&model, &text, &prompt.mask);
    let (text, mask) = model.ends().with_negative_captions(&prompt, &null).unwrap();
    assert_eq!(rows_of(&model, &text, &mask), expected);
}

#[test]
fn negative_prompts_that_do_not_fit_are_refused() {
    let ends = Stdit3Ends::load(&weights(), &config()).unwrap();
    let two = TextFeatures { values: noise(1, &[2, 4, 8]), mask: mask(&[4, 4]) };
    let masked_wrongly = TextFeatures { mask: mask(&[4]), ..features(1, 4) };
    let wide = TextFeatures { values: noise(1, &[1, 4, 9]), ..features(1, 4) };
    for negative in [two, masked_wrongly, wide, features(1, TEXT_TOKENS + 1)] {
        let error = ends.with_negative_captions(&features(1, 4), &negative).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let ends = Stdit3Ends::load(&weights(), &config()).unwrap();
    let text = noise(1, &[2, TEXT_TOKENS, 8]);
    let refused = |result: Result<PromptContext>| {
        let error = result.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
    };
    refused(prepare(&ends, &noise(1, &[2, TEXT_TOKENS, 9]), &[4], LATENT));
    refused(prepare(&ends, &noise(1, &[2, TEXT_TOKENS + 1, 8]), &[4], LATENT));
    refused(prepare(&ends, &text, &[4, 4, 4], LATENT));
    refused(prepare(&ends, &text, &[0], LATENT));
    refused(prepare(&ends, &text, &[4], [5, 0, 4]));

    let prompt = prepare(&ends, &text, &[4], LATENT).unwrap();
    let begin = |shape: &[usize], timesteps: &[f32], frame_mask: Option<&Tensor>| {
        let input = StepInput { latent: &noise(2, shape), timesteps, frame_mask, merge: None };
        let error = ends.begin(&prompt, &input, &mut NoProbe).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
    };
    begin(&[2, 2, 4, 3, 4], &[1.0; 2], None);
    begin(&[2, 2, 5, 3, 4], &[1.0], None);
    begin(&[2, 2, 5, 3, 4], &[1.0; 2], Some(&mask(&[1, 1])));
}
