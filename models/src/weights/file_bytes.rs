//! The bytes of a file: mapped from disk, or part of the program.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{ModelError, Result};

pub(super) enum FileBytes {
    Mapped(Mmap),
    InMemory(Cow<'static, [u8]>),
}

impl FileBytes {
    /// Maps `path`; pages are read when they are touched.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { file: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this process; a file that another process shortens
        // while it is mapped raises a bus error, as with every memory-mapped model format.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::InMemory(bytes) => bytes,
        }
    }
}
