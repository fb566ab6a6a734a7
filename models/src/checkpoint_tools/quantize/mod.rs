//! Rewriting a model with quantised weights: a GGUF file for each network.
//!
//! What is quantised are the matrices of the text encoder's and the transformer's blocks, where nearly all bytes are.
//! What surrounds the blocks is read once, and small errors in norms, biases and tables would cost more than their few
//! bytes; the autoencoder is convolutions, which the types of blocks are not made for.

mod plan;
mod quantized_type;
mod rows;

use std::fs;
use std::io::Write;
use std::path::Path;

use self::plan::QuantizePlan;
use super::error::{Result, ToolError};
use super::gguf_writer::{GgufEntry, GgufWriter};
use super::new_file::NewFile;
use super::pack::copy;
use super::resumable::ResumableFolder;
use super::safetensors_writer::PlannedTensor;
use super::staged_folder::{StagedFolder, check_apart, write_error};
use super::{Progress, checksums, disk_space, pretty_json};
use crate::bundle::{ModelBundle, PartName};
use crate::error::ModelError;
use crate::weights::{Checkpoint, Encoding, TensorSource, WeightFile};

pub use plan::{PartSummary, Treatment};
pub use quantized_type::QuantizedType;

/// How to quantise a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// What its weights become.
    pub quantized_type: QuantizedType,
    /// The networks that are quantised: those of [`Quantization::PARTS`], or some of them. The others stay as they are.
    pub parts: Vec<PartName>,
    /// Whether a model that is in the folder already is replaced.
    pub replace: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantized {
    /// Bytes of weights in the folder.
    pub bytes: u64,
    /// Weight files of a run that was stopped, which were found to be whole and kept.
    pub kept_files: usize,
    /// What became of each network that was quantised.
    pub parts: Vec<PartSummary>,
}

const MANIFEST_FILE: &str = "quantize.json";
const WEIGHT_FILE: &str = "model.gguf";

impl Quantization {
    /// The networks that have matrices to quantise.
    pub const PARTS: [PartName; 2] = [PartName::T5, PartName::Stdit3];

    /// Writes the quantised model as the folder `folder`. Networks that stay as they are take no room where the file
    /// system can give a file a second name.
    ///
    /// The folder is called `FOLDER.partial` until it is complete. When the run is stopped, the same call goes on behind
    /// the last finished file.
    ///
    /// # Errors
    /// A network is quantised already, the folder is in use, the disk is too small, a number is not finite, or a file
    /// cannot be read or written.
    pub fn write(
        &self,
        source: &ModelBundle,
        folder: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Quantized> {
        check_apart(source.location(), folder)?;
        let plan = QuantizePlan::new(source, self)?;
        let staged = StagedFolder::begin(folder, self.replace)?;
        let resumable =
            ResumableFolder::begin(&staged, MANIFEST_FILE, &plan.manifest, self.replace)?;
        let mut run =
            Run { source, folder: resumable, done_bytes: 0, total_bytes: 0, kept_files: 0 };
        let written = run.write(&plan, progress);
        let (bytes, kept_files) = (run.total_bytes, run.kept_files);
        match written {
            // Going on would end at the same number, or there is nothing to go on with.
            Err(cause @ (ToolError::NotQuantisable { .. } | ToolError::DiskSpace { .. }))
                if kept_files == 0 =>
            {
                // The cause matters more than trouble in tidying up.
                let _ = staged.discard();
                return Err(cause);
            }
            written => written?,
        }
        ModelBundle::open(staged.path())?;
        staged.publish(self.replace)?;
        Ok(Quantized { bytes, kept_files, parts: plan.summaries })
    }
}

/// One run, which may go on with what an earlier one left.
struct Run<'a> {
    source: &'a ModelBundle,
    folder: ResumableFolder<'a>,
    done_bytes: u64,
    total_bytes: u64,
    kept_files: usize,
}

impl Run<'_> {
    fn write(&mut self, plan: &QuantizePlan, progress: &mut Progress<'_>) -> Result<()> {
        let source = self.source;
        self.write_small_files()?;
        let planned = |part| plan.parts.iter().find(|(planned, _)| *planned == part);
        for part in PartName::ALL {
            self.total_bytes += match planned(part) {
                Some((_, tensors)) => tensors.iter().map(GgufEntry::bytes).sum::<u64>(),
                None => source.part(part).source.files().iter().map(WeightFile::length_bytes).sum(),
            };
        }
        for part in PartName::ALL {
            let checkpoint = &source.part(part).source;
            match planned(part) {
                Some((_, tensors)) => self.quantise(part, checkpoint, tensors, progress)?,
                None => self.take_over(part, checkpoint, progress)?,
            }
        }
        Ok(())
    }

    /// Everything but weights.
    fn write_small_files(&mut self) -> Result<()> {
        for part in PartName::ALL {
            let folder = self.folder.path().join(part.folder());
            fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
            let config = &self.source.part(part).config_json;
            self.folder.write_text(&format!("{part}/config.json"), config)?;
        }
        self.folder.write_text("t5/tokenizer.json", self.source.tokenizer_json())?;
        let path = "generation_config.json";
        let generation = pretty_json(&self.folder.path().join(path), self.source.generation())?;
        self.folder.write_text(path, &generation)?;
        self.folder.save()
    }

    /// Writes one network anew.
    fn quantise(
        &mut self,
        part: PartName,
        source: &Checkpoint,
        tensors: &[GgufEntry],
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let path = format!("{part}/{WEIGHT_FILE}");
        let bytes = tensors.iter().map(GgufEntry::bytes).sum();
        if self.is_kept(&path, bytes, progress)? {
            return Ok(());
        }
        disk_space::require(self.folder.path(), bytes)?;
        let file = self.folder.path().join(&path);
        let refused = |source| write_error(&file, source);
        let new = NewFile::create_hashed(&file)?;
        let name = &self.source.generation().name;
        let mut writer = GgufWriter::new(new, part.folder(), name, tensors).map_err(refused)?;
        for tensor in tensors {
            let mut take = |bytes: &[u8]| {
                writer.write(bytes).map_err(refused)?;
                self.done_bytes += bytes.len() as u64;
                progress(self.done_bytes, self.total_bytes);
                Ok(())
            };
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            match tensor.encoding {
                Encoding::Blocks(block_type) => {
                    rows::quantise(source, &name, &shape, block_type, &mut take)?;
                }
                Encoding::Plain(dtype) => {
                    copy::copy(source, &PlannedTensor { name, shape, dtype }, &mut take)?;
                }
            }
        }
        let sum = writer.finish().map_err(refused)?.complete()?;
        self.folder.finished(&path, sum)
    }

    /// Gives the files of a network a place in the new folder as well.
    fn take_over(
        &mut self,
        part: PartName,
        source: &Checkpoint,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        for file in source.files() {
            let name = file.path().file_name().unwrap_or_default().to_string_lossy();
            let path = format!("{part}/{name}");
            if self.is_kept(&path, file.length_bytes(), progress)? {
                continue;
            }
            let target = self.folder.path().join(&path);
            if !link(file.path(), &target) {
                disk_space::require(self.folder.path(), file.length_bytes())?;
                copy_file(&file, &target)?;
            }
            let sum = checksums::of_file(&target, |bytes| {
                self.done_bytes += bytes;
                progress(self.done_bytes, self.total_bytes);
            })?;
            self.folder.finished(&path, sum)?;
        }
        // The names of shards are in an index, which a checkpoint of shards goes by.
        let index = source.location();
        if index.extension().is_some_and(|ending| ending == "json") {
            let unreadable = |source| ModelError::Io { file: index.to_path_buf(), source };
            let text = fs::read_to_string(index).map_err(unreadable)?;
            let name = index.file_name().unwrap_or_default().to_string_lossy();
            self.folder.write_text(&format!("{part}/{name}"), &text)?;
            self.folder.save()?;
        }
        Ok(())
    }

    /// Whether an earlier run finished this file.
    fn is_kept(&mut self, path: &str, bytes: u64, progress: &mut Progress<'_>) -> Result<bool> {
        let kept = self.folder.is_whole(path)?;
        if kept {
            self.kept_files += 1;
            self.done_bytes += bytes;
            progress(self.done_bytes, self.total_bytes);
        }
        Ok(kept)
    }
}

/// Our choice: bytes that are copied at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// Gives a file a second name; `false` when there is no such file, or the file system cannot do that.
fn link(file: &Path, target: &Path) -> bool {
    // What is at the target is of a run that was stopped, and is not known to be whole.
    let _ = fs::remove_file(target);
    // A symbolic link would be linked itself, and might lead nowhere from the new place.
    fs::canonicalize(file).and_then(|file| fs::hard_link(file, target)).is_ok()
}

fn copy_file(file: &WeightFile<'_>, target: &Path) -> Result<()> {
    let mut new = NewFile::create(target)?;
    let mut offset = 0;
    while offset < file.length_bytes() {
        let length = PIECE_BYTES.min(file.length_bytes() - offset);
        let bytes = file.read(offset, length as usize)?;
        new.write_all(&bytes).map_err(|source| write_error(target, source))?;
        offset += length;
    }
    new.complete().map(drop)
}
