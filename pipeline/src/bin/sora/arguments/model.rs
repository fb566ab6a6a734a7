//! Which model, and how it computes.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use sora_models::DeviceChoice;
use sora_models::bundle::ModelBundle;

/// Which model, and how it computes.
#[derive(Args)]
pub struct ModelArguments {
    /// Folder with the model's weights [default: the small model in this program]
    #[arg(long = "model", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,

    /// Where to compute: auto, cpu, metal or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Number format to compute in: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_parser = parse_dtype)]
    pub dtype: DType,
}

impl ModelArguments {
    /// Opens the model.
    ///
    /// # Errors
    /// As [`ModelBundle::open`].
    pub fn open(&self) -> sora_models::Result<ModelBundle> {
        match &self.folder {
            Some(folder) => ModelBundle::open(folder),
            None => ModelBundle::embedded(),
        }
    }
}

/// The number format of this name.
pub(super) fn parse_dtype(name: &str) -> Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "f16" => Ok(DType::F16),
        "bf16" => Ok(DType::BF16),
        _ => Err("expected f32, f16 or bf16".into()),
    }
}
