//! The bytes of a weight file: on disk, or part of the program.
//!
//! Files are read, not mapped. What was read counts as this program's memory and nothing else does, so resident memory
//! is what was asked for; and a file that another program cuts short gives an error, where a mapped one would end the
//! process.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{ModelError, Result};

/// Bytes that can be read from any place.
pub(super) struct FileBytes {
    path: PathBuf,
    length: u64,
    content: Content,
}

enum Content {
    OnDisk(File),
    InMemory(Cow<'static, [u8]>),
}

impl FileBytes {
    /// Opens `path`; nothing is read yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { file: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok(Self { path: path.to_path_buf(), length, content: Content::OnDisk(file) })
    }

    /// Bytes that are in memory already; `label` stands in for the path in errors.
    pub(super) fn in_memory(label: &str, bytes: Cow<'static, [u8]>) -> Self {
        let length = bytes.len() as u64;
        Self { path: PathBuf::from(label), length, content: Content::InMemory(bytes) }
    }

    /// The file to name in errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes there were when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Looks at all bytes at once, for a moment; those on disk are read where they are touched.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub(super) fn view<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        match &self.content {
            Content::InMemory(bytes) => Ok(look(bytes)),
            Content::OnDisk(file) => {
                let io = |source| ModelError::Io { file: self.path.clone(), source };
                // SAFETY: the map is read-only and lives for this call alone. Whoever cuts the file short in that
                // moment raises a bus error, as with every mapped file; data is therefore read, not mapped.
                let map = unsafe { Mmap::map(file) }.map_err(io)?;
                Ok(look(&map))
            }
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ModelError::CorruptFile`] when the file ends before, [`ModelError::Io`].
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = match &self.content {
            Content::OnDisk(file) => read_exact_at(file, offset, buffer),
            Content::InMemory(bytes) => copy_from(bytes, offset, buffer),
        };
        read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => ModelError::CorruptFile {
                file: self.path.clone(),
                reason: format!(
                    "it ends within the {} bytes at {offset}: it was cut short after it was opened",
                    buffer.len()
                ),
            },
            _ => ModelError::Io { file: self.path.clone(), source },
        })
    }

    /// The bytes from `offset` on, `length` of them.
    ///
    /// # Errors
    /// As [`FileBytes::read_at`].
    pub(super) fn read_vec(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.length) {
            let reason = format!("it has no {length} bytes at {offset}");
            return Err(ModelError::CorruptFile { file: self.path.clone(), reason });
        }
        let mut bytes = vec![0; length];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

fn copy_from(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let found = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
    buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => (buffer, offset) = (&mut buffer[read..], offset + read as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bytes_come_from_any_place_on_disk_and_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        let on_disk = FileBytes::open(file.path()).unwrap();
        for bytes in [on_disk, FileBytes::in_memory("x", b"0123456789".as_slice().into())] {
            assert_eq!(bytes.length(), 10);
            assert_eq!(bytes.read_vec(3, 4).unwrap(), b"3456");
            assert_eq!(bytes.read_vec(10, 0).unwrap(), b"");
            assert!(bytes.read_vec(8, 3).is_err());
            assert!(bytes.read_vec(u64::MAX, 3).is_err());
        }
    }

    #[test]
    fn a_file_that_is_cut_short_later_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 100]).unwrap();
        let bytes = FileBytes::open(file.path()).unwrap();
        std::fs::write(file.path(), [7; 10]).unwrap();
        assert!(bytes.read_vec(0, 10).is_ok());
        let error = bytes.read_vec(5, 50).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        assert!(error.contains("cut short"), "{error}");
    }
}
