//! Each network wants exactly the parameters of the official full-size model: nothing more, nothing of another shape.
//!
//! The expected digests were computed once from the state dicts of the reference modules.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use sora_models::bundle::PartName;
use sora_models::checkpoint_tools::Preset;
use sora_models::stdit3::{Stdit3, Stdit3Config};
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

fn official(part: PartName) -> (usize, usize, String) {
    summary(&Preset::OpenSoraV12.parameters(part).unwrap())
}

#[test]
fn t5_v1_1_xxl() {
    // The second name of the token embedding, `encoder.embed_tokens.weight`, is not counted.
    assert_eq!(
        official(PartName::T5),
        (
            219,
            4_762_310_656,
            "f292c889ac92e629f5ad287a351d5ecf7f43c71616eed9c01c095d1f5923a0fa".to_string(),
        )
    );
}

#[test]
fn stdit3_xl_2() {
    assert_eq!(
        official(PartName::Stdit3),
        (
            973,
            1_208_872_772,
            "94a4e656d4c0cfd161253cefa14702e78afd039aaa1c8df9d4ac7f91bbff1ef0".to_string(),
        )
    );
}

#[test]
fn query_and_key_norms_are_wanted_only_where_the_config_has_them() {
    let json = Preset::OpenSoraV12.config_json(PartName::Stdit3);
    let json = json.replace("\"qk_norm\": true", "\"qk_norm\": false");
    let config = Stdit3Config::from_json(&json, Path::new("config.json")).unwrap();
    let without = Stdit3::parameters(&config).unwrap();
    assert_eq!(without.len(), 973 - 2 * 56);
    assert!(!without.keys().any(|name| name.contains("_norm")));
}

#[test]
fn vae_v1_2() {
    assert_eq!(
        official(PartName::Vae),
        (
            517,
            393_341_015,
            "1e452fc370c0bec577d1639ddfc194b285f4da1e28b2c23321d0eb658a220aab".to_string(),
        )
    );
}

#[test]
fn decoding_wants_no_parameter_of_the_encoder() {
    let json = Preset::OpenSoraV12.config_json(PartName::Vae);
    let config = VaeConfig::from_json(json, Path::new("config.json")).unwrap();
    let decoder =
        ParameterRecorder::record(|weights| VideoVae::load(weights, &config).map(drop)).unwrap();
    let whole = VideoVae::parameters(&config).unwrap();
    let of_encoder = |name: &str| name.contains(".encoder.") || name.contains(".quant_conv.");
    let expected: Vec<_> = whole.keys().filter(|name| !of_encoder(name)).collect();
    assert_eq!(decoder.keys().collect::<Vec<_>>(), expected);
}
