//! One GGUF file, the format of ggml, llama.cpp and what builds on them: plain and quantised tensors.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Shape, Tensor};

use super::block_type::BlockType;
use super::file_bytes::FileBytes;
use super::gguf_header::{self, Encoding, GgufTensor};
use super::quantised_tensor::QuantisedTensor;
use super::stored_tensor::StoredTensor;
use super::{TensorInfo, TensorSource, WeightFile, missing_tensor};
use crate::error::{ModelError, Result};

/// A GGUF file: the header is read and checked at once, data is read when asked for. Quantised tensors come out dense, in
/// whatever dtype is asked for, and what is read of them is the few bytes that are stored.
pub struct GgufFile {
    bytes: FileBytes,
    tensors: BTreeMap<String, GgufTensor>,
}

/// A tensor that can be read.
enum Stored<'a> {
    Plain(StoredTensor<'a>),
    Quantised(QuantisedTensor<'a>),
}

impl GgufFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::CorruptFile`] when the header cannot be read, does not fit the file, or
    /// describes types that are not known.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(FileBytes::open(path)?)
    }

    fn new(bytes: FileBytes) -> Result<Self> {
        let tensors = gguf_header::read(&bytes).map_err(|reason| ModelError::CorruptFile {
            file: bytes.path().to_path_buf(),
            reason,
        })?;
        Ok(Self { bytes, tensors })
    }

    fn stored(&self, name: &str, shape: &Shape) -> Result<Stored<'_>> {
        let stored = self.tensors.get(name).and_then(|tensor| match tensor.encoding {
            Encoding::Plain(dtype) => {
                let stored =
                    StoredTensor::contiguous(&self.bytes, tensor.extent, dtype, &tensor.shape);
                stored.map(Stored::Plain)
            }
            Encoding::Blocks(block_type) => Some(Stored::Quantised(QuantisedTensor {
                file: &self.bytes,
                start: tensor.extent.start,
                block_type,
                shape: &tensor.shape,
            })),
        });
        // Opening checked that every tensor fits the file, so only an unknown name gives `None`.
        stored.ok_or_else(|| missing_tensor(self.location(), name, shape))
    }
}

impl TensorSource for GgufFile {
    fn location(&self) -> &Path {
        self.bytes.path()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let tensor = self.tensors.get(name)?;
        let dtype = match tensor.encoding {
            Encoding::Plain(dtype) => dtype,
            Encoding::Blocks(_) => DType::F32,
        };
        Some(TensorInfo { shape: tensor.shape.clone(), dtype, stored_bytes: tensor.extent.bytes })
    }

    fn quantised(&self, name: &str) -> Option<BlockType> {
        match self.tensors.get(name)?.encoding {
            Encoding::Plain(_) => None,
            Encoding::Blocks(block_type) => Some(block_type),
        }
    }

    fn files(&self) -> Vec<WeightFile<'_>> {
        vec![WeightFile(&self.bytes)]
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        match self.stored(name, shape)? {
            Stored::Plain(tensor) => tensor.read(dtype, device),
            Stored::Quantised(tensor) => tensor.read(dtype, device),
        }
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match self.stored(name, shape)? {
            Stored::Plain(tensor) => tensor.read_rows(rows, dtype, device),
            Stored::Quantised(tensor) => tensor.read_rows(rows, dtype, device),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

    use super::*;

    const TYPES: [GgmlDType; 8] = [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q5_0,
        GgmlDType::Q8_0,
        GgmlDType::Q4K,
        GgmlDType::Q6K,
    ];

    /// A file of candle's making with a tensor of each type.
    fn written(tensors: &[(GgmlDType, QTensor)]) -> GgufFile {
        let names: Vec<String> = tensors.iter().map(|(dtype, _)| format!("{dtype:?}")).collect();
        let named: Vec<_> = names.iter().zip(tensors).map(|(n, (_, t))| (n.as_str(), t)).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &[], &named).unwrap();
        GgufFile::new(FileBytes::in_memory("x.gguf", file.into_inner().into())).unwrap()
    }

    fn waves(shape: (usize, usize)) -> Tensor {
        let values = (0..shape.0 * shape.1).map(|index| (index as f32 * 0.7).sin());
        Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        values.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn tensors_of_every_type_come_out_dense_in_the_dtype_asked_for() {
        // The first is more than a piece in every type.
        for shape in [(700, 1024), (3, 256)] {
            let quantise = |dtype| (dtype, QTensor::quantize(&waves(shape), dtype).unwrap());
            let tensors = TYPES.map(quantise);
            let file = written(&tensors);
            for (ggml, tensor) in &tensors {
                let name = format!("{ggml:?}");
                let dense = tensor.dequantize(&Device::Cpu).unwrap();
                for dtype in [DType::F32, DType::F16, DType::BF16] {
                    let expected = dense.to_dtype(dtype).unwrap();
                    let read = |rows: Option<&[u32]>| match rows {
                        None => file.read(&name, &shape.into(), dtype, &Device::Cpu),
                        Some(rows) => {
                            file.read_rows(&name, &shape.into(), rows, dtype, &Device::Cpu)
                        }
                    };
                    let whole = read(None).unwrap();
                    assert_eq!((whole.dims(), whole.dtype()), (&[shape.0, shape.1][..], dtype));
                    assert!(bits(&whole) == bits(&expected), "{name} {dtype:?}");
                    let rows = Tensor::new(&[2u32, 0, 2], &Device::Cpu).unwrap();
                    let picked = expected.index_select(&rows, 0).unwrap();
                    assert!(bits(&read(Some(&[2, 0, 2])).unwrap()) == bits(&picked), "{name}");
                    assert!(matches!(read(Some(&[700])), Err(ModelError::BadInput(_))));
                }
                let info = file.info(&name).unwrap();
                assert_eq!(info.stored_bytes, tensor.storage_size_in_bytes() as u64, "{name}");
                assert_eq!(file.quantised(&name), BlockType::of(*ggml));
            }
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let tensor = QTensor::quantize(&waves((2, 32)), GgmlDType::Q8_0).unwrap();
        let file = written(&[(GgmlDType::Q8_0, tensor)]);
        let error = file.read("y", &(2, 32).into(), DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("x.gguf: tensor `y`"), "{error}");
        assert_eq!(file.info("y"), None);
    }
}
