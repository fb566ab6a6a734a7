//! Each network wants exactly the parameters of the official full-size model: nothing more, nothing of another shape.
//!
//! The expected digests were computed once from the state dicts of the reference modules.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use sora_models::stdit3::{Stdit3, Stdit3Config};
use sora_models::t5::{T5Config, T5Encoder};
use sora_models::vae::{VaeConfig, VideoVae};
use sora_models::weights::ParameterRecorder;

/// Number of tensors, their elements together, and the SHA-256 of the lines `name [axis, axis]` in the order of names.
fn summary(parameters: &BTreeMap<String, Vec<usize>>) -> (usize, usize, String) {
    let elements = parameters.values().map(|shape| shape.iter().product::<usize>()).sum();
    let mut digest = Sha256::new();
    for (name, shape) in parameters {
        digest.update(format!("{name} {shape:?}\n"));
    }
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    (parameters.len(), elements, digest)
}

fn config_file() -> &'static Path {
    Path::new("config.json")
}

#[test]
fn t5_v1_1_xxl() {
    let json = r#"{"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240,
        "num_layers": 24, "feed_forward_proj": "gated-gelu"}"#;
    let config = T5Config::from_json(json, config_file()).unwrap();
    // The second name of the token embedding, `encoder.embed_tokens.weight`, is not counted.
    assert_eq!(
        summary(&T5Encoder::parameters(&config).unwrap()),
        (
            219,
            4_762_310_656,
            "f292c889ac92e629f5ad287a351d5ecf7f43c71616eed9c01c095d1f5923a0fa".to_string(),
        )
    );
}

/// The `config.json` of `hpcai-tech/OpenSora-STDiT-v3`, as far as it is about the architecture.
const STDIT3_XL_2: &str = r#"{
    "model_type": "STDiT3", "in_channels": 4, "patch_size": [1, 2, 2], "hidden_size": 1152, "depth": 28,
    "num_heads": 16, "mlp_ratio": 4.0, "input_sq_size": 512, "caption_channels": 4096,
    "model_max_length": 300, "qk_norm": true, "pred_sigma": true
}"#;

fn stdit3_parameters(json: &str) -> BTreeMap<String, Vec<usize>> {
    Stdit3::parameters(&Stdit3Config::from_json(json, config_file()).unwrap()).unwrap()
}

#[test]
fn stdit3_xl_2() {
    assert_eq!(
        summary(&stdit3_parameters(STDIT3_XL_2)),
        (
            973,
            1_208_872_772,
            "94a4e656d4c0cfd161253cefa14702e78afd039aaa1c8df9d4ac7f91bbff1ef0".to_string(),
        )
    );
}

#[test]
fn query_and_key_norms_are_wanted_only_where_the_config_has_them() {
    let without =
        stdit3_parameters(&STDIT3_XL_2.replace("\"qk_norm\": true", "\"qk_norm\": false"));
    assert_eq!(without.len(), 973 - 2 * 56);
    assert!(!without.keys().any(|name| name.contains("_norm")));
}

/// The `config.json` of `hpcai-tech/OpenSora-VAE-v1.2`, as far as it is about the architecture.
const VAE_V1_2: &str = r#"{
    "model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17,
    "shift": [-0.1, 0.34, 0.27, 0.98], "scale": [3.85, 2.32, 2.33, 3.06],
    "vae_2d": {
        "type": "VideoAutoencoderKL", "micro_batch_size": 4, "subfolder": "vae",
        "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
    },
    "vae_temporal": { "type": "VAE_Temporal_SD", "from_pretrained": null }
}"#;

#[test]
fn vae_v1_2() {
    let config = VaeConfig::from_json(VAE_V1_2, config_file()).unwrap();
    assert_eq!(
        summary(&VideoVae::parameters(&config).unwrap()),
        (
            517,
            393_341_015,
            "1e452fc370c0bec577d1639ddfc194b285f4da1e28b2c23321d0eb658a220aab".to_string(),
        )
    );
}

#[test]
fn decoding_wants_no_parameter_of_the_encoder() {
    let config = VaeConfig::from_json(VAE_V1_2, config_file()).unwrap();
    let decoder =
        ParameterRecorder::record(|weights| VideoVae::load(weights, &config).map(drop)).unwrap();
    let whole = VideoVae::parameters(&config).unwrap();
    let of_encoder = |name: &str| name.contains(".encoder.") || name.contains(".quant_conv.");
    let expected: Vec<_> = whole.keys().filter(|name| !of_encoder(name)).collect();
    assert_eq!(decoder.keys().collect::<Vec<_>>(), expected);
}
