//! Writing model folders: random weights ([`Synthesis`]) to rehearse with, and other models' weights rewritten for
//! streaming ([`Packing`]) or quantised ([`Quantization`]). A part of a model needs no folder: [`RandomSource`] makes its
//! weights up in memory.
//!
//! Weights pass through in pieces, so a folder may be far larger than memory. A folder carries its name only when it
//! is complete and on the disk.

mod checksums;
mod disk_space;
mod error;
mod gguf_writer;
mod new_file;
mod pack;
mod preset;
mod quantize;
mod random_source;
mod random_weights;
mod resumable;
mod safetensors_writer;
mod staged_folder;
mod storage_dtype;
mod synth;
mod weight_files;

use std::io::Write;
use std::path::Path;

pub use error::{Result, ToolError};
pub use pack::{Damage, Packed, Packing, verify};
pub use preset::Preset;
pub use quantize::{PartSummary, Quantization, Quantized, QuantizedType, Treatment};
pub use random_source::RandomSource;
pub use storage_dtype::StorageDtype;
pub use synth::Synthesis;

/// Told what is done and what there is to do, both in bytes of weights.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut file = new_file::NewFile::create(path)?;
    file.write_all(text.as_bytes()).map_err(|source| staged_folder::write_error(path, source))?;
    file.complete().map(drop)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_text(path, &pretty_json(path, value)?)
}

/// The text of `value` for the file `path`.
fn pretty_json(path: &Path, value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|cause| staged_folder::write_error(path, cause.into()))? + "\n")
}
