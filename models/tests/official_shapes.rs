//! Each network wants exactly the parameters of the official full-size model: nothing more, nothing of another shape.
//!
//! The expected digests were computed once from the state dicts of the reference modules.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use sora_models::t5::{T5Config, T5Encoder};

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

#[test]
fn t5_v1_1_xxl() {
    let json = r#"{"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240,
        "num_layers": 24, "feed_forward_proj": "gated-gelu"}"#;
    let config = T5Config::from_json(json, Path::new("config.json")).unwrap();
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
