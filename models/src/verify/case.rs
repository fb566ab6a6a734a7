//! Reading a golden case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::weights::{SafetensorsFile, TensorSource, Weights};

/// When two numbers count as equal: `|a - b| <= atol + rtol * |b|`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Relative part.
    pub rtol: f64,
    /// For `uint8` frames: how many grey levels a value may be off, at no more than 1 % of the values.
    #[serde(default)]
    pub frames_max_diff: u8,
}

/// One recorded case.
pub struct Case {
    /// The folder.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Which procedure it asks for.
    pub kind: String,
    /// What counts as equal.
    pub tolerance: Tolerance,
    /// Names of the tensors to compare, intermediates first, in order of computation.
    pub expected: Vec<String>,
    document: Value,
    tensors: SafetensorsFile,
}

#[derive(Deserialize)]
struct Head {
    schema: u32,
    name: String,
    kind: String,
    #[serde(default)]
    intermediates: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    tolerance: Tolerance,
}

/// The version of the case format that this program reads.
const SCHEMA: u32 = 1;

impl Case {
    /// Reads `case.json` and maps `tensors.safetensors`.
    ///
    /// # Errors
    /// A file is missing or malformed, or the schema is another one.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("case.json");
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ModelError::Io { file: file.clone(), source })?;
        let malformed = |cause: serde_json::Error| ModelError::Config {
            file: file.clone(),
            reason: cause.to_string(),
        };
        let document: Value = serde_json::from_str(&text).map_err(malformed)?;
        let head: Head = serde_json::from_value(document.clone()).map_err(malformed)?;
        if head.schema != SCHEMA {
            let reason = format!("schema {} is not the supported {SCHEMA}", head.schema);
            return Err(ModelError::Config { file, reason });
        }
        let tensors = dir.join("tensors.safetensors");
        // Cases that consist of tables only have no tensors.
        let tensors = if tensors.is_file() {
            SafetensorsFile::open(&tensors)?
        } else {
            SafetensorsFile::from_bytes("(no tensors)", safetensors_without_tensors())?
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            name: head.name,
            kind: head.kind,
            tolerance: head.tolerance,
            expected: [head.intermediates, head.outputs].concat(),
            document,
            tensors,
        })
    }

    /// A part of `case.json` by JSON pointer (`/params`, `/config/t5`), as `T`.
    ///
    /// # Errors
    /// It is missing or does not read as `T`.
    pub fn part<T: DeserializeOwned>(&self, pointer: &str) -> Result<T> {
        let value = self.document.pointer(pointer).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|cause| self.unusable(format!("{pointer} cannot be used: {cause}")))
    }

    /// The weights that the case points to: `weights`, or one of its entries (`Some("t5")`).
    ///
    /// # Errors
    /// The case names none, or the file cannot be read.
    pub fn weights(&self, part: Option<&str>, device: &Device) -> Result<Weights> {
        let pointer = part.map_or("/weights".to_string(), |part| format!("/weights/{part}"));
        let path = self.dir.join(self.part::<String>(&pointer)?);
        let source: Arc<dyn TensorSource> = Arc::new(SafetensorsFile::open(&path)?);
        Ok(Weights::new(source, DType::F32, device))
    }

    /// One of the case's tensors, in its stored dtype.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let info = self.tensors.info(name);
        let info = info.ok_or_else(|| self.unusable(format!("it has no tensor `{name}`")))?;
        self.tensors.read(name, &info.shape.into(), info.dtype, device)
    }

    /// Like [`Case::tensor`], `None` when the case has no such tensor.
    ///
    /// # Errors
    /// The tensor is there but cannot be read.
    pub fn optional_tensor(&self, name: &str, device: &Device) -> Result<Option<Tensor>> {
        self.tensors.info(name).map(|_| self.tensor(name, device)).transpose()
    }

    /// An error that names this case's file.
    pub fn unusable(&self, reason: String) -> ModelError {
        ModelError::Config { file: self.dir.join("case.json"), reason }
    }

    /// The shapes of all stored tensors, by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let names = self.tensors.names().into_iter();
        names.filter_map(|name| Some((name.clone(), self.tensors.info(&name)?.shape))).collect()
    }
}

fn safetensors_without_tensors() -> Vec<u8> {
    let header = b"{}";
    [&(header.len() as u64).to_le_bytes()[..], header].concat()
}
