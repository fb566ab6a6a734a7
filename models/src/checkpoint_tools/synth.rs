//! A model folder out of nothing: random weights in the layout of the published files.

use std::path::Path;

use serde_json::Value;

use super::disk_space;
use super::error::Result;
use super::new_file::NewFile;
use super::preset::Preset;
use super::random_weights::RandomWeights;
use super::safetensors_writer::{PlannedTensor, SafetensorsWriter};
use super::staged_folder::{StagedFolder, write_error};
use super::storage_dtype::StorageDtype;
use super::weight_files::{self, PlannedFile};
use super::{Progress, write_json, write_text};
use crate::bundle::{ModelBundle, PartName};
use crate::weights::names::STDIT3_IGNORABLE;

/// What to make up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthesis {
    /// The sizes.
    pub preset: Preset,
    /// The number format of the weights.
    pub dtype: StorageDtype,
    /// What the weights follow from, together with their names.
    pub seed: u64,
    /// Whether a model that is in the folder already is replaced.
    pub replace: bool,
}

/// A tokenizer that splits English into a few hundred pieces: that of the embedded model.
const STAND_IN_TOKENIZER: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/weights/t5/tokenizer.json"));

/// Our choice: bytes made at a time. They fit a processor's second cache and are enough for a write.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// What a safetensors file written by Hugging Face's own library is aligned to.
const HEADER_ALIGNMENT: usize = 8;

impl Synthesis {
    /// Writes the model folder `folder` and returns how many bytes of weights it has.
    ///
    /// The folder is called `FOLDER.partial` until it is complete; after a failure nothing of it stays.
    ///
    /// # Errors
    /// The folder is in use, the disk is too small, or a file cannot be written.
    pub fn write(&self, folder: &Path, progress: &mut Progress<'_>) -> Result<u64> {
        let parts = PartName::ALL.map(|part| Ok((part, self.weight_files(part)?)));
        let parts: Vec<(PartName, Vec<PlannedFile>)> = parts.into_iter().collect::<Result<_>>()?;
        let files = parts.iter().flat_map(|(_, files)| files);
        let total_bytes = files.map(PlannedFile::data_bytes).sum();
        let staged = StagedFolder::begin(folder, self.replace)?;
        staged.clear()?;
        let written = disk_space::require(staged.path(), total_bytes)
            .and_then(|()| self.write_parts(&parts, staged.path(), total_bytes, progress))
            .and_then(|()| Ok(ModelBundle::open(staged.path()).map(drop)?));
        match written {
            Ok(()) => staged.publish(self.replace).map(|()| total_bytes),
            Err(cause) => {
                // The cause matters more than what may go wrong in tidying up after it.
                let _ = staged.discard();
                Err(cause)
            }
        }
    }

    fn weight_files(&self, part: PartName) -> Result<Vec<PlannedFile>> {
        let parameters = self.preset.parameters(part)?.into_iter();
        // Rotary frequencies follow from the config; random ones would be wrong.
        let stored = parameters.filter(|(name, _)| !STDIT3_IGNORABLE.contains(&name.as_str()));
        let dtype = self.dtype.dtype();
        let tensors = stored.map(|(name, shape)| PlannedTensor { name, shape, dtype }).collect();
        Ok(weight_files::named(weight_files::by_size(tensors, self.preset.shard_bytes())))
    }

    fn write_parts(
        &self,
        parts: &[(PartName, Vec<PlannedFile>)],
        folder: &Path,
        total_bytes: u64,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let mut generation = self.preset.generation();
        generation.name = format!("{}, random weights of seed {}", generation.name, self.seed);
        write_json(&folder.join("generation_config.json"), &generation)?;
        write_text(&folder.join("README.md"), &self.model_card())?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut done_bytes = 0;
        for (part, files) in parts {
            let folder = folder.join(part.folder());
            std::fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
            write_text(&folder.join("config.json"), self.preset.config_json(*part))?;
            if *part == PartName::T5 {
                write_text(&folder.join("tokenizer.json"), STAND_IN_TOKENIZER)?;
            }
            if let Some(index) = weight_files::index(files) {
                write_text(&folder.join(weight_files::INDEX_FILE), &index)?;
            }
            for file in files {
                let mut report = |bytes| {
                    done_bytes += bytes;
                    progress(done_bytes, total_bytes);
                };
                self.write_file(*part, file, &folder.join(&file.name), &mut piece, &mut report)?;
            }
        }
        Ok(())
    }

    fn write_file(
        &self,
        part: PartName,
        file: &PlannedFile,
        path: &Path,
        piece: &mut [u8],
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let refused = |source| write_error(path, source);
        let new = NewFile::create(path)?;
        let mut writer =
            SafetensorsWriter::new(new, &file.tensors, HEADER_ALIGNMENT).map_err(refused)?;
        for tensor in &file.tensors {
            let weights = self.weights(part, tensor);
            weights
                .stream(0..tensor.elements(), self.dtype, piece, |bytes| {
                    writer.write(bytes)?;
                    report(bytes.len() as u64);
                    Ok(())
                })
                .map_err(refused)?;
        }
        writer.finish().map_err(refused)?.complete().map(drop)
    }

    fn weights(&self, part: PartName, tensor: &PlannedTensor) -> RandomWeights {
        match config_values(self.preset.config_json(part), &tensor.name) {
            // The VAE's checkpoint repeats `scale` and `shift` of its config.
            Some(values) if part == PartName::Vae => RandomWeights::Given(values),
            _ => RandomWeights::of_part(self.seed, part, &tensor.name, &tensor.shape),
        }
    }

    /// What the folder says of itself.
    fn model_card(&self) -> String {
        let Self { preset, dtype, seed, .. } = self;
        format!(
            "# Random weights: {preset}\n\n\
             This folder has the layout, names and shapes of a model of the preset `{preset}`, and random {dtype}\n\
             weights (seed {seed}). It is for rehearsing memory and speed: its videos show noise.\n\n\
             - Weights of norms are 1; matrices, convolutions and tables have a deviation of 1 / sqrt(fan-in).\n\
             - `t5/tokenizer.json` is not T5's tokenizer but a stand-in of a few hundred pieces, whose ids are all\n  \
               within the vocabulary. It cuts a prompt into more tokens than T5's own would.\n"
        )
    }
}

/// The numbers that a config gives under `name` at its top level.
fn config_values(json: &str, name: &str) -> Option<Vec<f32>> {
    let config: Value = serde_json::from_str(json).ok()?;
    let values = config.get(name)?.as_array()?;
    values.iter().map(|value| value.as_f64().map(|value| value as f32)).collect()
}
