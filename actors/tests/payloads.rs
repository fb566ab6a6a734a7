//! What travels between stages survives the journey, and is refused when it is not what it says.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use sora_actors::messages::{JobEvent, JobId, Latent, PromptEmbedding, RgbFrame, VideoChunk};
use sora_actors::{PayloadError, StageError, StageFailure, StageName};
use sora_models::ModelError;

fn latent() -> Tensor {
    Tensor::arange(0f32, 48., &Device::Cpu).unwrap().reshape((1, 2, 3, 2, 4)).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_latent_keeps_its_bits_through_json_in_every_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let original = (latent() / 7.0).unwrap().to_dtype(dtype).unwrap();
        let payload = Latent::from_tensor(&original, 9).unwrap();
        let json = serde_json::to_string(&payload).unwrap();
        let received: Latent = serde_json::from_str(&json).unwrap();
        assert_eq!(received, payload);
        let tensor = received.to_tensor(dtype, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [1, 2, 3, 2, 4]);
        assert_eq!(bits(&tensor), bits(&original));
    }
}

#[test]
fn a_latent_that_is_not_what_it_says_is_refused() {
    let good = Latent::from_tensor(&latent(), 9).unwrap();
    let to_tensor = |latent: Latent| latent.to_tensor(DType::F32, &Device::Cpu).unwrap_err();
    let newer = to_tensor(Latent { format_version: 2, ..good.clone() });
    assert!(matches!(newer, PayloadError::Version { found: 2, supported: 1, .. }));
    let cut = to_tensor(Latent { values: good.values[1..].to_vec(), ..good.clone() });
    assert!(matches!(cut, PayloadError::Count { values: 47, .. }));
    let huge = to_tensor(Latent { shape: [usize::MAX, 2, 2, 2], ..good });
    assert!(matches!(huge, PayloadError::Count { .. }));
    let two = Tensor::zeros((2, 2, 3, 2, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(Latent::from_tensor(&two, 9), Err(PayloadError::Tensor { .. })));
}

#[test]
fn an_embedding_must_have_a_mask_and_ids_for_each_token() {
    let hidden = Tensor::ones((1, 3, 5), DType::F32, &Device::Cpu).unwrap();
    let embedding = PromptEmbedding::from_tensor(vec![5, 1, 0], vec![1, 1, 0], &hidden).unwrap();
    assert_eq!(embedding.tokens(), 2);
    let tensor = embedding.to_tensor(DType::F32, &Device::Cpu).unwrap();
    assert_eq!((tensor.dims(), bits(&tensor)), (&[1, 3, 5][..], vec![1.0; 15]));
    let mask = embedding.mask_tensor(&Device::Cpu).unwrap();
    assert_eq!(mask.to_vec2::<u8>().unwrap(), [[1, 1, 0]]);
    let short = PromptEmbedding::from_tensor(vec![5, 1, 0], vec![1, 1], &hidden);
    assert!(matches!(short, Err(PayloadError::Count { .. })));
}

#[test]
fn a_chunk_splits_its_frames() {
    let bytes: Vec<u8> = (0..36).collect();
    let frames = Tensor::from_vec(bytes, (2, 2, 3, 3), &Device::Cpu).unwrap();
    let chunk = VideoChunk::from_tensor(17, &frames).unwrap();
    assert_eq!((chunk.first_frame, chunk.width_px, chunk.height_px), (17, 3, 2));
    assert_eq!(chunk.frames[1], RgbFrame((18..36).collect()));
    let floats = frames.to_dtype(DType::F32).unwrap();
    assert!(matches!(VideoChunk::from_tensor(0, &floats), Err(PayloadError::Tensor { .. })));
    assert!(VideoChunk::new(0, 3, 2, vec![RgbFrame(vec![0; 17])]).is_err());
}

#[test]
fn events_are_lines_for_machines_without_pixels() {
    let chunk = VideoChunk::new(4, 1, 1, vec![RgbFrame(vec![1, 2, 3])]).unwrap();
    let json = serde_json::to_value(JobEvent::Chunk(chunk)).unwrap();
    let expected = serde_json::json!(
        {"event": "chunk", "first_frame": 4, "frames": 1, "width_px": 1, "height_px": 1}
    );
    assert_eq!(json, expected);

    let cause = Arc::new(StageFailure::Model(ModelError::bad_input("too small")));
    let error = StageError { stage: StageName::StditWorker(2), job: JobId(7), cause };
    assert_eq!(error.to_string(), "job 7 failed in stdit_worker_2: too small");
    let json = serde_json::to_value(JobEvent::Failed(Arc::new(error))).unwrap();
    let expected = serde_json::json!(
        {"event": "failed", "stage": "stdit_worker_2", "kind": "bad_input", "message": "too small"}
    );
    assert_eq!(json, expected);
    let json = serde_json::to_value(JobEvent::Cancelled).unwrap();
    assert_eq!(json, serde_json::json!({"event": "cancelled"}));
}
