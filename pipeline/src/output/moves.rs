//! Several renames of which all are made or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Renames that are undone, the last one first, unless they are [kept](Moves::keep).
///
/// Undoing tries its best: a disk that refuses that, too, leaves files at their new names, and none is ever removed.
#[derive(Default)]
pub(super) struct Moves {
    made: Vec<(PathBuf, PathBuf)>,
}

impl Moves {
    /// Renames `from` to `to`, where nothing is yet: what a rename replaces could not be brought back.
    pub(super) fn make(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.made.push((from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    /// Leaves everything as it is now.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (from, to) in self.made.drain(..).rev() {
            // The cause that led here is what the user is told.
            let _ = fs::rename(to, from);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn renames_are_undone_unless_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let swap = || {
            let mut moves = Moves::default();
            moves.make(&path("old"), &path("aside")).unwrap();
            moves.make(&path("new"), &path("old")).unwrap();
            moves
        };
        fs::write(path("old"), "1").unwrap();
        fs::write(path("new"), "2").unwrap();
        drop(swap());
        assert_eq!(fs::read_to_string(path("old")).unwrap(), "1");
        assert_eq!(fs::read_to_string(path("new")).unwrap(), "2");
        swap().keep();
        assert_eq!(fs::read_to_string(path("old")).unwrap(), "2");
        assert_eq!(fs::read_to_string(path("aside")).unwrap(), "1");
    }
}
