//! `sora pack`: a model folder rewritten for streaming.

use std::path::Path;

use anyhow::bail;
use sora_models::checkpoint_tools::{Packing, verify};

use crate::arguments::PackArguments;
use crate::exit::Outcome;
use crate::print::{note, result};
use crate::write_model::{Speed, byte_bar};

/// Writes the folder and prints its name, or checks one.
///
/// # Errors
/// The model cannot be used, the folder is in use, the disk is too small, or a file cannot be read or written.
pub fn run(arguments: &PackArguments) -> anyhow::Result<Outcome> {
    match (&arguments.verify, &arguments.model, &arguments.folder) {
        (Some(folder), ..) => check(folder),
        (None, Some(model), Some(folder)) => pack(arguments, model, folder),
        // The command line's definition lets nothing else through.
        _ => bail!("MODEL and --out FOLDER are needed, or --verify FOLDER"),
    }
}

fn pack(arguments: &PackArguments, model: &Path, folder: &Path) -> anyhow::Result<Outcome> {
    let packing = Packing { dtype: arguments.dtype.0, replace: arguments.force };
    let (bar, speed) = (byte_bar(), Speed::start());
    let packed = packing.write(model, folder, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let packed = packed?;
    if packed.kept_files > 0 {
        note(&format!("{} finished files of an earlier run were kept", packed.kept_files));
    }
    speed.tell("packed", packed.bytes, folder);
    Ok(Outcome::Done)
}

fn check(folder: &Path) -> anyhow::Result<Outcome> {
    let (bar, speed) = (byte_bar(), Speed::start());
    let mut bytes = 0;
    let damages = verify(folder, &mut |done, total| {
        bytes = done;
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let damages = damages?;
    if damages.is_empty() {
        speed.tell("verified", bytes, folder);
        return Ok(Outcome::Done);
    }
    damages.iter().for_each(|damage| result(&damage.to_string()));
    note(&format!("error: {} is damaged", folder.display()));
    Ok(Outcome::SomeFailed)
}
