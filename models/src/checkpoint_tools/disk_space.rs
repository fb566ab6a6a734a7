//! Whether a disk has room for what is to be written.

use std::path::Path;

use super::error::{Result, ToolError};
#[cfg(unix)]
use super::staged_folder::write_error;

/// Our choice: room beside the tensors, for headers, configs and the file system's own records.
const MARGIN_BYTES: u64 = 4 << 20;

/// Makes sure that `bytes` of weights fit on the disk of `folder`, which exists.
///
/// # Errors
/// [`ToolError::DiskSpace`]; [`ToolError::Write`] when the file system does not say how much is free.
pub(super) fn require(folder: &Path, bytes: u64) -> Result<()> {
    let needed_bytes = bytes.saturating_add(MARGIN_BYTES);
    let free_bytes = free_bytes(folder)?;
    if needed_bytes <= free_bytes {
        return Ok(());
    }
    Err(ToolError::DiskSpace { folder: folder.to_path_buf(), needed_bytes, free_bytes })
}

/// What this user may still write.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder).map_err(|cause| write_error(folder, cause.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Other systems are not asked: there a full disk shows while writing.
#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Result<u64> {
    Ok(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        require(folder.path(), 1).unwrap();
        let error = require(folder.path(), 1 << 60).unwrap_err();
        let ToolError::DiskSpace { needed_bytes, free_bytes, .. } = error else {
            panic!("{error}")
        };
        assert!(needed_bytes > 1 << 60 && free_bytes > 0 && free_bytes < 1 << 60);
    }
}
