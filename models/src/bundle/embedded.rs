//! The model that is part of the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BundlePart, GenerationConfig, ModelBundle};
use crate::error::Result;
use crate::weights::{Checkpoint, SafetensorsFile};

/// Stands in for the folder in errors.
const LOCATION: &str = "(embedded model)";

/// A file of the embedded model.
macro_rules! file {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/weights/", $path))
    };
}

/// A text file of the embedded model.
macro_rules! text {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/weights/", $path))
    };
}

/// Prompts that the embedded model was not trained on, with what each one names, as lines of JSON.
pub const EMBEDDED_PROMPTS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/prompts.jsonl"));

impl ModelBundle {
    /// The model that is compiled into the program, by the same checks as one on disk.
    ///
    /// # Errors
    /// As [`ModelBundle::open`]; none in a program that passed its tests.
    pub fn embedded() -> Result<Self> {
        let location = PathBuf::from(LOCATION);
        let generation = GenerationConfig::from_json(
            text!("generation_config.json"),
            &location.join("generation_config.json"),
        )?;
        let tokenizer = text!("t5/tokenizer.json").to_string();
        let t5 = part(&location, "t5", text!("t5/config.json"), file!("t5/model.safetensors"))?;
        let stdit3 = part(
            &location,
            "stdit3",
            text!("stdit3/config.json"),
            file!("stdit3/model.safetensors"),
        )?;
        let vae = part(&location, "vae", text!("vae/config.json"), file!("vae/model.safetensors"))?;
        Self::new(location, generation, tokenizer, [t5, stdit3, vae])
    }
}

fn part(
    location: &Path,
    folder: &str,
    config_json: &str,
    weights: &'static [u8],
) -> Result<BundlePart> {
    let folder = location.join(folder);
    let label = folder.join("model.safetensors").to_string_lossy().into_owned();
    let file = SafetensorsFile::from_bytes(&label, weights)?;
    Ok(BundlePart {
        config_json: config_json.to_string(),
        config_file: folder.join("config.json"),
        source: Arc::new(Checkpoint::from_source(Box::new(file))?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};

    use super::*;
    use crate::probe::NoProbe;
    use crate::t5::{CaptionCleaning, TokenBatch};

    #[test]
    fn a_prompt_becomes_an_embedding() {
        let bundle = ModelBundle::embedded().unwrap();
        let tokenizer = bundle.tokenizer(40).unwrap();
        let text = CaptionCleaning::OpenSora.apply("A red circle moves left to right").unwrap();
        let prompt = tokenizer.tokenize(&text).unwrap();
        assert!(prompt.ids.len() > 2 && prompt.cut.is_none(), "{prompt:?}");
        let encoder = bundle.text_encoder(DType::F32, &Device::Cpu);
        let embedding = encoder.encode(&[TokenBatch::unpadded(&prompt.ids)], &mut NoProbe).unwrap();
        assert_eq!(embedding[0].dims(), [1, prompt.ids.len(), encoder.config().d_model]);
        assert_eq!(bundle.fingerprint().unwrap().len(), 64);
    }

    #[test]
    fn a_prompt_that_is_too_long_says_what_was_cut() {
        let tokenizer = ModelBundle::embedded().unwrap().tokenizer(5).unwrap();
        let prompt = tokenizer.tokenize("a red circle moves left to right slowly").unwrap();
        assert_eq!(prompt.ids.len(), 5);
        assert!(prompt.cut.unwrap().ends_with("slowly"));
    }

    #[test]
    fn the_weights_are_those_that_the_training_program_logged() {
        use sha2::{Digest, Sha256};

        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let log = std::fs::read_to_string(folder.join("logs/weights.sha256")).unwrap();
        for line in log.lines() {
            let (hash, file) = line.split_once("  ").unwrap();
            let content = std::fs::read(folder.join("weights").join(file)).unwrap();
            let digest = Sha256::digest(content);
            let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hash, "{file} is not what the program wrote");
        }
        for part in ["t5/model.safetensors", "stdit3/model.safetensors", "vae/model.safetensors"] {
            assert!(log.contains(part), "{part} is not in the log");
        }
    }

    #[test]
    fn the_same_model_on_disk_has_the_same_fingerprint() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/weights");
        let on_disk = ModelBundle::open(&folder).unwrap();
        let embedded = ModelBundle::embedded().unwrap();
        assert_eq!(on_disk.fingerprint().unwrap(), embedded.fingerprint().unwrap());
    }
}
