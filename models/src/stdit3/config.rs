//! The published `config.json` of an STDiT3.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config_limits::{LARGEST_WIDTH, check_layers, check_widths};
use crate::error::{ModelError, Result};

/// The sizes of one STDiT3. Fields of `config.json` that are not about the architecture are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stdit3Config {
    /// Channels of the latent.
    pub in_channels: usize,
    /// Latent frames, rows and columns of one token.
    pub patch_size: [usize; 3],
    /// Width of a token.
    pub hidden_size: usize,
    /// Pairs of a spatial and a temporal block.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the hidden layer of a block's MLP, as a multiple of `hidden_size`.
    pub mlp_ratio: f64,
    /// Side, in pixels, of the square picture that token positions are relative to.
    pub input_sq_size: usize,
    /// Width of the text features.
    pub caption_channels: usize,
    /// Text tokens of the null caption, so the most that a prompt can have.
    pub model_max_length: usize,
    /// Whether queries and keys of self-attention are RMS-normed.
    pub qk_norm: bool,
    /// Whether the output has a second half of channels (a variance, unused in sampling).
    pub pred_sigma: bool,
}

/// `model_type` of the architecture that this module implements.
const MODEL_TYPE: &str = "STDiT3";

#[derive(Deserialize)]
struct Declared {
    model_type: Option<String>,
    #[serde(default)]
    skip_y_embedder: bool,
}

impl Stdit3Config {
    /// Reads and checks the text of a `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the field that cannot be used.
    pub fn from_json(text: &str, file: &Path) -> Result<Self> {
        let refuse = |reason: String| ModelError::Config { file: file.to_path_buf(), reason };
        let declared: Declared =
            serde_json::from_str(text).map_err(|cause| refuse(cause.to_string()))?;
        if let Some(other) = declared.model_type.filter(|found| found != MODEL_TYPE) {
            return Err(refuse(format!(
                "model_type is `{other}`, this is a loader of {MODEL_TYPE}"
            )));
        }
        if declared.skip_y_embedder {
            let reason =
                "skip_y_embedder is true: checkpoints without a caption embedder cannot be guided";
            return Err(refuse(reason.into()));
        }
        let config: Self = serde_json::from_str(text).map_err(|cause| refuse(cause.to_string()))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// Whether the numbers fit each other; the error says which do not and what would.
    fn check(&self) -> Result<(), String> {
        check_layers(&[("depth", self.depth)])?;
        check_widths(&[
            ("in_channels", self.in_channels),
            ("hidden_size", self.hidden_size),
            ("num_heads", self.num_heads),
            ("input_sq_size", self.input_sq_size),
            ("caption_channels", self.caption_channels),
            ("model_max_length", self.model_max_length),
            ("patch_size[1]", self.patch_size[1]),
            ("patch_size[2]", self.patch_size[2]),
        ])?;
        if self.patch_size[0] != 1 {
            return Err(format!(
                "patch_size[0] is {}, it must be 1: a token is one latent frame deep",
                self.patch_size[0]
            ));
        }
        let values =
            self.in_channels.saturating_mul(self.patch_size[1]).saturating_mul(self.patch_size[2]);
        check_widths(&[("in_channels * patch_size", values)])?;
        if !self.hidden_size.is_multiple_of(4) {
            return Err(format!(
                "hidden_size is {}, it must be a multiple of 4 for the position embedding",
                self.hidden_size
            ));
        }
        if !self.hidden_size.is_multiple_of(2 * self.num_heads) {
            return Err(format!(
                "hidden_size {} cannot be split into {} heads of an even width",
                self.hidden_size, self.num_heads
            ));
        }
        let hidden = self.hidden_size as f64 * self.mlp_ratio;
        if !(1.0..=LARGEST_WIDTH as f64).contains(&hidden) {
            return Err(format!(
                "mlp_ratio is {}, times hidden_size it must be 1 to {LARGEST_WIDTH}",
                self.mlp_ratio
            ));
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Width of the hidden layer of a block's MLP.
    pub fn mlp_hidden_size(&self) -> usize {
        (self.hidden_size as f64 * self.mlp_ratio) as usize
    }

    /// Channels of the output: the velocity's and, with `pred_sigma`, as many again.
    pub fn out_channels(&self) -> usize {
        if self.pred_sigma { 2 * self.in_channels } else { self.in_channels }
    }

    /// Latent values of one token and one channel.
    pub fn patch_volume(&self) -> usize {
        self.patch_size.iter().product()
    }

    /// Blocks in order of execution: a spatial and a temporal one for each of `depth`.
    pub fn blocks(&self) -> usize {
        2 * self.depth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const XL_2: &str = r#"{"architectures": ["STDiT3"], "model_type": "STDiT3", "input_size": [null, null, null],
        "in_channels": 4, "patch_size": [1, 2, 2], "hidden_size": 1152, "depth": 28, "num_heads": 16,
        "mlp_ratio": 4.0, "input_sq_size": 512, "caption_channels": 4096, "model_max_length": 300,
        "qk_norm": true, "pred_sigma": true, "drop_path": 0.0, "skip_y_embedder": false}"#;

    fn read(text: &str) -> Result<Stdit3Config> {
        Stdit3Config::from_json(text, Path::new("config.json"))
    }

    #[test]
    fn the_official_form_is_read() {
        let config = read(XL_2).unwrap();
        assert_eq!((config.head_size(), config.mlp_hidden_size()), (72, 4608));
        assert_eq!((config.out_channels(), config.blocks()), (8, 56));
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_name() {
        for (from, to, word) in [
            ("\"depth\": 28", "\"depth\": 0", "depth"),
            ("\"num_heads\": 16", "\"num_heads\": 7", "7 heads"),
            ("[1, 2, 2]", "[2, 2, 2]", "patch_size[0]"),
            ("[1, 2, 2]", "[1, 0, 2]", "patch_size[1]"),
            ("\"mlp_ratio\": 4.0", "\"mlp_ratio\": -1.0", "mlp_ratio"),
            ("\"mlp_ratio\": 4.0", "\"mlp_ratio\": 1e300", "mlp_ratio"),
            ("\"depth\": 28", "\"depth\": 1000000000", "depth is 1000000000"),
            ("\"hidden_size\": 1152", "\"hidden_size\": 4611686018427387904", "hidden_size"),
            ("\"num_heads\": 16", "\"num_heads\": 18446744073709551615", "num_heads"),
            ("[1, 2, 2]", "[1, 65536, 65536]", "patch_size is 17179869184"),
            ("\"model_max_length\": 300", "\"model_max_length\": 99999999", "model_max_length"),
            ("\"hidden_size\": 1152,", "", "hidden_size"),
            ("\"STDiT3\", \"input_size\"", "\"DiT\", \"input_size\"", "DiT"),
            ("\"skip_y_embedder\": false", "\"skip_y_embedder\": true", "skip_y_embedder"),
        ] {
            assert!(XL_2.contains(from), "{from}");
            let error = read(&XL_2.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("config.json"), "{error}");
        }
    }
}
