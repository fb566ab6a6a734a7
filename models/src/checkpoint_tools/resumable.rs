//! A folder that a stopped run left, and how the next one goes on with it.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::checksums::{self, Checksums};
use super::error::{Result, ToolError};
use super::staged_folder::StagedFolder;
use super::{pretty_json, write_text};

/// A staged folder whose finished files are known by their checksums.
pub(super) struct ResumableFolder<'a> {
    folder: &'a Path,
    sums: Checksums,
}

impl<'a> ResumableFolder<'a> {
    /// Takes `staged` for what `manifest` describes, which becomes its file `manifest_file`. What an earlier run with the
    /// same manifest finished is kept; with `replace`, or when nothing can be kept, the folder is emptied.
    ///
    /// # Errors
    /// [`ToolError::FolderTaken`] when the earlier run had another manifest; those of writing.
    pub(super) fn begin(
        staged: &'a StagedFolder,
        manifest_file: &str,
        manifest: &impl Serialize,
        replace: bool,
    ) -> Result<Self> {
        let folder = staged.path();
        let path = folder.join(manifest_file);
        let manifest = pretty_json(&path, manifest)?;
        let sums = match fs::read_to_string(&path) {
            Ok(earlier) if earlier == manifest => Checksums::read(folder).unwrap_or_default(),
            _ if staged.is_empty()? || replace => Checksums::default(),
            _ => {
                let reason = "another model, or the same in another way, was being written into it; \
                              remove it, or replace it by --force";
                let folder = folder.to_path_buf();
                return Err(ToolError::FolderTaken { folder, reason: reason.into() });
            }
        };
        let mut resumable = Self { folder, sums };
        if resumable.sums == Checksums::default() {
            staged.clear()?;
            write_text(&path, &manifest)?;
        }
        resumable.take_in(manifest_file)?;
        Ok(resumable)
    }

    /// Where to write.
    pub(super) fn path(&self) -> &'a Path {
        self.folder
    }

    /// Whether an earlier run finished the file `path`, and nothing happened to it since.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn is_whole(&self, path: &str) -> Result<bool> {
        let file = self.folder.join(path);
        match self.sums.get(path).filter(|_| file.is_file()) {
            Some(expected) => Ok(checksums::of_file(&file, |_| {})? == expected),
            None => Ok(false),
        }
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// [`ToolError::Write`].
    pub(super) fn write_text(&mut self, path: &str, text: &str) -> Result<()> {
        write_text(&self.folder.join(path), text)?;
        self.take_in(path)
    }

    /// Notes that the file `path` is finished, with the checksum `sum`: the next run will keep it.
    ///
    /// # Errors
    /// [`ToolError::Write`].
    pub(super) fn finished(&mut self, path: &str, sum: String) -> Result<()> {
        self.sums.insert(path, sum);
        self.save()
    }

    /// Writes the list of checksums.
    ///
    /// # Errors
    /// [`ToolError::Write`].
    pub(super) fn save(&self) -> Result<()> {
        self.sums.write(self.folder)
    }

    fn take_in(&mut self, path: &str) -> Result<()> {
        let sum = checksums::of_file(&self.folder.join(path), |_| {})?;
        self.sums.insert(path, sum);
        Ok(())
    }
}
