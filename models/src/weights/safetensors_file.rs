//! One `.safetensors` file, on disk or compiled in.

use std::borrow::Cow;
use std::path::Path;

use candle_core::{DType, Device, Shape, Tensor};
use safetensors::tensor::{Metadata, SafeTensors};

use super::file_bytes::FileBytes;
use super::stored_tensor::{Extent, StoredTensor};
use super::{TensorInfo, TensorSource, WeightFile, missing_tensor};
use crate::error::{ModelError, Result};

/// A safetensors file: the header is parsed and checked at once, data is read when asked for.
pub struct SafetensorsFile {
    bytes: FileBytes,
    header: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::CorruptFile`] when the header does not fit the file's length.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(FileBytes::open(path)?)
    }

    /// Uses bytes that are part of the program, or already in memory; `label` stands in for the path in errors.
    ///
    /// # Errors
    /// [`ModelError::CorruptFile`].
    pub fn from_bytes(label: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::new(FileBytes::in_memory(label, bytes.into()))
    }

    fn new(bytes: FileBytes) -> Result<Self> {
        let path = bytes.path().to_path_buf();
        let corrupt = |reason: String| ModelError::CorruptFile { file: path.clone(), reason };
        let (header_bytes, header) = bytes
            .view(|bytes| SafeTensors::read_metadata(bytes))?
            .map_err(|cause| corrupt(format!("its header cannot be read ({cause})")))?;
        let data_start = header_bytes as u64 + 8;
        let (expected, found) = (data_start + header.data_len() as u64, bytes.length());
        if expected != found {
            return Err(corrupt(format!("its header promises {expected} bytes, it has {found}")));
        }
        let file = Self { bytes, header, data_start };
        for (name, info) in file.header.tensors() {
            if DType::try_from(info.dtype).is_err() {
                return Err(corrupt(format!(
                    "tensor `{name}` has dtype {:?}, which is not supported",
                    info.dtype
                )));
            }
            if file.stored(&name).is_none() {
                let shape = &info.shape;
                return Err(corrupt(format!(
                    "tensor `{name}` has the shape {shape:?}, which cannot be"
                )));
            }
        }
        Ok(file)
    }

    fn stored(&self, name: &str) -> Option<StoredTensor<'_>> {
        let info = self.header.info(name)?;
        let dtype = DType::try_from(info.dtype).ok()?;
        let (start, end) = info.data_offsets;
        let extent = Extent { start: self.data_start + start as u64, bytes: (end - start) as u64 };
        StoredTensor::contiguous(&self.bytes, extent, dtype, &info.shape)
    }
}

impl TensorSource for SafetensorsFile {
    fn location(&self) -> &Path {
        self.bytes.path()
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

    fn files(&self) -> Vec<WeightFile<'_>> {
        vec![WeightFile(&self.bytes)]
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let stored =
            self.stored(name).ok_or_else(|| missing_tensor(self.location(), name, shape))?;
        stored.read(dtype, device)
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let stored =
            self.stored(name).ok_or_else(|| missing_tensor(self.location(), name, shape))?;
        stored.read_rows(rows, dtype, device)
    }
}
