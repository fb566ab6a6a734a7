use std::path::PathBuf;

use clap::Args;
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::checkpoint_tools::{Quantization, QuantizedType};

/// What `sora quantize` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct QuantizeArguments {
    /// Folder with the model's weights [default: the small model in this program]
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,

    /// What weights become: q8_0 (0.53 of f16's bytes) or q4_k (0.28 to 0.34)
    #[arg(long = "type", value_name = "TYPE")]
    pub quantized_type: QuantizedType,

    /// The folder to write
    #[arg(long = "out", value_name = "FOLDER")]
    pub folder: PathBuf,

    /// Which networks: t5, stdit3, or both; others stay as they are
    #[arg(long, value_name = "PARTS", value_delimiter = ',', default_value = "t5,stdit3", value_parser = parse_part)]
    pub parts: Vec<PartName>,

    /// Replace the model that is in the folder already, or one that was not finished
    #[arg(long)]
    pub force: bool,
}

impl QuantizeArguments {
    /// Opens the model.
    ///
    /// # Errors
    /// As [`ModelBundle::open`].
    pub fn open(&self) -> sora_models::Result<ModelBundle> {
        match &self.model {
            Some(folder) => ModelBundle::open(folder),
            None => ModelBundle::embedded(),
        }
    }

    /// What to do with it.
    pub fn quantization(&self) -> Quantization {
        let parts = Quantization::PARTS.into_iter().filter(|part| self.parts.contains(part));
        Quantization {
            quantized_type: self.quantized_type,
            parts: parts.collect(),
            replace: self.force,
        }
    }
}

fn parse_part(name: &str) -> Result<PartName, String> {
    let found = Quantization::PARTS.into_iter().find(|part| part.folder() == name);
    found.ok_or_else(|| "expected t5, stdit3, or both with a comma".to_string())
}

const AFTER_HELP: &str = "\
Matrices of the text encoder's and the transformer's blocks are quantised, a GGUF file for each network; all
else stays as it is. What a matrix did not get, and why, is told, and written into quantize.json.
The folder is called FOLDER.partial until it is complete; the same command goes on with it after a stop.
`sora verify --model FOLDER --against MODEL` measures the error, `sora pack --verify FOLDER` checks the files.

Exit codes: 0 the folder is there, 2 it cannot be done as asked.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn quantize(arguments: &[&str]) -> Result<QuantizeArguments, String> {
        let all = ["sora", "quantize", "--out", "x"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Quantize(arguments) => Ok(arguments),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn both_networks_are_quantised_unless_one_is_named() {
        let parts = |arguments: &[&str]| quantize(arguments).unwrap().quantization().parts;
        assert_eq!(parts(&["--type", "q8_0"]), Quantization::PARTS);
        assert_eq!(parts(&["--type", "q8_0", "--parts", "stdit3,t5"]), Quantization::PARTS);
        assert_eq!(parts(&["--type", "q4_k", "--parts", "stdit3"]), [PartName::Stdit3]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (arguments, told) in [
            (&[][..], "--type"),
            (&["--type", "q3"], "q8_0 or q4_k"),
            (&["--type", "q8_0", "--parts", "vae"], "t5, stdit3"),
        ] {
            let error = quantize(arguments).err().unwrap_or_default();
            assert!(error.contains(told), "{arguments:?}: {error}");
        }
    }
}
