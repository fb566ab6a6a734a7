#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::*;
use crate::error::Result;
use crate::probe::NoProbe;
use crate::weights::{ParameterRecorder, SafetensorsFile, Weights};

/// A network of every kind of block, with weights that are all different: micro batches of 3 do not divide the
/// 17 frames of a chunk, so they cross its border.
fn small_vae() -> VideoVae {
    load_small(VideoVae::load_with_encoder)
}

fn load_small<T>(load: fn(&Weights, &VaeConfig) -> Result<T>) -> T {
    let config: VaeConfig = serde_json::from_value(json!({
        "vae_2d": {
            "block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 2, "micro_batch_size": 3
        },
        "vae_temporal": { "filters": 4, "num_res_blocks": 1, "num_groups": 2 }
    }))
    .unwrap();
    let recorder = Arc::new(ParameterRecorder::default());
    let weights = Weights::new(recorder.clone(), DType::F32, &Device::Cpu);
    VideoVae::load_with_encoder(&weights, &config).unwrap();
    let tensors: HashMap<String, Tensor> = recorder
        .parameters()
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| (name, values(&shape, index)))
        .collect();
    let bytes = safetensors::serialize(&tensors, None).unwrap();
    let source = SafetensorsFile::from_bytes("small", bytes).unwrap();
    load(&Weights::new(Arc::new(source), DType::F32, &Device::Cpu), &config).unwrap()
}

/// Different values in [-0.5, 0.5] for each seed, without a random generator.
fn values(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    let value = |i: usize| ((i + 1) as f32 * 0.7318 + seed as f32).sin() * 0.5;
    Tensor::from_vec((0..count).map(value).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn frames_that_are_streamed_are_those_of_the_whole() {
    let vae = small_vae();
    // Each pass is loaded by itself, as a graph does that has no memory for both.
    let (temporal, spatial) = (load_small(TemporalPass::load), load_small(SpatialPass::load));
    for (num_frames, expected) in
        [(1, vec![1]), (5, vec![3, 2]), (22, vec![3, 3, 3, 3, 3, 3, 3, 1])]
    {
        let latents = values(&[2, 4, vae.config().latent_frames(num_frames), 2, 3], 7);
        let whole = vae.decode(&latents, num_frames, &mut NoProbe).unwrap();
        assert_eq!(whole.dims(), [2, 3, num_frames, 4, 6]);
        let latents = temporal.frame_latents(&latents, num_frames, &mut NoProbe).unwrap();
        let mut stream = spatial.frames(latents);
        let next = || stream.next_frames(&mut NoProbe).unwrap();
        let pieces: Vec<_> = std::iter::from_fn(next).collect();
        let sizes: Vec<_> = pieces.iter().map(|piece| piece.dims()[2]).collect();
        assert_eq!(sizes, expected);
        assert_eq!(numbers(&Tensor::cat(&pieces, 2).unwrap()), numbers(&whole));
    }
}

#[test]
fn frames_do_not_depend_on_later_chunks() {
    let vae = small_vae();
    let latents = values(&[1, 4, 7, 2, 2], 3);
    let start = latents.narrow(2, 0, 5).unwrap();
    let other = Tensor::cat(&[&start, &values(&[1, 4, 2, 2, 2], 11)], 2).unwrap();
    let decode = |latents| vae.decode(latents, 22, &mut NoProbe).unwrap();
    let (video, other) = (decode(&latents), decode(&other));
    let first_chunk = |video: &Tensor| numbers(&video.narrow(2, 0, 17).unwrap());
    assert_eq!(first_chunk(&video), first_chunk(&other));
    assert_ne!(numbers(&video), numbers(&other));
}

#[test]
fn latents_of_another_length_are_refused() {
    let vae = small_vae();
    for (shape, num_frames) in [
        (vec![1, 4, 5, 2, 2], 22),
        (vec![1, 4, 0, 2, 2], 0),
        (vec![1, 3, 5, 2, 2], 17),
        (vec![1, 4, 5, 0, 2], 17),
        (vec![4, 5, 2, 2], 17),
    ] {
        let latents = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let error = vae.decode(&latents, num_frames, &mut NoProbe).unwrap_err().to_string();
        assert!(error.contains("expected [B, 4,"), "{error}");
    }
}

#[test]
fn encoding_gives_latents_that_decode_to_as_many_frames() {
    let vae = small_vae();
    let video = values(&[2, 3, 22, 4, 6], 5);
    let latents = vae.encode(&video, None, &mut NoProbe).unwrap();
    assert_eq!(latents.dims(), [2, 4, 7, 2, 3]);
    let second = vae.encode(&video.narrow(0, 1, 1).unwrap(), None, &mut NoProbe).unwrap();
    let difference = (latents.narrow(0, 1, 1).unwrap() - second).unwrap().abs().unwrap();
    assert!(numbers(&difference).into_iter().fold(0f32, f32::max) < 1e-5, "samples mix");
    assert_eq!(vae.decode(&latents, 22, &mut NoProbe).unwrap().dims(), video.dims());
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let vae = small_vae();
    for shape in [[1, 3, 5, 4, 5], [1, 3, 0, 4, 4], [1, 1, 5, 4, 4]] {
        let video = Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
        let error = vae.encode(&video, None, &mut NoProbe).unwrap_err().to_string();
        assert!(error.contains("multiples of 2"), "{error}");
    }
    let noise = PosteriorNoise { spatial: values(&[4, 4, 2, 2], 0), temporal: values(&[1], 0) };
    let error = vae.encode(&values(&[1, 3, 5, 4, 4], 0), Some(&noise), &mut NoProbe).unwrap_err();
    assert!(error.to_string().contains("expected [5, 4, 2, 2]"), "{error}");
    let decoder = load_small(VideoVae::load);
    let error = decoder.encode(&values(&[1, 3, 5, 4, 4], 0), None, &mut NoProbe);
    assert!(error.unwrap_err().to_string().contains("without its encoder"));
}
