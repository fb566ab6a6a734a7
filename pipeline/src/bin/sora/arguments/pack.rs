use std::path::PathBuf;

use clap::Args;
use sora_models::checkpoint_tools::StorageDtype;

/// What `sora pack` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PackArguments {
    /// The model folder to rewrite
    #[arg(value_name = "MODEL", required_unless_present = "verify", requires = "folder")]
    pub model: Option<PathBuf>,

    /// The folder to write
    #[arg(long = "out", value_name = "FOLDER", requires = "model")]
    pub folder: Option<PathBuf>,

    /// Number format of the weights: f16, bf16, f32, or as-stored
    #[arg(long, default_value = "as-stored", value_parser = parse_dtype)]
    pub dtype: PackDtype,

    /// Replace the model that is in the folder already, or a packing that was not finished
    #[arg(long)]
    pub force: bool,

    /// Write nothing; compare every file of a packed model with its checksum
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["model", "folder", "dtype", "force"])]
    pub verify: Option<PathBuf>,
}

/// The number format of packed weights; `None` leaves each tensor's as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackDtype(pub Option<StorageDtype>);

fn parse_dtype(name: &str) -> Result<PackDtype, String> {
    match name {
        "as-stored" => Ok(PackDtype(None)),
        _ => match name.parse() {
            Ok(dtype) => Ok(PackDtype(Some(dtype))),
            Err(_) => Err("expected f16, bf16, f32 or as-stored".into()),
        },
    }
}

const AFTER_HELP: &str = "\
Each block becomes a safetensors file of its own, its tensors in the order of use from the beginning of a page on.
The folder is called FOLDER.partial until it is complete; the same command goes on with it after a stop.

Exit codes: 0 all is well, 1 --verify found damage, 2 it cannot be done as asked.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn pack(arguments: &[&str]) -> Result<PackArguments, String> {
        let all = ["sora", "pack"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Pack(arguments) => Ok(arguments),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn a_model_is_rewritten_as_it_is_stored_unless_a_dtype_is_given() {
        let dtype = |arguments: &[&str]| pack(arguments).unwrap().dtype.0;
        assert_eq!(dtype(&["a", "--out", "b"]), None);
        assert_eq!(dtype(&["a", "--out", "b", "--dtype", "bf16"]), Some(StorageDtype::Bf16));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (arguments, told) in [
            (&[][..], "required"),
            (&["a"], "--out"),
            (&["--out", "b"], "MODEL"),
            (&["a", "--out", "b", "--dtype", "int8"], "as-stored"),
            (&["--verify", "b", "--out", "c"], "cannot be used with"),
            (&["--verify", "b", "--force"], "cannot be used with"),
        ] {
            let error = pack(arguments).err().unwrap_or_default();
            assert!(error.contains(told), "{arguments:?}: {error}");
        }
    }
}
