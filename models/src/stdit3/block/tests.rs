//! The fused path against the plain one, for both kinds of blocks, merged and not.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::*;
use crate::probe::NoProbe;
use crate::stdit3::{OddFrame, PromptInput, Stdit3, StepInput, TemporalTokenMerge};
use crate::weights::SafetensorsFile;

const ROWS: usize = 2;

fn config() -> Stdit3Config {
    let json = r#"{"depth": 2, "hidden_size": 48, "num_heads": 4, "mlp_ratio": 4.0, "caption_channels": 12,
        "model_max_length": 9, "patch_size": [1, 2, 2], "in_channels": 4, "input_sq_size": 64, "qk_norm": true,
        "pred_sigma": true}"#;
    Stdit3Config::from_json(json, "config.json".as_ref()).unwrap()
}

fn model(config: &Stdit3Config) -> Stdit3 {
    let device = Device::Cpu;
    let tensors: HashMap<_, _> = Stdit3::parameters(config)
        .unwrap()
        .into_iter()
        .map(|(name, shape)| (name, Tensor::randn(0f32, 0.15, shape, &device).unwrap()))
        .collect();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let file = SafetensorsFile::from_bytes("(test)", bytes).unwrap();
    Stdit3::load(&Weights::new(Arc::new(file), DType::F32, &device), config).unwrap()
}

/// Tokens and context of a step whose first frame may be given.
fn begin(
    model: &Stdit3,
    frames: usize,
    merge: Option<OddFrame>,
    first_is_given: bool,
) -> (Tensor, StepContext) {
    let device = Device::Cpu;
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &device).unwrap();
    let mask = Tensor::new(&[[1i64, 1, 1, 0, 0], [1, 1, 1, 1, 1]], &device).unwrap();
    let prompt = PromptInput {
        text: &random(&[ROWS, 5, 12]),
        text_mask: &mask,
        frames_per_second: &[24.0],
        picture_px: (48.0, 64.0),
        latent_size: [frames, 6, 8],
    };
    let prompt = model.ends().prepare(&prompt, &mut NoProbe).unwrap();
    let given: Vec<u8> = (0..ROWS * frames).map(|i| u8::from(i % frames != 0)).collect();
    let given = Tensor::from_vec(given, (ROWS, frames), &device).unwrap();
    let step = StepInput {
        latent: &random(&[ROWS, 4, frames, 6, 8]),
        timesteps: &[700.0, 700.0],
        frame_mask: first_is_given.then_some(&given),
        merge: merge.map(|odd_frame| TemporalTokenMerge { odd_frame }),
    };
    model.ends().begin(&prompt, &step, &mut NoProbe).unwrap()
}

#[test]
fn fused_blocks_give_what_plain_ones_give() {
    let config = config();
    let model = model(&config);
    for merge in [None, Some(OddFrame::DropLast), Some(OddFrame::KeepLast)] {
        for (frames, first_is_given) in [(1, false), (4, false), (5, true), (7, false)] {
            let (tokens, step) = begin(&model, frames, merge, first_is_given);
            for block in &model.blocks {
                assert!(FusedBlock::new(block, &tokens, &step).unwrap().is_some());
                let fused = block.forward(&tokens, &step, &mut NoProbe).unwrap();
                let plain = block.forward_plainly(&tokens, &step, &mut NoProbe).unwrap();
                assert_eq!(fused.dims(), plain.dims());
                let off = (&fused - &plain).unwrap().abs().unwrap().max_all().unwrap();
                let off = off.to_scalar::<f32>().unwrap();
                assert!(off < 2e-5, "{frames} frames, {merge:?}, {:?}: {off}", block.axis);
                let changed = (&fused - &tokens).unwrap().abs().unwrap().max_all().unwrap();
                assert!(changed.to_scalar::<f32>().unwrap() > 0.01, "the block does nothing");
            }
        }
    }
}

#[test]
fn tokens_of_another_step_are_an_error() {
    let config = config();
    let model = model(&config);
    let (tokens, _) = begin(&model, 4, None, false);
    let (_, step) = begin(&model, 5, None, false);
    let narrow = begin(&model, 5, None, false).0.narrow(2, 0, 40).unwrap();
    for tokens in [tokens, narrow] {
        let refused = model.blocks[0].forward(&tokens, &step, &mut NoProbe).err().unwrap();
        assert!(refused.to_string().contains("not those of the step"), "{refused}");
    }
}
