//! Weights by their official names, out of the official files, one block at a time.
//!
//! [`Weights`] is what model constructors see: a name prefix, a compute dtype and a device over some
//! [`TensorSource`]. Nothing is read before a constructor asks for it, so a block costs its own bytes only.

mod block_type;
mod checkpoint;
mod file_bytes;
mod gguf_file;
mod gguf_header;
mod llama_cpp_names;
mod load_group;
pub mod names;
mod pickle;
mod pickle_scan;
mod pytorch_file;
mod quantised_tensor;
mod recorder;
mod safetensors_file;
mod stored_tensor;
mod validate;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};

use self::file_bytes::FileBytes;
use crate::error::{ModelError, Result};

pub use block_type::BlockType;
pub use checkpoint::Checkpoint;
pub use gguf_file::GgufFile;
pub(crate) use gguf_header::{Encoding, MAGIC as GGUF_MAGIC, SHAPE_KEY};
pub use load_group::LoadGroup;
pub use pytorch_file::PytorchFile;
pub use recorder::ParameterRecorder;
pub use safetensors_file::SafetensorsFile;
pub use validate::{CheckpointMismatch, validate};

/// A tensor's header: known without reading its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Shape as stored.
    pub shape: Vec<usize>,
    /// Dtype as stored; of quantised tensors f32, which holds all that their blocks say.
    pub dtype: DType,
    /// Bytes as stored.
    pub stored_bytes: u64,
}

/// Something that holds named tensors: a checkpoint on disk, bytes in the program, or a recorder.
pub trait TensorSource: Send + Sync {
    /// The file or folder to name in errors.
    fn location(&self) -> &Path;

    /// Every tensor name, sorted.
    fn names(&self) -> Vec<String>;

    /// The header of one tensor; `None` when there is no such tensor.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// Whether there is such a tensor.
    fn has(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// Whether rows of a tensor can be read without reading much else.
    fn has_rows_in_one_piece(&self, _name: &str) -> bool {
        true
    }

    /// Hears that what was read is kept in a layout of so many elements more. Of use to a source that measures.
    fn note_larger_layout(&self, _more_elements: usize) {}

    /// As what the tensor is quantised; `None` when its numbers are stored as they are, or there is no such tensor.
    fn quantised(&self, _name: &str) -> Option<BlockType> {
        None
    }

    /// The files behind this source; none for sources that are no files.
    fn files(&self) -> Vec<WeightFile<'_>> {
        Vec::new()
    }

    /// Reads one tensor as `dtype`. `shape` is what the caller wants; the caller checks it.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], or whatever reading the file brings up.
    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;

    /// Reads some rows of the first axis, in the given order, as `dtype`. `shape` is that of the whole
    /// tensor. Sources on disk read those rows alone: an embedding table may be larger than memory.
    ///
    /// # Errors
    /// As [`TensorSource::read`]; [`ModelError::BadInput`] when there is no such row.
    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let rows = Tensor::new(rows, device)?;
        Ok(self.read(name, shape, dtype, device)?.index_select(&rows, 0)?)
    }
}

/// One file of weights, byte by byte.
pub struct WeightFile<'a>(&'a FileBytes);

impl WeightFile<'_> {
    /// Its path, or what stands in for it.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its length.
    pub fn length_bytes(&self) -> u64 {
        self.0.length()
    }

    /// Some of its bytes.
    ///
    /// # Errors
    /// It is not that long, or the operating system refuses.
    pub fn read(&self, offset: u64, length_bytes: usize) -> Result<Vec<u8>> {
        self.0.read_vec(offset, length_bytes)
    }
}

/// Bytes of some weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// As stored.
    pub stored: u64,
    /// In memory, in the compute dtype.
    pub resident: u64,
}

/// The error for a tensor that `file` does not have.
fn missing_tensor(file: &Path, name: &str, shape: &Shape) -> ModelError {
    ModelError::MissingTensor {
        file: file.to_path_buf(),
        tensor: name.to_string(),
        shape: shape.dims().to_vec(),
        hint: String::new(),
    }
}

/// A named place within a [`TensorSource`], as `state_dict` prefixes name it.
#[derive(Clone)]
pub struct Weights {
    source: Arc<dyn TensorSource>,
    prefix: String,
    dtype: DType,
    device: Device,
}

impl Weights {
    /// The root of `source`; every tensor comes out as `dtype` on `device`.
    pub fn new(source: Arc<dyn TensorSource>, dtype: DType, device: &Device) -> Self {
        Self { source, prefix: String::new(), dtype, device: device.clone() }
    }

    /// The place one name segment further down: `weights.pp("blocks").pp(3)`.
    pub fn pp(&self, segment: impl Display) -> Self {
        Self { prefix: self.full_name(&segment.to_string()), ..self.clone() }
    }

    /// The same place, with tensors coming out as `dtype`.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, ..self.clone() }
    }

    /// Reads a tensor in the compute dtype.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`] or [`ModelError::TensorShape`], naming file, tensor and shapes.
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let (name, shape) = (self.full_name(name), shape.into());
        if let Some(info) = self.source.info(&name) {
            self.check_shape(&name, &shape, &info.shape)?;
        }
        self.source.read(&name, &shape, self.dtype, &self.device)
    }

    /// Reads some rows of a table of `shape` in the compute dtype. Only those rows are read, so a
    /// lookup in an embedding table costs no more memory than its result.
    ///
    /// # Shapes
    /// `[rows.len(), shape[1..]]`.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], [`ModelError::TensorShape`], or [`ModelError::BadInput`] when a row is beyond
    /// the table.
    pub fn rows(&self, name: &str, shape: impl Into<Shape>, rows: &[u32]) -> Result<Tensor> {
        let (name, shape) = (self.full_name(name), shape.into());
        if let Some(info) = self.source.info(&name) {
            self.check_shape(&name, &shape, &info.shape)?;
        }
        self.source.read_rows(&name, &shape, rows, self.dtype, &self.device)
    }

    /// Whether [`Weights::rows`] of a tensor reads those rows alone; if not, reading the whole tensor once costs less.
    pub(crate) fn has_rows_in_one_piece(&self, name: &str) -> bool {
        self.source.has_rows_in_one_piece(&self.full_name(name))
    }

    fn check_shape(&self, name: &str, expected: &Shape, found: &[usize]) -> Result<()> {
        if expected.dims() == found {
            return Ok(());
        }
        Err(ModelError::TensorShape {
            file: self.location(),
            tensor: name.to_string(),
            expected: expected.dims().to_vec(),
            found: found.to_vec(),
        })
    }

    /// What `load` would read from here, without reading it: every tensor that it asks for, as stored and as it would be
    /// in memory.
    ///
    /// # Errors
    /// Whatever `load` brings up.
    pub fn measure(&self, load: impl FnOnce(&Self) -> Result<()>) -> Result<WeightBytes> {
        let recorder = Arc::new(ParameterRecorder::default());
        load(&Self::new(recorder.clone(), self.dtype, &self.device))?;
        let mut elements = recorder.larger_layouts();
        let mut stored = 0;
        for (name, shape) in recorder.parameters() {
            elements += shape.iter().product::<usize>();
            let info = self.source.info(&self.full_name(&name));
            stored += info.map_or(0, |info| info.stored_bytes);
        }
        Ok(WeightBytes { stored, resident: (elements * self.dtype.size_in_bytes()) as u64 })
    }

    /// Tells that what was read from here is kept in a layout of so many elements more than it has, so that
    /// [`Weights::measure`] counts them.
    pub(crate) fn note_larger_layout(&self, more_elements: usize) {
        self.source.note_larger_layout(more_elements);
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.source.has(&self.full_name(name))
    }

    /// The dtype that tensors come out in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that tensors come out on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The source behind this place.
    pub fn source(&self) -> &Arc<dyn TensorSource> {
        &self.source
    }

    /// The file or folder behind this place, for errors.
    pub fn location(&self) -> PathBuf {
        self.source.location().to_path_buf()
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
