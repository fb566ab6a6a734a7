//! Rewriting a model for streaming: a file for each block.
//!
//! The format forbids gaps between tensors, so only the first tensor of a file can be put at a page's beginning,
//! by padding the header. Therefore each group of parameters that is loaded together (a block, what surrounds the
//! blocks, a decoder) is a shard of its own, listed in an index as Hugging Face does it: its bytes are contiguous,
//! in the order of use, and begin with a page. A shard is also what a stopped run goes on with.

pub(super) mod copy;
mod plan;
mod verify;

use std::fs;
use std::path::Path;

use self::plan::{ALIGNMENT, PackPlan};
use super::error::{Result, ToolError};
use super::new_file::NewFile;
use super::resumable::ResumableFolder;
use super::safetensors_writer::SafetensorsWriter;
use super::staged_folder::{StagedFolder, check_apart, write_error};
use super::storage_dtype::StorageDtype;
use super::weight_files::{self, PlannedFile};
use super::{Progress, disk_space};
use crate::bundle::{ModelBundle, PartName};
use crate::error::ModelError;
use crate::weights::{Checkpoint, TensorSource};

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
        if self.dtype.is_none() {
            check_plain(&bundle)?;
        }
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
    folder: ResumableFolder<'a>,
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
        let folder = ResumableFolder::begin(staged, MANIFEST_FILE, &plan.manifest, replace)?;
        let files = plan.parts.iter().flat_map(|(_, files)| files);
        let total_bytes = files.map(PlannedFile::data_bytes).sum();
        Ok(Self { plan, source, folder, total_bytes, kept_files: 0 })
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
            if self.folder.is_whole(&path)? {
                self.kept_files += 1;
                report(file.data_bytes());
            } else {
                missing.push((path, part, file));
            }
        }
        let missing_bytes = missing.iter().map(|(_, _, file)| file.data_bytes()).sum();
        disk_space::require(self.folder.path(), missing_bytes)?;
        for (path, part, file) in missing {
            let source = &self.source.part(part).source;
            let sum = write_file(source, file, &self.folder.path().join(&path), &mut report)?;
            self.folder.finished(&path, sum)?;
        }
        Ok(())
    }

    /// Everything but weights.
    fn write_small_files(&mut self) -> Result<()> {
        for (part, files) in &self.plan.parts {
            let folder = self.folder.path().join(part.folder());
            fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
            if let Some(index) = weight_files::index(files) {
                let path = format!("{}/{}", part.folder(), weight_files::INDEX_FILE);
                self.folder.write_text(&path, &index)?;
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
        self.folder.save()
    }

    fn copy_text(&mut self, path: &str) -> Result<()> {
        let file = self.source.location().join(path);
        let text = fs::read_to_string(&file).map_err(|source| ModelError::Io { file, source })?;
        self.folder.write_text(path, &text)
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

/// Safetensors files have no quantised tensors.
fn check_plain(bundle: &ModelBundle) -> Result<()> {
    for part in PartName::ALL {
        let source = &bundle.part(part).source;
        if let Some(tensor) =
            source.names().into_iter().find(|name| source.quantised(name).is_some())
        {
            return Err(ToolError::Quantised { file: source.location().to_path_buf(), tensor });
        }
    }
    Ok(())
}
