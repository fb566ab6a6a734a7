//! The transformer asks for exactly the parameters of the official model.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};
use sora_models::stdit3::{Stdit3, Stdit3Config};
use sora_models::weights::{ParameterRecorder, Weights};

/// The published `config.json` of `hpcai-tech/OpenSora-STDiT-v3`, as far as it is about the architecture.
const XL_2: &str = r#"{
    "model_type": "STDiT3", "in_channels": 4, "patch_size": [1, 2, 2], "hidden_size": 1152, "depth": 28,
    "num_heads": 16, "mlp_ratio": 4.0, "input_sq_size": 512, "caption_channels": 4096,
    "model_max_length": 300, "qk_norm": true, "pred_sigma": true
}"#;

fn parameters(config: &str) -> BTreeMap<String, Vec<usize>> {
    let config = Stdit3Config::from_json(config, Path::new("config.json")).unwrap();
    let recorder = Arc::new(ParameterRecorder::default());
    Stdit3::load(&Weights::new(recorder.clone(), DType::F32, &Device::Cpu), &config).unwrap();
    recorder.parameters()
}

fn digest(parameters: &BTreeMap<String, Vec<usize>>) -> String {
    let mut lines = String::new();
    for (name, shape) in parameters {
        writeln!(lines, "{name} {shape:?}").unwrap();
    }
    let mut hex = String::new();
    for byte in Sha256::digest(lines) {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

#[test]
fn stdit3_wants_the_official_names_and_shapes() {
    let parameters = parameters(XL_2);
    assert_eq!(parameters.len(), 973);
    let elements: usize = parameters.values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!(elements, 1_208_872_772);
    let expected = "94a4e656d4c0cfd161253cefa14702e78afd039aaa1c8df9d4ac7f91bbff1ef0";
    assert_eq!(digest(&parameters), expected);
}

#[test]
fn query_and_key_norms_are_wanted_only_where_the_config_has_them() {
    let without = parameters(&XL_2.replace("\"qk_norm\": true", "\"qk_norm\": false"));
    assert_eq!(without.len(), 973 - 2 * 56);
    assert!(!without.keys().any(|name| name.contains("_norm")));
}
