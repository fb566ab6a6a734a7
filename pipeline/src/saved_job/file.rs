//! A saved job as the bytes of a safetensors file.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sora_models::rflow::SavedArray;

use super::{SavedJob, SavedJobError, exact_json};
use crate::hexadecimal::hexadecimal;

/// Keys in the header's metadata.
const FORMAT: &str = "format";
const JOB: &str = "job";
const CHECKSUM: &str = "sha256";

/// The value of [`FORMAT`], before the version.
const FORMAT_NAME: &str = "sora-job/";
const FORMAT_VERSION: u32 = 1;

/// A safetensors file begins with the length of its header.
pub(super) const LENGTH_BYTES: u64 = 8;

/// What safetensors allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

const VALUE_BYTES: usize = size_of::<f32>();

/// One of a job's long rows of numbers, taken out of it.
struct Row {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Row {
    fn take(array: SavedArray) -> Self {
        let values = std::mem::take(array.values);
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self { name: array.name, shape: array.shape, bytes }
    }

    fn view(&self) -> Result<(&str, TensorView<'_>), SafeTensorError> {
        let Self { name, shape, bytes } = self;
        Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
    }
}

/// The file's bytes.
///
/// # Errors
/// A part has no form in JSON or safetensors, which is a fault of this program.
pub(super) fn to_bytes(job: &SavedJob) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut head = job.clone();
    let rows: Vec<Row> = head.checkpoint.arrays().into_iter().map(Row::take).collect();
    let text = exact_json::to_text(&head)?;
    let sum = checksum(&text, rows.iter().map(|row| (row.name.as_str(), row.bytes.as_slice())));
    let metadata = HashMap::from([
        (FORMAT.to_string(), format!("{FORMAT_NAME}{FORMAT_VERSION}")),
        (CHECKSUM.to_string(), sum),
        (JOB.to_string(), text),
    ]);
    let views = rows.iter().map(Row::view).collect::<Result<Vec<_>, _>>()?;
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// How many bytes the header has that follows these first [`LENGTH_BYTES`]; `None` when this is no such file.
pub(super) fn header_bytes(start: &[u8]) -> Option<u64> {
    let length = u64::from_le_bytes(start.try_into().ok()?);
    (length <= MAX_HEADER_BYTES).then_some(length)
}

/// Finds out from a file's beginning up to the end of its header whether it is a saved job that can be read.
///
/// # Errors
/// [`SavedJobError::Foreign`] or [`SavedJobError::Version`].
pub(super) fn check_format(start: &[u8], path: &Path) -> Result<(), SavedJobError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: HashMap<String, String>,
    }
    let header = start.get(LENGTH_BYTES as usize..).unwrap_or_default();
    let header: Option<Header> = serde_json::from_slice(header).ok();
    let version = header
        .as_ref()
        .and_then(|header| header.metadata.get(FORMAT)?.strip_prefix(FORMAT_NAME))
        .ok_or_else(|| SavedJobError::Foreign { path: path.to_path_buf() })?;
    if version.parse() == Ok(FORMAT_VERSION) {
        return Ok(());
    }
    let (path, found) = (path.to_path_buf(), version.to_string());
    Err(SavedJobError::Version { path, found, supported: FORMAT_VERSION })
}

/// Reads what [`to_bytes`] made; `path` is what to call it in errors.
///
/// # Errors
/// [`SavedJobError::Corrupt`].
pub(super) fn from_bytes(bytes: &[u8], path: &Path) -> Result<SavedJob, SavedJobError> {
    let corrupt = |reason: String| SavedJobError::Corrupt { path: path.to_path_buf(), reason };
    let unreadable = |cause: &dyn Error| corrupt(cause.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|cause| unreadable(&cause))?;
    let file = SafeTensors::deserialize(bytes).map_err(|cause| unreadable(&cause))?;
    let metadata = header.metadata().as_ref();
    let entry = |key: &str| {
        let entry = metadata.and_then(|metadata| metadata.get(key));
        entry.ok_or_else(|| corrupt(format!("`{key}` is missing in its header")))
    };
    let text = entry(JOB)?;
    let tensors = file.tensors();
    let sum = checksum(text, tensors.iter().map(|(name, view)| (name.as_str(), view.data())));
    if sum != *entry(CHECKSUM)? {
        return Err(corrupt("its checksum is wrong".into()));
    }
    let mut job: SavedJob = exact_json::from_text(text).map_err(|cause| unreadable(&cause))?;
    for SavedArray { name, values, .. } in job.checkpoint.arrays() {
        let tensor = file.tensor(&name).map_err(|cause| unreadable(&cause))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(corrupt(format!("`{name}` is not in f32")));
        }
        let chunks = tensor.data().as_chunks::<VALUE_BYTES>().0;
        *values = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    }
    job.checkpoint.check().map_err(|cause| unreadable(&cause))?;
    Ok(job)
}

/// SHA-256, in hexadecimal, of the text and the rows in order of their names, each with its length.
fn checksum<'a>(text: &str, rows: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(text.as_bytes());
    for (name, bytes) in rows {
        add(name.as_bytes());
        add(bytes);
    }
    hexadecimal(&digest.finalize())
}
