//! One network of a model: its config and its weights.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::error::{ModelError, Result};
use crate::weights::{Checkpoint, Weights};

/// The networks that a model consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartName {
    /// The text encoder.
    T5,
    /// The diffusion transformer.
    Stdit3,
    /// The video autoencoder.
    Vae,
}

impl PartName {
    /// All of them, in the order in which a video passes through them.
    pub const ALL: [Self; 3] = [Self::T5, Self::Stdit3, Self::Vae];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::T5 => "t5",
            Self::Stdit3 => "stdit3",
            Self::Vae => "vae",
        }
    }
}

impl Display for PartName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// A network's config text and its checkpoint, of which headers only are read.
#[derive(Clone)]
pub struct BundlePart {
    /// The text of `config.json`.
    pub config_json: String,
    /// The file to name in errors about it.
    pub config_file: PathBuf,
    /// The weights under their official names.
    pub source: Arc<Checkpoint>,
}

impl BundlePart {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let config_file = folder.join("config.json");
        let hint = "it holds the sizes of the network";
        let config_json = read_text(&config_file, hint)?;
        Ok(Self { config_json, config_file, source: Arc::new(Checkpoint::open(folder)?) })
    }

    /// The weights, to come out as `dtype` on `device`.
    pub fn weights(&self, dtype: DType, device: &Device) -> Weights {
        Weights::new(self.source.clone(), dtype, device)
    }
}

/// Reads a text file; `hint` says what belongs there.
pub(super) fn read_text(file: &Path, hint: &str) -> Result<String> {
    if !file.is_file() {
        return Err(ModelError::MissingFile { file: file.to_path_buf(), hint: hint.into() });
    }
    std::fs::read_to_string(file)
        .map_err(|source| ModelError::Io { file: file.to_path_buf(), source })
}
