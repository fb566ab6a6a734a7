//! Files that appear whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// How names of files end that are being written; a process that is killed leaves them.
pub const PARTIAL_EXTENSION: &str = "partial";

/// A new file whose name says what it is, in case the power fails before it is removed or renamed.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // Unlike other temporary files, this one becomes the user's: as readable as any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".sora-").suffix(&format!(".{PARTIAL_EXTENSION}")).tempfile_in(folder)
}

/// Writes `bytes` to `path`: first to a temporary file beside it, which then takes its name.
///
/// # Errors
/// The operating system refuses; then what was at `path` is still there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_file(folder_of(path))?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|failure| failure.error)?;
    Ok(())
}

/// As `replace`, and returns only when a power failure would leave the file there, too.
///
/// # Errors
/// As `replace`.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = temporary_file(folder)?;
    file.write_all(bytes)?;
    // Before it takes the name, so that the name never stands for half a file.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failure| failure.error)?;
    sync_folder(folder)
}

/// Returns when a power failure would leave the names in a folder as they are now.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere folders cannot be opened.
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.svg");
        replace(&path, b"earlier").unwrap();
        replace(&path, b"now").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"now");
        replace_durably(&path, b"later").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"later");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_like_any_new_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        replace(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("file"), b"").unwrap();
        assert!(replace(&taken, b"new").is_err());
        assert!(replace(&folder.path().join("missing").join("file"), b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
