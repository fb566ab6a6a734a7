//! SHA-256 checksums of a folder's files, in the form that `sha256sum -c` reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::Result;
use super::write_text;
use crate::error::ModelError;

/// The file's name.
pub(super) const CHECKSUM_FILE: &str = "SHA256SUMS";

/// Our choice: bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Files, by their paths within a folder, and their checksums in hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// Reads the list in `folder`. Lines that are none are passed over.
    ///
    /// # Errors
    /// [`ModelError::MissingFile`] or [`ModelError::Io`].
    pub(super) fn read(folder: &Path) -> Result<Self, ModelError> {
        let file = folder.join(CHECKSUM_FILE);
        let text = fs::read_to_string(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let hint =
                    "only folders written by `sora pack` or `sora quantize` have one".to_string();
                ModelError::MissingFile { file: file.clone(), hint }
            }
            _ => ModelError::Io { file: file.clone(), source },
        })?;
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        let inside = lines.filter(|(_, path)| is_inside(path));
        Ok(Self(inside.map(|(sum, path)| (path.to_string(), sum.to_string())).collect()))
    }

    /// Writes the list into `folder`, over the one before.
    ///
    /// # Errors
    /// [`ToolError::Write`](super::ToolError::Write).
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let lines = self.0.iter().map(|(path, sum)| format!("{sum}  {path}\n"));
        write_text(&folder.join(CHECKSUM_FILE), &lines.collect::<String>())
    }

    pub(super) fn insert(&mut self, path: &str, sum: String) {
        self.0.insert(path.to_string(), sum);
    }

    /// The checksum that `path` shall have.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Every path, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The checksum of a file. `report` is told how many bytes were read since the last time.
///
/// # Errors
/// [`ModelError::Io`].
pub(super) fn of_file(path: &Path, mut report: impl FnMut(u64)) -> Result<String, ModelError> {
    let refused = |source| ModelError::Io { file: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(refused)?;
    let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(refused)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            length => {
                digest.update(&piece[..length]);
                report(length as u64);
            }
        }
    }
}

/// The usual form of a digest.
pub(super) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a path leads nowhere but into the folder.
fn is_inside(path: &str) -> bool {
    let path = PathBuf::from(path);
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_is_read_back_without_lines_that_are_none_or_lead_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let mut sums = Checksums::default();
        sums.insert("t5/config.json", "ab".into());
        sums.write(folder.path()).unwrap();
        assert_eq!(Checksums::read(folder.path()).unwrap(), sums);
        let file = folder.path().join(CHECKSUM_FILE);
        fs::write(&file, "ab  t5/config.json\ncd  ../secret\ncd  /etc/x\nef\n").unwrap();
        assert_eq!(Checksums::read(folder.path()).unwrap(), sums);
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let mut read = 0;
        let sum = of_file(&file, |bytes| read += bytes).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(read, 3);
    }
}
