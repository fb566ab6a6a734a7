//! `sora quantize`: a model folder with quantised weights.

use crate::arguments::QuantizeArguments;
use crate::exit::Outcome;
use crate::print::note;
use crate::write_model::{Speed, byte_bar};

/// Writes the folder, tells what became of each network, and prints the folder's name.
///
/// # Errors
/// The model cannot be used or is quantised already, the folder is in use, the disk is too small, or a file cannot be
/// read or written.
pub fn run(arguments: &QuantizeArguments) -> anyhow::Result<Outcome> {
    let model = arguments.open()?;
    let (bar, speed) = (byte_bar(), Speed::start());
    let written = arguments.quantization().write(&model, &arguments.folder, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let written = written?;
    if written.kept_files > 0 {
        note(&format!("{} finished files of an earlier run were kept", written.kept_files));
    }
    written.parts.iter().for_each(|part| note(&part.to_string()));
    speed.tell("written", written.bytes, &arguments.folder);
    Ok(Outcome::Done)
}
