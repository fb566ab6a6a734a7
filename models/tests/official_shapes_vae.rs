//! The video autoencoder asks for exactly the parameters of the official model.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};
use sora_models::vae::{VaeConfig, VideoVae};
use sora_models::weights::{ParameterRecorder, Weights};

/// The published `config.json` of `hpcai-tech/OpenSora-VAE-v1.2`, as far as it is about the architecture.
const V1_2: &str = r#"{
    "model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17,
    "shift": [-0.1, 0.34, 0.27, 0.98], "scale": [3.85, 2.32, 2.33, 3.06],
    "vae_2d": {
        "type": "VideoAutoencoderKL", "micro_batch_size": 4, "subfolder": "vae",
        "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
    },
    "vae_temporal": { "type": "VAE_Temporal_SD", "from_pretrained": null }
}"#;

fn parameters(
    load: impl Fn(&Weights, &VaeConfig) -> sora_models::Result<VideoVae>,
) -> BTreeMap<String, Vec<usize>> {
    let config = VaeConfig::from_json(V1_2, Path::new("config.json")).unwrap();
    let recorder = Arc::new(ParameterRecorder::default());
    load(&Weights::new(recorder.clone(), DType::F32, &Device::Cpu), &config).unwrap();
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
fn the_whole_vae_wants_the_official_names_and_shapes() {
    let parameters = parameters(VideoVae::load_with_encoder);
    assert_eq!(parameters.len(), 517);
    let elements: usize = parameters.values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!(elements, 393_341_015);
    let expected = "1e452fc370c0bec577d1639ddfc194b285f4da1e28b2c23321d0eb658a220aab";
    assert_eq!(digest(&parameters), expected);
}

#[test]
fn decoding_wants_no_parameter_of_the_encoder() {
    let (decoder, whole) = (parameters(VideoVae::load), parameters(VideoVae::load_with_encoder));
    let of_encoder = |name: &str| name.contains(".encoder.") || name.contains(".quant_conv.");
    let expected: Vec<_> = whole.keys().filter(|name| !of_encoder(name)).collect();
    assert_eq!(decoder.keys().collect::<Vec<_>>(), expected);
}
