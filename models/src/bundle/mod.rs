//! A whole model: text encoder, diffusion transformer, autoencoder, tokenizer and defaults.
//!
//! A model is a folder with `t5`, `stdit3` and `vae`, each with a `config.json` and weights in a published form, with
//! the tokenizer in `t5/tokenizer.json` and, if the model has defaults of its own, a `generation_config.json`.

#[cfg(feature = "embedded-model")]
mod embedded;
mod fingerprint;
mod generation;
mod part;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use self::fingerprint::Fingerprint;
use self::part::read_text;
use crate::error::{ModelError, Result};
use crate::sizes::{CHUNK_FRAMES, SPATIAL_FACTOR, TEMPORAL_FACTOR};
use crate::stdit3::{Stdit3, Stdit3Config};
use crate::t5::{PromptTokenizer, T5Config, T5Encoder};
use crate::vae::{VaeConfig, VideoVae};
use crate::weights::names::{STDIT3_IGNORABLE, T5_IGNORABLE};
use crate::weights::{LoadGroup, validate};

#[cfg(feature = "embedded-model")]
pub use embedded::EMBEDDED_PROMPTS;
pub use generation::GenerationConfig;
pub use part::{BundlePart, PartName};

/// Channels of a frame: red, green and blue.
const FRAME_CHANNELS: usize = 3;

/// A model whose configs and headers are read; its weights are not.
pub struct ModelBundle {
    location: PathBuf,
    generation: GenerationConfig,
    t5_config: T5Config,
    stdit3_config: Stdit3Config,
    vae_config: VaeConfig,
    tokenizer_json: String,
    tokenizer: PromptTokenizer,
    t5: BundlePart,
    stdit3: BundlePart,
    vae: BundlePart,
}

impl ModelBundle {
    /// Opens a model folder. Reads configs, the tokenizer and headers, and checks each network against its config
    /// and the networks against each other.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not fit another; the error names it.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let hint = "a model is a folder with t5, stdit3 and vae".to_string();
            return Err(ModelError::MissingFile { file: folder.to_path_buf(), hint });
        }
        let generation_file = folder.join("generation_config.json");
        let generation = match generation_file.exists() {
            true => {
                let json = read_text(&generation_file, "it holds the model's defaults")?;
                GenerationConfig::from_json(&json, &generation_file)?
            }
            false => GenerationConfig::default(),
        };
        let tokenizer_file = folder.join("t5/tokenizer.json");
        let tokenizer = read_text(&tokenizer_file, "the text encoder's tokenizer belongs there")?;
        let [t5, stdit3, vae] =
            PartName::ALL.map(|name| BundlePart::open(&folder.join(name.folder())));
        Self::new(folder.to_path_buf(), generation, tokenizer, [t5?, stdit3?, vae?])
    }

    fn new(
        location: PathBuf,
        generation: GenerationConfig,
        tokenizer_json: String,
        [t5, stdit3, vae]: [BundlePart; 3],
    ) -> Result<Self> {
        let t5_config = T5Config::from_json(&t5.config_json, &t5.config_file)?;
        let stdit3_config = Stdit3Config::from_json(&stdit3.config_json, &stdit3.config_file)?;
        let vae_config = VaeConfig::from_json(&vae.config_json, &vae.config_file)?;
        let pairs = [
            ("caption_channels", stdit3_config.caption_channels, "d_model", t5_config.d_model, &t5),
            (
                "in_channels",
                stdit3_config.in_channels,
                "latent channels",
                vae_config.latent_channels(),
                &vae,
            ),
        ];
        for (field, wanted, other, found, part) in pairs {
            if wanted != found {
                let other_file = part.config_file.display();
                let reason = format!(
                    "{field} is {wanted}, but {other} of {other_file} is {found}: \
                     the two networks belong to different models"
                );
                return Err(ModelError::Config { file: stdit3.config_file, reason });
            }
        }
        check_frames(&vae_config).map_err(|reason| {
            let file = vae.config_file.clone();
            ModelError::Config { file, reason }
        })?;
        let tokenizer = PromptTokenizer::from_bytes(
            tokenizer_json.as_bytes(),
            &location.join("t5/tokenizer.json"),
            &t5_config,
            stdit3_config.model_max_length,
        )?;
        validate(&T5Encoder::parameters(&t5_config)?, &*t5.source, T5_IGNORABLE)?;
        validate(&Stdit3::parameters(&stdit3_config)?, &*stdit3.source, STDIT3_IGNORABLE)?;
        validate(&VideoVae::parameters(&vae_config)?, &*vae.source, &[])?;
        Ok(Self {
            location,
            generation,
            t5_config,
            stdit3_config,
            vae_config,
            tokenizer_json,
            tokenizer,
            t5,
            stdit3,
            vae,
        })
    }

    /// The folder, or a description of where the model comes from.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// The model's own defaults.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// A network's config text and weights.
    pub fn part(&self, name: PartName) -> &BundlePart {
        match name {
            PartName::T5 => &self.t5,
            PartName::Stdit3 => &self.stdit3,
            PartName::Vae => &self.vae,
        }
    }

    /// The sizes of the text encoder.
    pub fn t5_config(&self) -> &T5Config {
        &self.t5_config
    }

    /// The text of `tokenizer.json`.
    pub fn tokenizer_json(&self) -> &str {
        &self.tokenizer_json
    }

    /// The parameters of a network by when they are needed.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn load_groups(&self, name: PartName) -> Result<Vec<LoadGroup>> {
        match name {
            PartName::T5 => T5Encoder::load_groups(&self.t5_config),
            PartName::Stdit3 => Stdit3::load_groups(&self.stdit3_config),
            PartName::Vae => VideoVae::load_groups(&self.vae_config),
        }
    }

    /// The sizes of the diffusion transformer.
    pub fn stdit3_config(&self) -> &Stdit3Config {
        &self.stdit3_config
    }

    /// The sizes of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae_config
    }

    /// The text encoder; its blocks are read when it encodes.
    pub fn text_encoder(&self, dtype: DType, device: &Device) -> T5Encoder {
        T5Encoder::new(self.t5.weights(dtype, device), self.t5_config.clone())
    }

    /// The tokenizer, for prompts of `max_length` tokens (the diffusion transformer's `model_max_length`).
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when `max_length` is 0.
    pub fn tokenizer(&self, max_length: usize) -> Result<PromptTokenizer> {
        self.tokenizer.clone().with_max_length(max_length)
    }

    /// What identifies this model: a SHA-256, in hexadecimal, over configs, tokenizer, and every weight file's name,
    /// length, tensor headers and evenly spaced samples.
    ///
    /// Files above a megabyte are sampled: reading the 23 GB of Open-Sora to hash them would take minutes. Two files
    /// that differ in a few weights only may therefore share a fingerprint.
    ///
    /// # Errors
    /// A weight file can no longer be read.
    pub fn fingerprint(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add("generation_config", format!("{:?}", self.generation).as_bytes());
        fingerprint.add("tokenizer.json", self.tokenizer_json.as_bytes());
        for name in PartName::ALL {
            fingerprint.add_part(name, self.part(name))?;
        }
        Ok(fingerprint.finish())
    }
}

/// Whether the autoencoder makes the frames that [`sizes`](crate::sizes) counts on.
fn check_frames(config: &VaeConfig) -> Result<(), String> {
    let fixed = [
        ("pixels a latent value", config.spatial_factor(), SPATIAL_FACTOR),
        ("micro_frame_size", config.micro_frame_size, CHUNK_FRAMES),
        ("frames a latent frame", config.temporal.time_factor(), TEMPORAL_FACTOR),
        ("out_channels", config.spatial.out_channels, FRAME_CHANNELS),
    ];
    match fixed.iter().find(|(_, found, wanted)| found != wanted) {
        Some((what, found, wanted)) => Err(format!(
            "{what}: {found}, but videos are made of {wanted}: it is not an autoencoder of Open-Sora v1.2's layout"
        )),
        None => Ok(()),
    }
}
