use std::path::{Path, PathBuf};

use clap::Args;
use sora_models::DeviceChoice;
use sora_models::bundle::ModelBundle;

/// What `sora verify` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct VerifyArguments {
    /// Folder of recorded cases, or a single case
    #[arg(value_name = "FOLDER", required_unless_present = "model", conflicts_with = "model")]
    pub folder: Option<PathBuf>,

    /// Instead of cases, a quantised model whose blocks are compared with those of the one it was made of
    #[arg(long, value_name = "FOLDER", requires = "against")]
    pub model: Option<PathBuf>,

    /// That one: its folder, or `embedded` for the small model in this program
    #[arg(long, value_name = "MODEL", requires = "model")]
    pub against: Option<PathBuf>,

    /// Where to compute: auto, cpu, metal or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Print a line of JSON for each case, or each network
    #[arg(long)]
    pub json: bool,
}

/// Stands for the model in the program where a folder is expected.
const EMBEDDED: &str = "embedded";

/// Opens what `--against` names.
///
/// # Errors
/// As [`ModelBundle::open`].
pub fn open_original(against: &Path) -> sora_models::Result<ModelBundle> {
    if against == Path::new(EMBEDDED) {
        return ModelBundle::embedded();
    }
    ModelBundle::open(against)
}

const AFTER_HELP: &str = "\
With --model and --against, every block of a quantised network and the original's run on the same inputs, in f32. The
error is the norm of the difference of the two outputs over the norm of the original's; at most 1 % is allowed for
Q8_0, 6 % for types of 4 to 6 bits, 12 % for 3 and 25 % for 2.

Exit codes: 0 all is well, 1 something is out of tolerance, 2 it cannot be done as asked.";
