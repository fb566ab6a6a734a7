#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::weights::{Checkpoint, SafetensorsFile};

const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]}}"#;

fn t5() -> Value {
    json!({ "vocab_size": 8, "d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 1,
        "feed_forward_proj": "gated-gelu" })
}

fn stdit3() -> Value {
    json!({ "in_channels": 4, "patch_size": [1, 2, 2], "hidden_size": 8, "depth": 1, "num_heads": 2,
        "mlp_ratio": 4.0, "input_sq_size": 512, "caption_channels": 8, "model_max_length": 6,
        "qk_norm": true, "pred_sigma": true })
}

/// How a model of these files, without any weights, is refused. The weights are looked at last.
fn refused(tokenizer: &str, configs: [Value; 3]) -> String {
    let parts = ["t5", "stdit3", "vae"].into_iter().zip(configs).map(|(folder, config)| {
        let no_tensors = b"\x02\0\0\0\0\0\0\0{}".as_slice();
        let file = SafetensorsFile::from_bytes(folder, no_tensors).unwrap();
        BundlePart {
            config_json: config.to_string(),
            config_file: PathBuf::from(folder).join("config.json"),
            source: Arc::new(Checkpoint::from_source(Box::new(file)).unwrap()),
        }
    });
    let parts: [BundlePart; 3] = parts.collect::<Vec<_>>().try_into().ok().unwrap();
    let generation = GenerationConfig::default();
    let bundle = ModelBundle::new(PathBuf::new(), generation, tokenizer.into(), parts);
    bundle.err().expect("there are no weights").to_string()
}

#[test]
fn what_fits_together_gets_as_far_as_the_weights() {
    let error = refused(TOKENIZER, [t5(), stdit3(), json!({})]);
    assert!(error.contains("tensors are missing"), "{error}");
}

#[test]
fn an_autoencoder_of_another_layout_is_refused_at_once() {
    let with = |field: &str, value: Value| json!({ field: value });
    for (vae, told) in [
        (with("vae_2d", json!({ "block_out_channels": [32, 32, 32] })), "pixels a latent value: 4"),
        (with("micro_frame_size", json!(16)), "micro_frame_size: 16"),
        (
            with("vae_temporal", json!({ "temporal_downsample": [false, false, true] })),
            "frames a latent frame: 2",
        ),
        (with("vae_2d", json!({ "out_channels": 1 })), "out_channels: 1"),
    ] {
        let error = refused(TOKENIZER, [t5(), stdit3(), vae]);
        assert!(error.contains(told) && error.contains("vae/config.json"), "{error}");
    }
}

#[test]
fn networks_of_different_models_are_refused() {
    let mut other = stdit3();
    other["caption_channels"] = json!(16);
    let error = refused(TOKENIZER, [t5(), other, json!({})]);
    assert!(error.contains("caption_channels is 16"), "{error}");
}

#[test]
fn a_tokenizer_that_cannot_be_used_is_refused_at_once() {
    let error = refused("{}", [t5(), stdit3(), json!({})]);
    assert!(error.contains("tokenizer.json: not a tokenizer"), "{error}");
    let mut small = t5();
    small["vocab_size"] = json!(2);
    let error = refused(TOKENIZER, [small, stdit3(), json!({})]);
    assert!(error.contains("token id 2"), "{error}");
}
