//! A file that gets its name when all of it is on the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::checksums::hexadecimal;
use super::error::Result;
use super::staged_folder::write_error;

/// A file under way, called `NAME.partial`.
pub(super) struct NewFile {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    digest: Option<Sha256>,
}

impl NewFile {
    /// Begins `path`, over whatever is there.
    ///
    /// # Errors
    /// [`ToolError::Write`](super::ToolError::Write).
    pub(super) fn create(path: &Path) -> Result<Self> {
        let partial = path.with_added_extension("partial");
        let file = File::create(&partial).map_err(|source| write_error(&partial, source))?;
        Ok(Self { file, path: path.to_path_buf(), partial, digest: None })
    }

    /// The same, with a checksum taken on the way.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub(super) fn create_hashed(path: &Path) -> Result<Self> {
        Ok(Self { digest: Some(Sha256::new()), ..Self::create(path)? })
    }

    /// Waits until the disk has all of it and gives it its name. Returns the SHA-256 in hexadecimal, empty when none
    /// was asked for.
    ///
    /// # Errors
    /// [`ToolError::Write`](super::ToolError::Write).
    pub(super) fn complete(self) -> Result<String> {
        let Self { file, path, partial, digest } = self;
        file.sync_all().map_err(|source| write_error(&path, source))?;
        drop(file);
        fs::rename(&partial, &path).map_err(|source| write_error(&path, source))?;
        Ok(digest.map(|digest| hexadecimal(&digest.finalize())).unwrap_or_default())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if let Some(digest) = &mut self.digest {
            digest.update(&bytes[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
