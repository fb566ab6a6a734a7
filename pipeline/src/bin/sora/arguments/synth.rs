use std::path::PathBuf;

use clap::Args;
use sora_models::checkpoint_tools::{Preset, StorageDtype};

use super::DEFAULT_SEED;

/// What `sora synth` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SynthArguments {
    /// Which model's sizes: opensora-v1.2 (T5-XXL, STDiT3-XL/2 and the VAE) or tiny
    #[arg(long, default_value_t = Preset::OpenSoraV12, value_name = "NAME")]
    pub preset: Preset,

    /// Number format of the weights: f16, bf16 or f32
    #[arg(long, default_value_t = StorageDtype::F16)]
    pub dtype: StorageDtype,

    /// The folder to write
    #[arg(long = "out", value_name = "FOLDER")]
    pub folder: PathBuf,

    /// What the weights follow from: the same seed gives the same bytes
    #[arg(long, default_value_t = DEFAULT_SEED, value_name = "N")]
    pub seed: u64,

    /// Replace the model that is in the folder already
    #[arg(long)]
    pub force: bool,
}

const AFTER_HELP: &str = "\
The folder is called FOLDER.partial until it is complete. Its videos show noise, at the real model's cost.

Exit codes: 0 the folder is there, 2 it cannot be written.";
