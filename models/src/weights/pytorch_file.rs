//! One PyTorch `.bin` file.
//!
//! Since version 1.6 `torch.save` writes a zip archive: a pickle that describes the tensors, and one entry a storage,
//! stored without compression, so that a tensor can be read where it lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{DType, Device, Shape, Tensor};
use zip::ZipArchive;

use super::file_bytes::FileBytes;
use super::pickle::{self, PickledTensor};
use super::stored_tensor::{Extent, StoredTensor};
use super::{TensorInfo, TensorSource, WeightFile, missing_tensor};
use crate::error::{ModelError, Result};

/// A PyTorch archive: its description is read and checked at once, data is read when asked for.
pub struct PytorchFile {
    bytes: FileBytes,
    tensors: BTreeMap<String, Located>,
}

struct Located {
    tensor: PickledTensor,
    /// From the tensor's first element to the end of its storage.
    extent: Extent,
}

impl Located {
    fn stored<'a>(&'a self, file: &'a FileBytes) -> Option<StoredTensor<'a>> {
        let tensor = &self.tensor;
        StoredTensor::strided(file, self.extent, tensor.dtype, &tensor.shape, &tensor.strides)
    }
}

impl PytorchFile {
    /// Opens `path` and reads its description.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::CorruptFile`] when it is no such archive, is cut short, or describes a
    /// tensor that does not fit its storage.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = FileBytes::open(path)?;
        let file = File::open(path)
            .map_err(|source| ModelError::Io { file: path.to_path_buf(), source })?;
        let corrupt = |reason| ModelError::CorruptFile { file: path.to_path_buf(), reason };
        let tensors = locate(file, &bytes).map_err(corrupt)?;
        Ok(Self { bytes, tensors })
    }

    fn stored(&self, name: &str, shape: &Shape) -> Result<StoredTensor<'_>> {
        let located = self.tensors.get(name);
        // Opening checked that every tensor fits the file, so only an unknown name gives `None`.
        let stored = located.and_then(|located| located.stored(&self.bytes));
        stored.ok_or_else(|| missing_tensor(self.location(), name, shape))
    }
}

/// Finds every tensor of the archive in `file`, whose bytes are `bytes`.
fn locate(file: File, bytes: &FileBytes) -> Result<BTreeMap<String, Located>, String> {
    let broken = |cause: zip::result::ZipError| {
        format!("it is no PyTorch archive, or it is cut short ({cause})")
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let names: Result<Vec<String>, _> =
        archive.file_names().map(|name| name.map(|name| name.into_owned())).collect();
    let description =
        names.map_err(broken)?.into_iter().find(|name| name.ends_with("/data.pkl")).ok_or(
            "it is a zip archive, but holds no data.pkl: it was not written by torch.save",
        )?;
    let root = description.strip_suffix("data.pkl").unwrap_or_default().to_string();

    // Reading an entry to its end also checks its CRC, so a damaged pickle ends here.
    let mut pickle = Vec::new();
    let mut entry = archive.by_name(&description).map_err(broken)?;
    entry.read_to_end(&mut pickle).map_err(|cause| format!("its data.pkl is damaged ({cause})"))?;
    drop(entry);

    let mut tensors = BTreeMap::new();
    for tensor in pickle::tensors(&pickle)? {
        let storage =
            entry_bytes(&mut archive, &format!("{root}data/{}", tensor.storage), bytes.length())?;
        let skipped = tensor.offset.checked_mul(tensor.dtype.size_in_bytes());
        // What begins behind its storage has no bytes there, and so does not fit.
        let skipped = skipped.map_or(storage.bytes, |skipped| storage.bytes.min(skipped as u64));
        let extent = Extent { start: storage.start + skipped, bytes: storage.bytes - skipped };
        let located = Located { tensor, extent };
        if located.stored(bytes).is_none() {
            let PickledTensor { name, shape, .. } = &located.tensor;
            return Err(format!("tensor `{name}` of shape {shape:?} does not fit its storage"));
        }
        tensors.insert(located.tensor.name.clone(), located);
    }
    Ok(tensors)
}

/// Where the data of an uncompressed entry lies in the file.
fn entry_bytes(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    file_length: u64,
) -> Result<Extent, String> {
    let unreadable = |cause| format!("its entry `{name}` cannot be read ({cause})");
    let entry = archive.by_name(name).map_err(|cause| unreadable(cause.to_string()))?;
    if entry.compression() != zip::CompressionMethod::Stored {
        return Err(unreadable("it is compressed, which torch.save never does".into()));
    }
    let start = entry.data_start().ok_or_else(|| unreadable("it has no data".into()))?;
    let end = start.checked_add(entry.size()).filter(|&end| end <= file_length);
    end.map(|_| Extent { start, bytes: entry.size() })
        .ok_or_else(|| unreadable("it reaches beyond the end of the file".into()))
}

impl TensorSource for PytorchFile {
    fn location(&self) -> &Path {
        self.bytes.path()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let tensor = &self.tensors.get(name)?.tensor;
        let elements = tensor.shape.iter().product::<usize>();
        Some(TensorInfo {
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
            stored_bytes: (elements * tensor.dtype.size_in_bytes()) as u64,
        })
    }

    fn has_rows_in_one_piece(&self, name: &str) -> bool {
        let Some(located) = self.tensors.get(name) else { return true };
        let shape = Shape::from(located.tensor.shape.as_slice());
        self.stored(name, &shape).is_ok_and(|stored| stored.is_row_major())
    }

    fn files(&self) -> Vec<WeightFile<'_>> {
        vec![WeightFile(&self.bytes)]
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.stored(name, shape)?.read(dtype, device)
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.stored(name, shape)?.read_rows(rows, dtype, device)
    }
}
