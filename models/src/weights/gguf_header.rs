//! The header of a GGUF file: which tensors it holds, as what, and where. Nothing in it is believed before it is checked.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::block_type::BlockType;
use super::file_bytes::FileBytes;
use super::stored_tensor::{Extent, MOST_AXES};

/// How the numbers of a tensor in a GGUF file are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// One after the other.
    Plain(DType),
    /// In quantised blocks.
    Blocks(BlockType),
}

impl Encoding {
    /// Its number in a header; `None` for dtypes that are not for weights.
    pub(crate) fn number(self) -> Option<u32> {
        match self {
            Self::Plain(DType::F32) => Some(0),
            Self::Plain(DType::F16) => Some(1),
            Self::Plain(DType::BF16) => Some(30),
            Self::Plain(_) => None,
            Self::Blocks(block_type) => Some(block_type.number()),
        }
    }
}

/// A tensor as the header describes it, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GgufTensor {
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    pub(super) extent: Extent,
}

/// What a GGUF file begins with.
pub(crate) const MAGIC: &[u8] = b"GGUF";

/// The header's word for the shape of a tensor that has more axes than the four that the format has room for; the tensor's
/// name follows.
///
/// # Source
/// The files of `city96/ComfyUI-GGUF`.
pub(crate) const SHAPE_KEY: &str = "comfy.gguf.orig_shape.";

/// The header's word for what tensors' offsets are multiples of.
const ALIGNMENT_KEY: &[u8] = b"general.alignment";

/// Our choice: bytes that are looked at for the header, at first and at most. That of a T5-XXL encoder with its tokenizer
/// takes a megabyte. In memory, each value of a list takes some dozens of bytes, so a file that is not what it says can
/// make the program hold some dozens of times the second number, and no more.
const HEADER_BYTES: [u64; 2] = [1 << 20, 4 << 20];

/// Reads the header of `file`: name to tensor.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(file: &FileBytes) -> Result<BTreeMap<String, GgufTensor>, String> {
    let [first, most] = HEADER_BYTES.map(|bytes| bytes.min(file.length()));
    let start = |bytes| file.read_vec(0, bytes as usize).map_err(|cause| cause.to_string());
    let mut header = start(first)?;
    let mut parsed = parse(&header);
    if parsed.is_err() && most > first {
        header = start(most)?;
        parsed = parse(&header);
    }
    let content = parsed.map_err(|cause| match file.length() > most {
        true => format!("{cause}; or it has a header of more than {most} bytes"),
        false => cause,
    })?;
    let mut tensors = BTreeMap::new();
    for (name, info) in &content.tensor_infos {
        let refused = |reason: String| format!("tensor `{name}` {reason}");
        let shape = shape(name, info.shape.dims(), &content.metadata).map_err(refused)?;
        let encoding = encoding(info.ggml_dtype).map_err(refused)?;
        check_rows(encoding, info.shape.dims(), &shape).map_err(refused)?;
        let extent = content
            .tensor_data_offset
            .checked_add(info.offset)
            .zip(stored_bytes(encoding, &shape))
            .map(|(start, bytes)| Extent { start, bytes: bytes as u64 })
            .filter(|extent| extent.end().is_some_and(|end| end <= file.length()))
            .ok_or_else(|| {
                refused(format!("of shape {shape:?} reaches beyond the end of the file"))
            })?;
        tensors.insert(name.clone(), GgufTensor { shape, encoding, extent });
    }
    if Some(tensors.len() as u64) != promised_tensors(&header) {
        return Err("it names a tensor twice".into());
    }
    check_apart(&tensors)?;
    Ok(tensors)
}

fn parse(header: &[u8]) -> Result<Content, String> {
    // The parser divides by the alignment.
    if has_zero_alignment(header) {
        return Err("its header gives an alignment of 0".into());
    }
    let content = Content::read(&mut Cursor::new(header));
    content.map_err(|cause| {
        // What follows the first line is a backtrace.
        let cause = cause.to_string();
        format!("its header cannot be read ({})", cause.lines().next().unwrap_or_default())
    })
}

/// Whether some value of the alignment, of an integer type of up to 32 bits, is 0.
fn has_zero_alignment(header: &[u8]) -> bool {
    /// Types by their numbers: u8, i8, u16, i16, u32, i32.
    const WIDTHS: [usize; 6] = [1, 1, 2, 2, 4, 4];
    let is_zero = |end: usize| {
        let value_type = header.get(end..).and_then(|rest| rest.first_chunk());
        let width = value_type.and_then(|number| WIDTHS.get(u32::from_le_bytes(*number) as usize));
        let value = width.and_then(|width| header.get(end + 4..end + 4 + width));
        value.is_some_and(|value| value.iter().all(|byte| *byte == 0))
    };
    let keys = header.windows(ALIGNMENT_KEY.len()).enumerate();
    keys.filter(|(_, key)| *key == ALIGNMENT_KEY).any(|(at, key)| {
        // The parser takes zeros at the end off a key, so it may be longer: by what its length, in front of it, says.
        let before = |bytes| at.checked_sub(bytes).map(|start| &header[start..at]);
        let long = before(8).and_then(|bytes| bytes.first_chunk()).map(|b| u64::from_le_bytes(*b));
        let short = before(4).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_le_bytes(*b));
        let lengths = [Some(key.len() as u64), long, short.map(u64::from)];
        let ends = lengths.into_iter().flatten();
        ends.filter_map(|length| at.checked_add(usize::try_from(length).ok()?)).any(is_zero)
    })
}

/// How many tensors the header says it describes.
fn promised_tensors(header: &[u8]) -> Option<u64> {
    let version = u32::from_le_bytes(*header.get(4..)?.first_chunk()?);
    let count = header.get(8..)?;
    match version {
        1 => Some(u32::from_le_bytes(*count.first_chunk()?).into()),
        _ => Some(u64::from_le_bytes(*count.first_chunk()?)),
    }
}

fn encoding(dtype: GgmlDType) -> Result<Encoding, String> {
    Ok(match dtype {
        GgmlDType::F32 => Encoding::Plain(DType::F32),
        GgmlDType::F16 => Encoding::Plain(DType::F16),
        GgmlDType::BF16 => Encoding::Plain(DType::BF16),
        _ => {
            let block_type = BlockType::of(dtype);
            Encoding::Blocks(
                block_type.ok_or(format!("is of the type {dtype:?}, which is not for files"))?,
            )
        }
    })
}

/// The shape that `name` is meant to have, stored as `stored`.
fn shape(
    name: &str,
    stored: &[usize],
    metadata: &HashMap<String, Value>,
) -> Result<Vec<usize>, String> {
    let Some(given) = metadata.get(&format!("{SHAPE_KEY}{name}")) else {
        return Ok(stored.to_vec());
    };
    let lengths = given.to_vec().ok().and_then(|lengths| {
        let length = |value: &Value| value.to_i32().ok().and_then(|length| length.try_into().ok());
        lengths.iter().map(length).collect::<Option<Vec<usize>>>()
    });
    let elements = |shape: &[usize]| shape.iter().copied().try_fold(1, usize::checked_mul);
    lengths
        .filter(|shape| shape.len() <= MOST_AXES && elements(shape) == elements(stored))
        .ok_or_else(|| {
            format!("of {stored:?} is said to have a shape that is none of so many values")
        })
}

/// Rows of quantised tensors must be whole blocks: as they are stored, and as they are looked up.
fn check_rows(encoding: Encoding, stored: &[usize], shape: &[usize]) -> Result<(), String> {
    let Encoding::Blocks(block_type) = encoding else { return Ok(()) };
    let values = block_type.block_values();
    let whole = |length: usize| length.is_multiple_of(values);
    let row = shape.get(1..).and_then(|row| row.iter().copied().try_fold(1, usize::checked_mul));
    match (stored.last(), row) {
        (Some(&last), Some(row)) if shape.len() > 1 && whole(last) && whole(row) => Ok(()),
        _ => Err(format!(
            "of shape {shape:?} has no rows of whole blocks of {values} values ({block_type})"
        )),
    }
}

/// Bytes of all values; `None` when that overflows, or would but for an empty axis.
fn stored_bytes(encoding: Encoding, shape: &[usize]) -> Option<usize> {
    let full = shape.iter().map(|&length| length.max(1)).try_fold(1, usize::checked_mul)?;
    let values = if shape.contains(&0) { 0 } else { full };
    match encoding {
        Encoding::Plain(dtype) => values.checked_mul(dtype.size_in_bytes()),
        Encoding::Blocks(block_type) => block_type.bytes_of(values),
    }
}

/// No tensor may lie in another one: a small file must not describe more than it holds.
fn check_apart(tensors: &BTreeMap<String, GgufTensor>) -> Result<(), String> {
    let mut extents: Vec<_> = tensors.iter().map(|(name, tensor)| (tensor.extent, name)).collect();
    extents.retain(|(extent, _)| extent.bytes > 0);
    extents.sort_by_key(|(extent, _)| extent.start);
    let overlapping = extents.windows(2).find(|pair| pair[0].0.end() > Some(pair[1].0.start));
    match overlapping {
        Some([(_, first), (_, second)]) => {
            Err(format!("tensors `{first}` and `{second}` lie in the same bytes"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
