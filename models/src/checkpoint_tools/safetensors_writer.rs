//! Writing a safetensors file piece by piece.

use std::collections::HashMap;
use std::io::{self, Write};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo as HeaderEntry};

/// A tensor that a file will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype in the file.
    pub dtype: candle_core::DType,
}

impl PlannedTensor {
    /// Values.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.elements() as u64 * self.dtype.size_in_bytes() as u64
    }
}

/// A safetensors file on its way into `sink`: the header is written at once, then the tensors' bytes are taken in the
/// header's order, in pieces of any size. No more than a piece is in memory.
pub(super) struct SafetensorsWriter<W> {
    sink: W,
    missing_bytes: u64,
}

impl<W: Write> SafetensorsWriter<W> {
    /// Writes the header of a file with these tensors, in this order. The first tensor's data begins at a multiple of
    /// `alignment` bytes: the format allows spaces behind the header, and nothing between tensors.
    ///
    /// # Errors
    /// The sink's; [`io::ErrorKind::InvalidInput`] for tensors that the format cannot hold.
    pub(super) fn new(
        mut sink: W,
        tensors: &[PlannedTensor],
        alignment: usize,
    ) -> io::Result<Self> {
        let header = header(tensors, alignment)?;
        sink.write_all(&(header.len() as u64).to_le_bytes())?;
        sink.write_all(&header)?;
        Ok(Self { sink, missing_bytes: tensors.iter().map(PlannedTensor::bytes).sum() })
    }

    /// Writes the next bytes of the tensors' data.
    ///
    /// # Errors
    /// The sink's; [`io::ErrorKind::InvalidInput`] for more bytes than the header promised.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let left = self.missing_bytes.checked_sub(data.len() as u64);
        self.missing_bytes = left.ok_or_else(|| invalid("more data than the header promises"))?;
        self.sink.write_all(data)
    }

    /// Gives the sink back when all data is written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when some is missing.
    pub(super) fn finish(self) -> io::Result<W> {
        match self.missing_bytes {
            0 => Ok(self.sink),
            _ => Err(invalid("less data than the header promises")),
        }
    }
}

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// The header of a file with these tensors, padded.
fn header(tensors: &[PlannedTensor], alignment: usize) -> io::Result<Vec<u8>> {
    let mut start = 0;
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let (dtype, shape) = (Dtype::from(tensor.dtype), tensor.shape.clone());
        let end = start + tensor.bytes() as usize;
        let entry = HeaderEntry { dtype, shape, data_offsets: (start, end) };
        entries.push((tensor.name.clone(), entry));
        start = end;
    }
    // Hugging Face's transformers opens only files that say which framework's layout they have.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let header = Metadata::new(Some(metadata), entries).map_err(invalid)?;
    let mut header = serde_json::to_vec(&header)?;
    let length = (LENGTH_BYTES + header.len()).next_multiple_of(alignment) - LENGTH_BYTES;
    header.resize(length, b' ');
    Ok(header)
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, cause)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::DType;
    use safetensors::SafeTensors;

    use super::*;

    fn planned(name: &str, shape: &[usize], dtype: DType) -> PlannedTensor {
        PlannedTensor { name: name.into(), shape: shape.to_vec(), dtype }
    }

    #[test]
    fn the_file_is_read_back_and_its_data_begins_at_the_alignment() {
        let tensors = [planned("b", &[2, 3], DType::F16), planned("a", &[], DType::F32)];
        for alignment in [8, 4096, 16384] {
            let mut writer = SafetensorsWriter::new(Vec::new(), &tensors, alignment).unwrap();
            for piece in [&[1u8; 5][..], &[1; 7], &[2; 4]] {
                writer.write(piece).unwrap();
            }
            let file = writer.finish().unwrap();
            let (header_bytes, _) = SafeTensors::read_metadata(&file).unwrap();
            assert_eq!((LENGTH_BYTES + header_bytes) % alignment, 0);
            let read = SafeTensors::deserialize(&file).unwrap();
            assert_eq!(read.tensor("b").unwrap().shape(), [2, 3]);
            assert_eq!(read.tensor("b").unwrap().data(), [1; 12]);
            assert_eq!(read.tensor("a").unwrap().dtype(), Dtype::F32);
            assert_eq!(read.tensor("a").unwrap().data(), [2; 4]);
        }
    }

    #[test]
    fn too_much_and_too_little_data_are_refused() {
        let tensors = [planned("a", &[2], DType::U8)];
        let mut writer = SafetensorsWriter::new(Vec::new(), &tensors, 8).unwrap();
        assert!(writer.write(&[0; 3]).is_err());
        writer.write(&[0]).unwrap();
        assert!(writer.finish().is_err());
    }
}
