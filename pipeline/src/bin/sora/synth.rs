//! `sora synth`: a model folder of random weights.

use sora_models::checkpoint_tools::Synthesis;

use crate::arguments::SynthArguments;
use crate::exit::Outcome;
use crate::write_model::{Speed, byte_bar};

/// Writes the folder and prints its name.
///
/// # Errors
/// The folder is in use, the disk is too small, or a file cannot be written.
pub fn run(arguments: &SynthArguments) -> anyhow::Result<Outcome> {
    let synthesis = Synthesis {
        preset: arguments.preset,
        dtype: arguments.dtype,
        seed: arguments.seed,
        replace: arguments.force,
    };
    let (bar, speed) = (byte_bar(), Speed::start());
    let bytes = synthesis.write(&arguments.folder, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    speed.tell("written", bytes?, &arguments.folder);
    Ok(Outcome::Done)
}
