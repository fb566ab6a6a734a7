//! Comparing a checkpoint's headers with what the architecture wants, before any work is done.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::TensorSource;
use super::names::is_ignorable;
use crate::error::{ModelError, Result};

/// Everything in which a checkpoint differs from what its config asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointMismatch {
    /// Tensors that the architecture needs and the file lacks: name and wanted shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: name, wanted shape, found shape.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors that the architecture does not know.
    pub leftover: Vec<String>,
}

/// Our choice: how many tensors of each sort a message names; enough to see the pattern, and still readable.
const NAMED_IN_MESSAGE: usize = 4;

impl CheckpointMismatch {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.misshaped.is_empty() && self.leftover.is_empty()
    }
}

impl Display for CheckpointMismatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|(name, shape)| format!("`{name}` {shape:?}"));
        let misshaped = self.misshaped.iter().map(|(name, expected, found)| {
            format!("`{name}` has shape {found:?} instead of {expected:?}")
        });
        let leftover = self.leftover.iter().map(|name| format!("`{name}`"));
        let sorts = [
            ("missing", missing.collect::<Vec<_>>()),
            ("of another shape than config.json asks for", misshaped.collect()),
            ("not used by this architecture", leftover.collect()),
        ];
        let mut separator = "";
        for (sort, tensors) in sorts.iter().filter(|(_, tensors)| !tensors.is_empty()) {
            let count = tensors.len();
            let plural = if count == 1 { "tensor is" } else { "tensors are" };
            let named = tensors[..count.min(NAMED_IN_MESSAGE)].join(", ");
            let more = if count > NAMED_IN_MESSAGE { ", ..." } else { "" };
            write!(f, "{separator}{count} {plural} {sort} ({named}{more})")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// Compares the headers of `source` with `wanted` (name to shape, as a
/// [`ParameterRecorder`](super::ParameterRecorder) lists them). No tensor is read.
///
/// `ignorable` names what may be there or not, wanted or not: exact names, or prefixes that end in a dot; see
/// [`names`](super::names).
///
/// # Errors
/// [`ModelError::CheckpointMismatch`] with every difference.
pub fn validate(
    wanted: &BTreeMap<String, Vec<usize>>,
    source: &dyn TensorSource,
    ignorable: &[&str],
) -> Result<()> {
    let mut mismatch = CheckpointMismatch::default();
    for (name, shape) in wanted {
        match source.info(name) {
            None if is_ignorable(name, ignorable) => {}
            None => mismatch.missing.push((name.clone(), shape.clone())),
            Some(info) if &info.shape != shape => {
                mismatch.misshaped.push((name.clone(), shape.clone(), info.shape));
            }
            Some(_) => {}
        }
    }
    let unknown = |name: &String| !wanted.contains_key(name) && !is_ignorable(name, ignorable);
    mismatch.leftover = source.names().into_iter().filter(unknown).collect();
    if mismatch.is_empty() {
        return Ok(());
    }
    let file = source.location().to_path_buf();
    Err(ModelError::CheckpointMismatch { file, mismatch: Box::new(mismatch) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::weights::SafetensorsFile;

    fn source(tensors: &[(&str, &[usize])]) -> SafetensorsFile {
        let tensors: BTreeMap<String, Tensor> = tensors
            .iter()
            .map(|(name, shape)| {
                let tensor = Tensor::zeros(*shape, candle_core::DType::F32, &Device::Cpu);
                (name.to_string(), tensor.unwrap())
            })
            .collect();
        let bytes = safetensors::serialize(tensors.iter().collect::<Vec<_>>(), None).unwrap();
        SafetensorsFile::from_bytes("test.safetensors", bytes).unwrap()
    }

    fn wanted(tensors: &[(&str, &[usize])]) -> BTreeMap<String, Vec<usize>> {
        tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
    }

    #[test]
    fn an_exact_match_passes_with_ignorable_extras() {
        let wanted = wanted(&[("a.weight", &[2, 3]), ("b", &[1])]);
        let source = source(&[("a.weight", &[2, 3]), ("b", &[1]), ("extra.x", &[1])]);
        validate(&wanted, &source, &["extra."]).unwrap();
        assert!(validate(&wanted, &source, &["extra"]).is_err());
    }

    #[test]
    fn every_difference_is_named_in_one_error() {
        let wanted = wanted(&[("a", &[2, 3]), ("b", &[1]), ("c", &[4])]);
        let source = source(&[("a", &[3, 2]), ("c", &[4]), ("d", &[1])]);
        let error = validate(&wanted, &source, &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("1 tensor is missing (`b` [1])"), "{text}");
        assert!(text.contains("`a` has shape [3, 2] instead of [2, 3]"), "{text}");
        assert!(text.contains("not used by this architecture (`d`)"), "{text}");
        let ModelError::CheckpointMismatch { mismatch, .. } = error else { panic!("{error}") };
        assert_eq!(mismatch.leftover, ["d"]);
    }
}
