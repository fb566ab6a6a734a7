//! One `.safetensors` file, memory-mapped or compiled in.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Shape, Tensor};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, SafeTensors};

use super::{TensorInfo, TensorSource};
use crate::error::{ModelError, Result};

enum Bytes {
    Mapped(Mmap),
    Static(Cow<'static, [u8]>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// A safetensors file: the header is parsed and checked at once, data is read when asked for.
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Bytes,
    header: Metadata,
    data_start: usize,
}

impl SafetensorsFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::CorruptFile`] when the header does not fit the file's length.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { file: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this process; a file that another process shortens
        // while it is mapped raises a bus error, as with every memory-mapped model format.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::new(path.to_path_buf(), Bytes::Mapped(map))
    }

    /// Uses bytes that are part of the program, or already in memory; `label` stands in for the path in errors.
    ///
    /// # Errors
    /// [`ModelError::CorruptFile`].
    pub fn from_bytes(label: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::new(PathBuf::from(label), Bytes::Static(bytes.into()))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let corrupt = |reason: String| ModelError::CorruptFile { file: path.clone(), reason };
        let (header_bytes, header) = SafeTensors::read_metadata(bytes.as_slice())
            .map_err(|cause| corrupt(format!("its header cannot be read ({cause})")))?;
        let data_start = header_bytes + 8;
        let (expected, found) = (data_start + header.data_len(), bytes.as_slice().len());
        if expected != found {
            return Err(corrupt(format!("its header promises {expected} bytes, it has {found}")));
        }
        Ok(Self { path, bytes, header, data_start })
    }
}

impl TensorSource for SafetensorsFile {
    fn location(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.header.tensors().into_keys().collect();
        names.sort();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.header.info(name)?;
        let (start, end) = info.data_offsets;
        let dtype = DType::try_from(info.dtype).ok()?;
        Some(TensorInfo { shape: info.shape.clone(), dtype, stored_bytes: (end - start) as u64 })
    }

    fn read(&self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        let info = self.header.info(name).ok_or_else(|| ModelError::MissingTensor {
            file: self.path.clone(),
            tensor: name.to_string(),
            shape: shape.dims().to_vec(),
            hint: String::new(),
        })?;
        let dtype = DType::try_from(info.dtype).map_err(|_| ModelError::CorruptFile {
            file: self.path.clone(),
            reason: format!("tensor `{name}` has dtype {:?}, which is not supported", info.dtype),
        })?;
        let (start, end) = info.data_offsets;
        let data = &self.bytes.as_slice()[self.data_start + start..self.data_start + end];
        Ok(Tensor::from_raw_buffer(data, dtype, &info.shape, device)?)
    }
}
