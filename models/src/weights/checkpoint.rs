//! The weights of one model part, in whichever of the published forms they come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Shape, Tensor};
use serde::Deserialize;

use super::gguf_header::MAGIC;
use super::names::{official_name, official_shape};
use super::{
    BlockType, GgufFile, PytorchFile, SafetensorsFile, TensorInfo, TensorSource, WeightFile,
    missing_tensor,
};
use crate::error::{ModelError, Result};

/// File names that are looked for in a folder, best first; an index names the shards of a split checkpoint.
const FILE_NAMES: [&str; 8] = [
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin.index.json",
];

/// The ending of a GGUF file, which may have any name: published ones tell model and quantisation in it.
const GGUF_ENDING: &str = "gguf";

/// The weights of one model part: one file or several, safetensors, PyTorch or GGUF, under official names.
///
/// Opening reads headers only. Names and shapes that published files vary in are translated; see
/// [`names`](super::names).
pub struct Checkpoint {
    location: PathBuf,
    files: Vec<Box<dyn TensorSource>>,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    file: usize,
    stored_name: String,
    /// With the official shape.
    info: TensorInfo,
}

impl Checkpoint {
    /// Opens a weight file, an index of shards (`*.index.json`), or a folder that holds either.
    ///
    /// # Errors
    /// [`ModelError::MissingFile`] when there is none, [`ModelError::Io`], [`ModelError::CorruptFile`], or
    /// [`ModelError::Config`] for an index that cannot be used.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { weight_file(path)? } else { path.to_path_buf() };
        if file.extension().is_some_and(|extension| extension == "json") {
            return Self::open_shards(&file);
        }
        Self::from_source(open_file(&file)?)
    }

    /// Puts the official names over a single source, such as a file that is compiled into the program.
    ///
    /// # Errors
    /// [`ModelError::CorruptFile`] when a header cannot be read.
    pub fn from_source(source: Box<dyn TensorSource>) -> Result<Self> {
        let location = source.location().to_path_buf();
        let placed = source.names().into_iter().map(|name| (name, 0)).collect();
        Self::assemble(location, vec![source], placed)
    }

    fn open_shards(index_file: &Path) -> Result<Self> {
        let index = ShardIndex::read(index_file)?;
        let folder = index_file.parent().unwrap_or(Path::new(""));
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files = Vec::new();
        let mut placed = BTreeMap::new();
        for (name, shard) in &index.weight_map {
            let number = match numbers.get(shard.as_str()) {
                Some(&number) => number,
                None => {
                    files.push(open_file(&folder.join(shard))?);
                    numbers.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            placed.insert(name.clone(), number);
        }
        Self::assemble(index_file.to_path_buf(), files, placed)
    }

    /// `placed` tells for each stored name in which file it is.
    fn assemble(
        location: PathBuf,
        files: Vec<Box<dyn TensorSource>>,
        placed: BTreeMap<String, usize>,
    ) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (stored_name, &file) in &placed {
            let source = &files[file];
            let mut info = source.info(stored_name).ok_or_else(|| ModelError::CorruptFile {
                file: source.location().to_path_buf(),
                reason: format!(
                    "it does not hold the tensor `{stored_name}` that {} places in it",
                    location.display()
                ),
            })?;
            let official = official_name(stored_name, |name| placed.contains_key(name));
            info.shape = official_shape(&official, &info.shape).to_vec();
            let entry = Entry { file, stored_name: stored_name.clone(), info };
            if let Some(other) = tensors.insert(official.clone(), entry) {
                return Err(ModelError::CorruptFile {
                    file: source.location().to_path_buf(),
                    reason: format!(
                        "its tensors `{}` and `{stored_name}` are both `{official}`",
                        other.stored_name
                    ),
                });
            }
        }
        Ok(Self { location, files, tensors })
    }

    fn entry(&self, name: &str, shape: &Shape) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| missing_tensor(&self.location, name, shape))
    }
}

impl TensorSource for Checkpoint {
    fn location(&self) -> &Path {
        &self.location
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|entry| entry.info.clone())
    }

    fn quantised(&self, name: &str) -> Option<BlockType> {
        let entry = self.tensors.get(name)?;
        self.files[entry.file].quantised(&entry.stored_name)
    }

    fn has_rows_in_one_piece(&self, name: &str) -> bool {
        self.tensors
            .get(name)
            .is_none_or(|entry| self.files[entry.file].has_rows_in_one_piece(&entry.stored_name))
    }

    fn files(&self) -> Vec<WeightFile<'_>> {
        self.files.iter().flat_map(|file| file.files()).collect()
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let entry = self.entry(name, shape)?;
        let tensor = self.files[entry.file].read(&entry.stored_name, shape, dtype, device)?;
        Ok(tensor.reshape(entry.info.shape.as_slice())?)
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let entry = self.entry(name, shape)?;
        let file = &self.files[entry.file];
        let tensor = file.read_rows(&entry.stored_name, shape, rows, dtype, device)?;
        let row_shape = entry.info.shape.get(1..).unwrap_or_default();
        Ok(tensor.reshape([&[rows.len()], row_shape].concat())?)
    }
}

/// Which shard holds which tensor, as Hugging Face writes it.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    fn read(file: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { file: file.to_path_buf(), source };
        let text = std::fs::read_to_string(file).map_err(io)?;
        let unusable = |reason| ModelError::Config { file: file.to_path_buf(), reason };
        let index: Self =
            serde_json::from_str(&text).map_err(|cause| unusable(cause.to_string()))?;
        for shard in index.weight_map.values() {
            let mut parts = Path::new(shard).components();
            // A shard lies beside its index; a path would let an index point anywhere on the disk.
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(unusable(format!("`{shard}` is not the name of a file beside it")));
            }
        }
        Ok(index)
    }
}

/// The weight file, or index of shards, in `folder`: one of the usual names, or else the one GGUF file.
fn weight_file(folder: &Path) -> Result<PathBuf> {
    let found = FILE_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    if let Some(file) = found {
        return Ok(file);
    }
    let mut gguf_files = gguf_files(folder)?;
    match (gguf_files.pop(), gguf_files.pop()) {
        (Some(file), None) => Ok(file),
        (Some(file), Some(other)) => {
            let others = gguf_files.len() + 1;
            let reason = format!(
                "it is one of several GGUF files in its folder ({} is another of {others}): keep one, unsplit",
                other.display()
            );
            Err(ModelError::Config { file, reason })
        }
        _ => Err(ModelError::MissingFile {
            file: folder.join(FILE_NAMES[0]),
            hint: format!(
                "a model folder holds its weights as one of {}, or as a GGUF file",
                FILE_NAMES.join(", ")
            ),
        }),
    }
}

/// The GGUF files in `folder`, by name.
fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| ModelError::Io { file: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.extension().is_some_and(|ending| ending == GGUF_ENDING) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Opens one file as what its first bytes say it is, whatever its name.
fn open_file(file: &Path) -> Result<Box<dyn TensorSource>> {
    if !file.is_file() {
        let hint = "weights belong there".to_string();
        return Err(ModelError::MissingFile { file: file.to_path_buf(), hint });
    }
    let io = |source| ModelError::Io { file: file.to_path_buf(), source };
    let mut start = Vec::new();
    File::open(file).map_err(io)?.take(16).read_to_end(&mut start).map_err(io)?;
    let corrupt =
        |reason: &str| ModelError::CorruptFile { file: file.to_path_buf(), reason: reason.into() };
    if start.is_empty() {
        return Err(corrupt("it is empty"));
    }
    // Read as the length of a safetensors header, this would be more than that format allows.
    if start.starts_with(MAGIC) {
        return Ok(Box::new(GgufFile::open(file)?));
    }
    // The length of a safetensors header, in the first 8 bytes, may look like any of the marks below.
    if start.get(8) == Some(&b'{') {
        return Ok(Box::new(SafetensorsFile::open(file)?));
    }
    if start.starts_with(b"PK\x03\x04") {
        return Ok(Box::new(PytorchFile::open(file)?));
    }
    if start.starts_with(b"version https://") {
        return Err(corrupt("it is a Git LFS pointer, not the weights: run `git lfs pull`"));
    }
    if start.starts_with(&[0x80, 0x02]) {
        return Err(corrupt(
            "it was saved in the format of PyTorch before 1.6: load and save it with a newer PyTorch",
        ));
    }
    Ok(Box::new(SafetensorsFile::open(file)?))
}
