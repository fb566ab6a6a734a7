//! Models whose weights can be made up: their configs and defaults.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::str::FromStr;

use crate::bundle::{GenerationConfig, PartName};
use crate::error::Result;
use crate::stdit3::{Stdit3, Stdit3Config};
use crate::t5::{T5Config, T5Encoder};
use crate::vae::{VaeConfig, VideoVae};

/// A model of known sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Open-Sora v1.2: T5-v1.1-XXL, STDiT3-XL/2 and the video VAE v1.2, in the published sizes.
    OpenSoraV12,
    /// The same architecture in less than a megabyte, to try things out.
    Tiny,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OpenSoraV12, Self::Tiny];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenSoraV12 => "opensora-v1.2",
            Self::Tiny => "tiny",
        }
    }

    /// The `config.json` of one network, as far as it is about the architecture.
    ///
    /// # Source
    /// `DeepFloyd/t5-v1_1-xxl`, `hpcai-tech/OpenSora-STDiT-v3` and `hpcai-tech/OpenSora-VAE-v1.2`.
    pub fn config_json(self, part: PartName) -> &'static str {
        match (self, part) {
            (Self::OpenSoraV12, PartName::T5) => T5_V1_1_XXL,
            (Self::OpenSoraV12, PartName::Stdit3) => STDIT3_XL_2,
            (Self::OpenSoraV12, PartName::Vae) => VAE_V1_2,
            (Self::Tiny, PartName::T5) => TINY_T5,
            (Self::Tiny, PartName::Stdit3) => TINY_STDIT3,
            (Self::Tiny, PartName::Vae) => TINY_VAE,
        }
    }

    /// Every parameter of one network: official name to shape.
    ///
    /// # Errors
    /// None, as tests make sure of: the configs are sound.
    pub fn parameters(self, part: PartName) -> Result<BTreeMap<String, Vec<usize>>> {
        match part {
            PartName::T5 => T5Encoder::parameters(&self.t5_config()?),
            PartName::Stdit3 => Stdit3::parameters(&self.stdit3_config()?),
            PartName::Vae => VideoVae::parameters(&self.vae_config()?),
        }
    }

    /// The sizes of the text encoder.
    ///
    /// # Errors
    /// None, as for [`Preset::parameters`].
    pub fn t5_config(self) -> Result<T5Config> {
        T5Config::from_json(self.config_json(PartName::T5), Path::new(CONFIG_FILE))
    }

    /// The sizes of the diffusion transformer.
    ///
    /// # Errors
    /// None, as for [`Preset::parameters`].
    pub fn stdit3_config(self) -> Result<Stdit3Config> {
        Stdit3Config::from_json(self.config_json(PartName::Stdit3), Path::new(CONFIG_FILE))
    }

    /// The sizes of the autoencoder.
    ///
    /// # Errors
    /// None, as for [`Preset::parameters`].
    pub fn vae_config(self) -> Result<VaeConfig> {
        VaeConfig::from_json(self.config_json(PartName::Vae), Path::new(CONFIG_FILE))
    }

    /// The defaults of a model of these sizes.
    pub fn generation(self) -> GenerationConfig {
        match self {
            Self::OpenSoraV12 => GenerationConfig::default(),
            Self::Tiny => GenerationConfig {
                name: "tiny".into(),
                width: 32,
                height: 32,
                num_frames: 17,
                fps: 8,
                num_sampling_steps: 4,
                ..GenerationConfig::default()
            },
        }
    }

    /// The most bytes of tensors in one weight file.
    pub(super) fn shard_bytes(self) -> u64 {
        match self {
            // What Hugging Face's `save_pretrained` took as its default when the T5 was published in shards.
            Self::OpenSoraV12 => 5_000_000_000,
            // Our choice: so small that this model, too, comes in shards.
            Self::Tiny => 50_000,
        }
    }
}

impl Display for Preset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|preset| preset.as_str() == name);
        found.ok_or_else(|| format!("expected {}", Self::ALL.map(Self::as_str).join(" or ")))
    }
}

serde_as_written!(Preset);

/// What errors call the configs, which are in no file.
const CONFIG_FILE: &str = "config.json";

const T5_V1_1_XXL: &str = r#"{
  "architectures": ["T5EncoderModel"],
  "model_type": "t5",
  "vocab_size": 32128,
  "d_model": 4096,
  "d_kv": 64,
  "num_heads": 64,
  "d_ff": 10240,
  "num_layers": 24,
  "relative_attention_num_buckets": 32,
  "relative_attention_max_distance": 128,
  "layer_norm_epsilon": 1e-06,
  "feed_forward_proj": "gated-gelu",
  "pad_token_id": 0,
  "eos_token_id": 1
}
"#;

const STDIT3_XL_2: &str = r#"{
  "architectures": ["STDiT3"],
  "model_type": "STDiT3",
  "in_channels": 4,
  "patch_size": [1, 2, 2],
  "hidden_size": 1152,
  "depth": 28,
  "num_heads": 16,
  "mlp_ratio": 4.0,
  "input_sq_size": 512,
  "caption_channels": 4096,
  "model_max_length": 300,
  "qk_norm": true,
  "pred_sigma": true
}
"#;

const VAE_V1_2: &str = r#"{
  "model_type": "VideoAutoencoderPipeline",
  "micro_frame_size": 17,
  "shift": [-0.1, 0.34, 0.27, 0.98],
  "scale": [3.85, 2.32, 2.33, 3.06],
  "vae_2d": {
    "type": "VideoAutoencoderKL",
    "micro_batch_size": 4,
    "subfolder": "vae",
    "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
  },
  "vae_temporal": { "type": "VAE_Temporal_SD", "from_pretrained": null }
}
"#;

const TINY_T5: &str = r#"{
  "architectures": ["T5EncoderModel"],
  "model_type": "t5",
  "vocab_size": 272,
  "d_model": 32,
  "d_kv": 8,
  "num_heads": 4,
  "d_ff": 64,
  "num_layers": 2,
  "feed_forward_proj": "gated-gelu",
  "pad_token_id": 0,
  "eos_token_id": 1
}
"#;

const TINY_STDIT3: &str = r#"{
  "architectures": ["STDiT3"],
  "model_type": "STDiT3",
  "in_channels": 4,
  "patch_size": [1, 2, 2],
  "hidden_size": 48,
  "depth": 2,
  "num_heads": 4,
  "mlp_ratio": 4.0,
  "input_sq_size": 512,
  "caption_channels": 32,
  "model_max_length": 300,
  "qk_norm": true,
  "pred_sigma": true
}
"#;

const TINY_VAE: &str = r#"{
  "model_type": "VideoAutoencoderPipeline",
  "micro_frame_size": 17,
  "shift": [-0.1, 0.34, 0.27, 0.98],
  "scale": [3.85, 2.32, 2.33, 3.06],
  "vae_2d": {
    "type": "VideoAutoencoderKL",
    "micro_batch_size": 4,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4
  },
  "vae_temporal": {
    "type": "VAE_Temporal_SD",
    "filters": 8,
    "num_res_blocks": 1,
    "channel_multipliers": [1, 1, 2, 2],
    "num_groups": 4
  }
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_others_are_refused_with_what_there_is() {
        for preset in Preset::ALL {
            assert_eq!(preset.as_str().parse(), Ok(preset));
        }
        assert_eq!("huge".parse::<Preset>(), Err("expected opensora-v1.2 or tiny".to_string()));
    }
}
