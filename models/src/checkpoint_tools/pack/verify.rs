//! Whether a packed or quantised model is still as it was written.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;

use crate::bundle::PartName;
use crate::checkpoint_tools::checksums::{self, Checksums};
use crate::checkpoint_tools::{Progress, Result};
use crate::error::ModelError;

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It is not there.
    Missing(String),
    /// Its bytes are not those that were written.
    Changed(String),
    /// It was not written with the others, but a loader may take it for the model's.
    Unknown(String),
}

impl Display for Damage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{path} is missing"),
            Self::Changed(path) => write!(f, "{path} is not what was written"),
            Self::Unknown(path) => write!(f, "{path} was not written with the others"),
        }
    }
}

/// Reads all files of the packed or quantised model in `folder` and compares them with their checksums.
///
/// # Errors
/// It was written by another program, or a file cannot be read.
pub fn verify(folder: &Path, progress: &mut Progress<'_>) -> Result<Vec<Damage>> {
    let sums = Checksums::read(folder)?;
    let length = |path: &str| fs::metadata(folder.join(path)).map_or(0, |file| file.len());
    let total_bytes = sums.paths().map(length).sum();
    let mut done_bytes = 0;
    let mut damages = Vec::new();
    for path in sums.paths() {
        let file = folder.join(path);
        if !file.is_file() {
            damages.push(Damage::Missing(path.to_string()));
            continue;
        }
        let found = checksums::of_file(&file, |bytes| {
            done_bytes += bytes;
            progress(done_bytes, total_bytes);
        })?;
        if Some(found.as_str()) != sums.get(path) {
            damages.push(Damage::Changed(path.to_string()));
        }
    }
    for part in PartName::ALL {
        let unlisted = files(&folder.join(part.folder()))?;
        let paths = unlisted.iter().map(|name| format!("{}/{name}", part.folder()));
        damages.extend(paths.filter(|path| sums.get(path).is_none()).map(Damage::Unknown));
    }
    Ok(damages)
}

/// Names of the files in `folder` that say by their ends that they belong to a model.
fn files(folder: &Path) -> Result<Vec<String>> {
    let refused = |source| ModelError::Io { file: folder.to_path_buf(), source };
    let mut names = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
            if [".safetensors", ".bin", ".gguf", ".json"].iter().any(|end| name.ends_with(end)) {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}
