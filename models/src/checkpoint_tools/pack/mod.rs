//! Rewriting a model for streaming: a file for each block.
//!
//! The format forbids gaps between tensors, so only the first tensor of a file can be put at a page's beginning,
//! by padding the header. Therefore each group of parameters that is loaded together (a block, what surrounds the
//! blocks, a decoder) is a shard of its own, listed in an index as Hugging Face does it: its bytes are contiguous,
//! in the order of use, and begin with a page. A shard is also what a stopped run goes on with.

mod copy;
mod plan;
mod verify;

use std::fs;
use std::path::Path;

use self::plan::{ALIGNMENT, PackPlan};
use super::checksums::{self, Checksums};
use super::error::{Result, ToolError};
use super::new_file::NewFile;
use super::safetensors_writer::SafetensorsWriter;
use super::staged_folder::{StagedFolder, write_error};
use super::storage_dtype::StorageDtype;
use super::weight_files::{self, PlannedFile};
use super::{Progress, disk_space, pretty_json, write_text};
use crate::bundle::ModelBundle;
use crate::error::ModelError;
use crate::weights::Checkpoint;

pub use verify::{Damage, verify};

/// How to rewrite a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// The number format of the weights; `None` leaves each tensor's as it is.
    pub dtype: Option<StorageDtype>,
    /// Whether a model that is in the folder already is replaced.
    pub replace: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of weights in the folder.
    pub bytes: u64,
    /// Weight files of a run that was stopped, which were found to be whole and kept.
    pub kept_files: usize,
}

const MANIFEST_FILE: &str = "pack.json";

impl Packing {
    /// Rewrites the model in `source` as the folder `folder`.
    ///
    /// The folder is called `FOLDER.partial` until it is complete. When the run is stopped, the same call goes on
    /// behind the last finished file.
    ///
    /// # Errors
    /// The model cannot be used, the folder is in use, the disk is too small, a number does not fit the dtype, or a
    /// file cannot be read or written.
    pub fn write(
        &self,
        source: &Path,
        folder: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Packed> {
        let bundle = ModelBundle::open(source)?;
        check_apart(source, folder)?;
        let plan = PackPlan::new(&bundle, self)?;
        let staged = StagedFolder::begin(folder, self.replace)?;
        let mut run = Run::begin(&plan, &bundle, &staged, self.replace)?;
        let written = run.write(progress);
        let packed = Packed { bytes: run.total_bytes, kept_files: run.kept_files };
        match written {
            // Going on would end at the same number, or there is nothing to go on with.
            Err(cause @ (ToolError::Overflow { .. } | ToolError::DiskSpace { .. }))
                if packed.kept_files == 0 =>
            {
                // The cause matters more than trouble in tidying up.
                let _ = staged.discard();
                return Err(cause);
            }
            written => written?,
        }
        ModelBundle::open(staged.path())?;
        staged.publish(self.replace)?;
        Ok(packed)
    }
}

/// One run, which may go on with what an earlier one left.
struct Run<'a> {
    plan: &'a PackPlan,
    source: &'a ModelBundle,
    folder: &'a Path,
    sums: Checksums,
    total_bytes: u64,
    kept_files: usize,
}

impl<'a> Run<'a> {
    fn begin(
        plan: &'a PackPlan,
        source: &'a ModelBundle,
        staged: &'a StagedFolder,
        replace: bool,
    ) -> Result<Self> {
        let folder = staged.path();
        let manifest_file = folder.join(MANIFEST_FILE);
        let manifest = pretty_json(&manifest_file, &plan.manifest)?;
        let sums = match fs::read_to_string(&manifest_file) {
            Ok(earlier) if earlier == manifest => Checksums::read(folder).unwrap_or_default(),
            _ if staged.is_empty()? || replace => Checksums::default(),
            _ => {
                let reason = "another model, or the same in another way, was being packed into it; \
                              remove it, or replace it by --force";
                let folder = folder.to_path_buf();
                return Err(ToolError::FolderTaken { folder, reason: reason.into() });
            }
        };
        if sums == Checksums::default() {
            staged.clear()?;
            write_text(&manifest_file, &manifest)?;
        }
        let files = plan.parts.iter().flat_map(|(_, files)| files);
        let total_bytes = files.map(PlannedFile::data_bytes).sum();
        Ok(Self { plan, source, folder, sums, total_bytes, kept_files: 0 })
    }

    fn write(&mut self, progress: &mut Progress<'_>) -> Result<()> {
        self.write_small_files()?;
        let (plan, total_bytes) = (self.plan, self.total_bytes);
        let mut done_bytes = 0;
        let mut report = |bytes| {
            done_bytes += bytes;
            progress(done_bytes, total_bytes);
        };
        let all = plan.parts.iter().flat_map(|(part, files)| {
            let of_part = move |file: &'a PlannedFile| {
                (format!("{}/{}", part.folder(), file.name), *part, file)
            };
            files.iter().map(of_part)
        });
        let mut missing = Vec::new();
        for (path, part, file) in all {
            if self.is_whole(&path)? {
                self.kept_files += 1;
                report(file.data_bytes());
            } else {
                missing.push((path, part, file));
            }
        }
        let missing_bytes = missing.iter().map(|(_, _, file)| file.data_bytes()).sum();
        disk_space::require(self.folder, missing_bytes)?;
        for (path, part, file) in missing {
            let source = &self.source.part(part).source;
            let sum = write_file(source, file, &self.folder.join(&path), &mut report)?;
            self.sums.insert(&path, sum);
            self.sums.write(self.folder)?;
        }
        Ok(())
    }

    /// Whether an earlier run finished this file, and nothing happened to it since.
    fn is_whole(&self, path: &str) -> Result<bool> {
        let file = self.folder.join(path);
        match self.sums.get(path).filter(|_| file.is_file()) {
            Some(expected) => Ok(checksums::of_file(&file, |_| {})? == expected),
            None => Ok(false),
        }
    }

    /// Everything but weights.
    fn write_small_files(&mut self) -> Result<()> {
        for (part, files) in &self.plan.parts {
            let folder = self.folder.join(part.folder());
            fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
            if let Some(index) = weight_files::index(files) {
                let path = format!("{}/{}", part.folder(), weight_files::INDEX_FILE);
                write_text(&self.folder.join(&path), &index)?;
                self.insert_sum(&path)?;
            }
        }
        let copied =
            ["t5/config.json", "t5/tokenizer.json", "stdit3/config.json", "vae/config.json"];
        for path in copied {
            self.copy_text(path)?;
        }
        if self.source.location().join("generation_config.json").exists() {
            self.copy_text("generation_config.json")?;
        }
        self.insert_sum(MANIFEST_FILE)?;
        self.sums.write(self.folder)
    }

    fn copy_text(&mut self, path: &str) -> Result<()> {
        let file = self.source.location().join(path);
        let text = fs::read_to_string(&file).map_err(|source| ModelError::Io { file, source })?;
        write_text(&self.folder.join(path), &text)?;
        self.insert_sum(path)
    }

    fn insert_sum(&mut self, path: &str) -> Result<()> {
        let sum = checksums::of_file(&self.folder.join(path), |_| {})?;
        self.sums.insert(path, sum);
        Ok(())
    }
}

/// Writes one file and returns its checksum.
fn write_file(
    source: &Checkpoint,
    file: &PlannedFile,
    path: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<String> {
    let refused = |source| write_error(path, source);
    let new = NewFile::create_hashed(path)?;
    let mut writer = SafetensorsWriter::new(new, &file.tensors, ALIGNMENT).map_err(refused)?;
    for tensor in &file.tensors {
        copy::copy(source, tensor, |bytes| {
            writer.write(bytes).map_err(refused)?;
            report(bytes.len() as u64);
            Ok(())
        })?;
    }
    writer.finish().map_err(refused)?.complete()
}

/// A model cannot be packed over itself.
fn check_apart(source: &Path, folder: &Path) -> Result<()> {
    let resolved = |path: &Path| fs::canonicalize(path).ok();
    match (resolved(source), resolved(folder)) {
        (Some(source), Some(target)) if source.starts_with(&target) => {
            let reason = "the model to pack is in it; choose another name".to_string();
            Err(ToolError::FolderTaken { folder: folder.to_path_buf(), reason })
        }
        _ => Ok(()),
    }
}
