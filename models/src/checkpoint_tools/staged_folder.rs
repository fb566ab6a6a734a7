//! A model folder while it is being written: at its name there is all of it, or nothing.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Result, ToolError};

/// A folder `NAME.partial` beside the one that it becomes, in the hands of this process alone.
///
/// Whatever ends the process, `NAME` is not there before all of it is; `NAME.partial` stays, and the next run goes on
/// with it or empties it.
pub(super) struct StagedFolder {
    target: PathBuf,
    partial: PathBuf,
    /// Locked as long as it is open.
    lock: File,
}

/// Everything that a model folder may hold. Nothing else is ever removed.
const MODEL_ENTRIES: [&str; 8] = [
    "t5",
    "stdit3",
    "vae",
    "generation_config.json",
    "README.md",
    "pack.json",
    "quantize.json",
    "SHA256SUMS",
];

const LOCK_FILE: &str = ".lock";

impl StagedFolder {
    /// Creates `TARGET.partial`, or takes the one that an earlier run left. With `replace`, `target` may be a model
    /// folder already, which is removed when the new one is complete.
    ///
    /// # Errors
    /// [`ToolError::FolderTaken`], [`ToolError::Busy`] or [`ToolError::Write`].
    pub(super) fn begin(target: &Path, replace: bool) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| taken(target, "it has no name of its own"))?;
        let mut partial_name = name.to_os_string();
        partial_name.push(".partial");
        let partial = target.with_file_name(partial_name);
        check_target(target, replace)?;
        fs::create_dir_all(&partial).map_err(|source| write_error(&partial, source))?;
        let lock_file = partial.join(LOCK_FILE);
        let lock = File::create(&lock_file).map_err(|source| write_error(&lock_file, source))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(ToolError::Busy { folder: partial }),
            // A file system without locks: two processes at once are then the user's care.
            Err(TryLockError::Error(cause)) if cause.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(write_error(&lock_file, source)),
            Ok(()) => {}
        }
        Ok(Self { target: target.to_path_buf(), partial, lock })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// Whether no earlier run left anything.
    ///
    /// # Errors
    /// [`ToolError::Write`].
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(entries(&self.partial)?.iter().all(|name| name == LOCK_FILE))
    }

    /// Removes what an earlier run left.
    ///
    /// # Errors
    /// [`ToolError::FolderTaken`] when something else than a model is in it.
    pub(super) fn clear(&self) -> Result<()> {
        for entry in entries(&self.partial)?.iter().filter(|name| *name != LOCK_FILE) {
            if !is_model_entry(entry) {
                return Err(foreign(&self.partial, entry));
            }
            let path = self.partial.join(entry);
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| write_error(&path, source))?;
        }
        Ok(())
    }

    /// Gives the complete folder its name.
    ///
    /// # Errors
    /// As [`StagedFolder::begin`]: what is at the name may have changed meanwhile.
    pub(super) fn publish(self, replace: bool) -> Result<()> {
        let Self { target, partial, lock } = self;
        check_target(&target, replace)?;
        sync_folder(&partial)?;
        let lock_file = partial.join(LOCK_FILE);
        fs::remove_file(&lock_file).map_err(|source| write_error(&lock_file, source))?;
        drop(lock);
        let mut earlier = None;
        if target.exists() {
            let aside = target.with_added_extension("old");
            rename(&target, &aside)?;
            earlier = Some(aside);
        }
        rename(&partial, &target)?;
        if let Some(earlier) = earlier {
            fs::remove_dir_all(&earlier).map_err(|source| write_error(&earlier, source))?;
        }
        match target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync_folder(parent),
            None => sync_folder(Path::new(".")),
        }
    }

    /// Removes all of it.
    ///
    /// # Errors
    /// As [`StagedFolder::clear`].
    pub(super) fn discard(self) -> Result<()> {
        self.clear()?;
        fs::remove_dir_all(&self.partial).map_err(|source| write_error(&self.partial, source))
    }
}

/// A model cannot be written over itself.
///
/// # Errors
/// [`ToolError::FolderTaken`] when `source` lies in `folder`.
pub(super) fn check_apart(source: &Path, folder: &Path) -> Result<()> {
    let resolved = |path: &Path| fs::canonicalize(path).ok();
    match (resolved(source), resolved(folder)) {
        (Some(source), Some(target)) if source.starts_with(&target) => {
            Err(taken(folder, "the model to read is in it; choose another name"))
        }
        _ => Ok(()),
    }
}

/// A [`ToolError::Write`].
pub(super) fn write_error(file: &Path, source: io::Error) -> ToolError {
    ToolError::Write { file: file.to_path_buf(), source }
}

fn check_target(target: &Path, replace: bool) -> Result<()> {
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(taken(target, "it is a file"));
    }
    let entries = entries(target)?;
    if !entries.is_empty() && !replace {
        return Err(taken(
            target,
            "it is not empty; choose another name, or replace it by --force",
        ));
    }
    match entries.iter().find(|entry| !is_model_entry(entry)) {
        Some(entry) => Err(foreign(target, entry)),
        None => Ok(()),
    }
}

fn taken(folder: &Path, reason: impl Into<String>) -> ToolError {
    ToolError::FolderTaken { folder: folder.to_path_buf(), reason: reason.into() }
}

fn foreign(folder: &Path, entry: &OsString) -> ToolError {
    let entry = entry.to_string_lossy();
    taken(
        folder,
        format!("it holds `{entry}`, which is no part of a model and will not be removed"),
    )
}

fn is_model_entry(entry: &OsString) -> bool {
    MODEL_ENTRIES.iter().any(|known| entry == known)
}

fn entries(folder: &Path) -> Result<Vec<OsString>> {
    let unreadable = |source| write_error(folder, source);
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    names.map_err(unreadable)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| write_error(to, source))
}

/// Makes names in `folder` survive a power failure, where the system can do that.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| write_error(folder, source))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names = entries(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn the_folder_appears_with_all_that_was_written() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("deep/model");
        let staged = StagedFolder::begin(&target, false).unwrap();
        fs::write(staged.path().join("pack.json"), "{}").unwrap();
        assert!(!target.exists());
        staged.publish(false).unwrap();
        assert_eq!(names(&target), ["pack.json"]);
        assert_eq!(names(target.parent().unwrap()), ["model"]);
    }

    #[test]
    fn what_an_earlier_run_left_is_there_until_it_is_cleared() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("model");
        drop(StagedFolder::begin(&target, false).unwrap());
        fs::create_dir(place.path().join("model.partial/t5")).unwrap();
        let staged = StagedFolder::begin(&target, false).unwrap();
        assert!(staged.path().join("t5").is_dir());
        staged.clear().unwrap();
        assert_eq!(names(staged.path()), [LOCK_FILE]);
        staged.discard().unwrap();
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("model");
        let first = StagedFolder::begin(&target, false).unwrap();
        assert!(matches!(StagedFolder::begin(&target, false), Err(ToolError::Busy { .. })));
        drop(first);
        StagedFolder::begin(&target, false).unwrap();
    }

    #[test]
    fn a_model_is_replaced_only_when_asked_and_other_things_never() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("model");
        fs::create_dir_all(target.join("t5")).unwrap();
        let refused = |replace| match StagedFolder::begin(&target, replace) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was accepted"),
        };
        assert!(refused(false).contains("--force"));
        fs::write(target.join("letter.txt"), "mine").unwrap();
        assert!(refused(true).contains("`letter.txt`"));
        fs::remove_file(target.join("letter.txt")).unwrap();
        let staged = StagedFolder::begin(&target, true).unwrap();
        fs::create_dir(staged.path().join("vae")).unwrap();
        staged.publish(true).unwrap();
        assert_eq!(names(&target), ["vae"]);
        assert_eq!(names(place.path()), ["model"]);
        fs::write(place.path().join("file"), "").unwrap();
        assert!(StagedFolder::begin(&place.path().join("file"), true).is_err());
        assert!(StagedFolder::begin(Path::new("/"), true).is_err());
    }
}
