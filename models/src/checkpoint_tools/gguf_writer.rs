//! Writing a GGUF file piece by piece.

use std::io::{self, Write};

use crate::weights::{Encoding, GGUF_MAGIC, SHAPE_KEY};

/// A tensor that a file will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GgufEntry {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub encoding: Encoding,
}

impl GgufEntry {
    /// Bytes in the file, without the gap behind it.
    pub(super) fn bytes(&self) -> u64 {
        let values = self.shape.iter().product();
        let bytes = match self.encoding {
            Encoding::Plain(dtype) => values * dtype.size_in_bytes(),
            // Who plans blocks has made sure that there are whole ones.
            Encoding::Blocks(block_type) => block_type.bytes_of(values).unwrap_or(0),
        };
        bytes as u64
    }

    /// Its shape with no more axes than the format has room for.
    fn stored_shape(&self) -> Vec<usize> {
        match self.shape.as_slice() {
            [first, rest @ ..] if self.shape.len() > MOST_AXES => {
                vec![*first, rest.iter().product()]
            }
            shape => shape.to_vec(),
        }
    }
}

/// A GGUF file on its way into `sink`: the header is written at once, then the tensors' bytes are taken in the header's
/// order, in pieces of any size. No more than a piece is in memory.
///
/// # Source
/// `docs/gguf.md` of ggml, version 3 of the format.
pub(super) struct GgufWriter<W> {
    sink: W,
    /// What is missing of each tensor, the next one last.
    missing_bytes: Vec<u64>,
    written_bytes: u64,
}

const VERSION: u32 = 3;
const MOST_AXES: usize = 4;
/// Of the scheme of quantised blocks; ggml's present one.
const QUANTIZATION_VERSION: u32 = 2;
/// What the data of tensors begins at multiples of: the format's default.
const ALIGNMENT: u64 = 32;

/// A value in the header.
enum Value {
    U32(u32),
    I32s(Vec<i32>),
    Text(String),
}

/// The numbers of the types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const TEXT: u32 = 8;
const LIST: u32 = 9;

impl<W: Write> GgufWriter<W> {
    /// Writes the header of a file with these tensors, in this order.
    ///
    /// # Errors
    /// The sink's; [`io::ErrorKind::InvalidInput`] for tensors that the format cannot hold.
    pub(super) fn new(
        mut sink: W,
        architecture: &str,
        model: &str,
        tensors: &[GgufEntry],
    ) -> io::Result<Self> {
        let header = header(architecture, model, tensors)?;
        sink.write_all(&header)?;
        let missing_bytes = tensors.iter().rev().map(GgufEntry::bytes).collect();
        let mut writer = Self { sink, missing_bytes, written_bytes: 0 };
        writer.fill_gap()?;
        Ok(writer)
    }

    /// Writes the next bytes of the tensors' data; what is given at once may not reach into another tensor.
    ///
    /// # Errors
    /// The sink's; [`io::ErrorKind::InvalidInput`] for more bytes than the header promised.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let missing = self.missing_bytes.last_mut();
        let left = missing.as_deref().and_then(|missing| missing.checked_sub(data.len() as u64));
        let (Some(missing), Some(left)) = (missing, left) else {
            return Err(invalid("more data than the header promises"));
        };
        *missing = left;
        self.sink.write_all(data)?;
        self.written_bytes += data.len() as u64;
        self.fill_gap()
    }

    /// Gives the sink back when all data is written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when some is missing.
    pub(super) fn finish(self) -> io::Result<W> {
        match self.missing_bytes.as_slice() {
            [] => Ok(self.sink),
            _ => Err(invalid("less data than the header promises")),
        }
    }

    /// Goes on to where the next tensor begins, if the present one is complete.
    fn fill_gap(&mut self) -> io::Result<()> {
        while self.missing_bytes.last() == Some(&0) {
            self.missing_bytes.pop();
            let gap = self.written_bytes.next_multiple_of(ALIGNMENT) - self.written_bytes;
            self.sink.write_all(&[0; ALIGNMENT as usize][..gap as usize])?;
            self.written_bytes += gap;
        }
        Ok(())
    }
}

/// The header of a file with these tensors, up to where their data begins.
fn header(architecture: &str, model: &str, tensors: &[GgufEntry]) -> io::Result<Vec<u8>> {
    let mut values = vec![
        ("general.architecture".to_string(), Value::Text(architecture.into())),
        ("general.name".into(), Value::Text(model.into())),
        ("general.alignment".into(), Value::U32(ALIGNMENT as u32)),
        ("general.quantization_version".into(), Value::U32(QUANTIZATION_VERSION)),
    ];
    for tensor in tensors.iter().filter(|tensor| tensor.shape.len() > MOST_AXES) {
        let shape = tensor.shape.iter().map(|&length| i32::try_from(length));
        let shape = shape.collect::<Result<_, _>>().map_err(invalid)?;
        values.push((format!("{SHAPE_KEY}{}", tensor.name), Value::I32s(shape)));
    }
    let mut header = GGUF_MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((values.len() as u64).to_le_bytes());
    for (key, value) in &values {
        put_text(&mut header, key);
        put_value(&mut header, value);
    }
    let mut offset: u64 = 0;
    for tensor in tensors {
        put_text(&mut header, &tensor.name);
        let shape = tensor.stored_shape();
        header.extend((shape.len() as u32).to_le_bytes());
        // The last axis first.
        for &length in shape.iter().rev() {
            header.extend((length as u64).to_le_bytes());
        }
        let number = tensor.encoding.number().ok_or_else(|| {
            invalid(format!(
                "tensor `{}` is {:?}, which GGUF files do not hold",
                tensor.name, tensor.encoding
            ))
        })?;
        header.extend(number.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(header)
}

fn put_text(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

fn put_value(header: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U32(number) => {
            header.extend(U32.to_le_bytes());
            header.extend(number.to_le_bytes());
        }
        Value::Text(text) => {
            header.extend(TEXT.to_le_bytes());
            put_text(header, text);
        }
        Value::I32s(numbers) => {
            header.extend(LIST.to_le_bytes());
            header.extend(I32.to_le_bytes());
            header.extend((numbers.len() as u64).to_le_bytes());
            header.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, cause)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use candle_core::DType;
    use candle_core::quantized::GgmlDType;
    use candle_core::quantized::gguf_file::Content;

    use super::*;
    use crate::weights::BlockType;

    fn entry(name: &str, shape: &[usize], encoding: Encoding) -> GgufEntry {
        GgufEntry { name: name.into(), shape: shape.to_vec(), encoding }
    }

    #[test]
    fn another_reader_finds_every_tensor_where_it_was_written() {
        let tensors = [
            entry("half", &[3, 5], Encoding::Plain(DType::F16)),
            entry("empty", &[0], Encoding::Plain(DType::F32)),
            entry("blocks", &[2, 64], Encoding::Blocks(BlockType::Q8_0)),
            entry("five", &[2, 1, 3, 1, 2], Encoding::Plain(DType::F32)),
        ];
        let mut writer = GgufWriter::new(Vec::new(), "test", "x", &tensors).unwrap();
        for (tensor, byte) in tensors.iter().zip(1u8..) {
            let data = vec![byte; tensor.bytes() as usize];
            data.chunks(7).for_each(|piece| writer.write(piece).unwrap());
        }
        let file = writer.finish().unwrap();
        let content = Content::read(&mut Cursor::new(&file)).unwrap();
        assert_eq!(content.tensor_data_offset % ALIGNMENT, 0);
        for (tensor, byte) in tensors.iter().zip(1u8..) {
            let info = &content.tensor_infos[&tensor.name];
            let start = (content.tensor_data_offset + info.offset) as usize;
            assert_eq!(info.offset % ALIGNMENT, 0);
            assert!(file[start..start + tensor.bytes() as usize].iter().all(|b| *b == byte));
        }
        assert_eq!(content.tensor_infos["five"].shape.dims(), [2, 6]);
        let five: Vec<i32> = content.metadata[&format!("{SHAPE_KEY}five")]
            .to_vec()
            .unwrap()
            .iter()
            .map(|length| length.to_i32().unwrap())
            .collect();
        assert_eq!(five, [2, 1, 3, 1, 2]);
        assert_eq!(content.tensor_infos["blocks"].ggml_dtype, GgmlDType::Q8_0);
        assert_eq!(content.metadata["general.architecture"].to_string().unwrap(), "test");
    }

    #[test]
    fn too_much_and_too_little_data_are_refused() {
        let tensors = [entry("a", &[2], Encoding::Plain(DType::F16))];
        let mut writer = GgufWriter::new(Vec::new(), "test", "x", &tensors).unwrap();
        assert!(writer.write(&[0; 5]).is_err());
        writer.write(&[0; 3]).unwrap();
        assert!(writer.finish().is_err());
        let whole = [entry("a", &[2], Encoding::Plain(DType::U8))];
        assert!(GgufWriter::new(Vec::new(), "test", "x", &whole).is_err());
    }
}
