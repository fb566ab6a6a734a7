//! A buffered file that knows how far it came, so that a full disk is reported with file and bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::error::SinkError;

/// A buffered file whose errors tell how many bytes had been written.
pub(super) struct VideoFile {
    file: BufWriter<File>,
    written_bytes: u64,
}

impl VideoFile {
    /// Opens `path` for writing from its start; `target` is what errors call it.
    pub(super) fn create(path: &Path, target: &Path) -> Result<Self, SinkError> {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file =
            opened.map_err(|source| SinkError::Io { target: target.to_path_buf(), source })?;
        Ok(Self { file: BufWriter::new(file), written_bytes: 0 })
    }

    fn explained(&self, source: io::Error) -> io::Error {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "; free some space or choose another folder",
            _ => "",
        };
        let message = format!("{source} (after {} bytes){hint}", self.written_bytes);
        io::Error::new(source.kind(), message)
    }
}

impl Write for VideoFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).map_err(|source| self.explained(source))?;
        self.written_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|source| self.explained(source))
    }
}

impl Seek for VideoFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position).map_err(|source| self.explained(source))
    }
}
