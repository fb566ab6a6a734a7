//! What becomes of each tensor when a model is quantised.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use candle_core::DType;
use serde::Serialize;

use super::{Quantization, QuantizedType};
use crate::bundle::{ModelBundle, PartName};
use crate::checkpoint_tools::gguf_writer::GgufEntry;
use crate::checkpoint_tools::{Result, ToolError};
use crate::weights::{Encoding, TensorSource};

/// The layout of a quantised model.
pub(super) struct QuantizePlan {
    /// The networks that are written anew, each with its tensors in the order of use.
    pub parts: Vec<(PartName, Vec<GgufEntry>)>,
    /// What is told of each of them.
    pub summaries: Vec<PartSummary>,
    /// The text of `quantize.json`. Two runs with the same text write the same files.
    pub manifest: Manifest,
}

/// What `quantize.json` tells.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    format: u32,
    source_fingerprint: String,
    #[serde(rename = "type")]
    quantized_type: &'static str,
    /// Networks that were written anew: their tensors by what became of them.
    parts: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

/// Of `quantize.json` and the layout that it describes.
const FORMAT_VERSION: u32 = 2;

/// What became of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// It is quantised as was asked for.
    AsAsked,
    /// Errors in it weigh more than in others, so it is quantised in a type of more bits.
    WithMoreBits,
    /// Its rows are no multiple of the asked type's block, so it is quantised in a type of smaller blocks.
    InSmallerBlocks,
    /// A matrix of a block whose rows are no multiple of any block, left as it was.
    RowsDoNotFit,
    /// A norm, a bias, a table, or what surrounds the blocks: left as it was.
    NotForQuantising,
}

/// What became of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSummary {
    /// The network.
    pub part: PartName,
    /// Names of its tensors by what became of them.
    pub tensors: BTreeMap<Treatment, Vec<String>>,
    /// Bytes of its tensors as they were stored.
    pub original_bytes: u64,
    /// Bytes of its tensors now.
    pub bytes: u64,
    asked: QuantizedType,
}

impl QuantizePlan {
    /// Plans how to quantise `bundle`. Headers are read, no weights.
    ///
    /// # Errors
    /// A network is quantised already, or files cannot be read.
    pub(super) fn new(bundle: &ModelBundle, quantization: &Quantization) -> Result<Self> {
        let asked = quantization.quantized_type;
        let (mut parts, mut summaries) = (Vec::new(), Vec::new());
        for &part in &quantization.parts {
            let (entries, summary) = plan_part(bundle, part, asked)?;
            parts.push((part, entries));
            summaries.push(summary);
        }
        let named = |summary: &PartSummary| {
            let tensors = summary.tensors.iter();
            let named = tensors.map(|(treatment, names)| (summary.word(*treatment), names.clone()));
            (summary.part.folder(), named.collect())
        };
        let manifest = Manifest {
            format: FORMAT_VERSION,
            source_fingerprint: bundle.fingerprint()?,
            quantized_type: asked.as_str(),
            parts: summaries.iter().map(named).collect(),
        };
        Ok(Self { parts, summaries, manifest })
    }
}

fn plan_part(
    bundle: &ModelBundle,
    part: PartName,
    asked: QuantizedType,
) -> Result<(Vec<GgufEntry>, PartSummary)> {
    let source = &bundle.part(part).source;
    let mut entries = Vec::new();
    let mut summary =
        PartSummary { part, tensors: BTreeMap::new(), original_bytes: 0, bytes: 0, asked };
    for (index, group) in bundle.load_groups(part)?.iter().enumerate() {
        for (name, shape) in &group.parameters {
            // Opening the model made sure that it has all that are needed.
            let Some(info) = source.info(name) else { continue };
            if source.quantised(name).is_some() {
                let file = source.location().to_path_buf();
                return Err(ToolError::Quantised { file, tensor: name.clone() });
            }
            // The first group is what surrounds the blocks.
            let is_matrix = index > 0 && shape.len() == 2 && name.ends_with(".weight");
            let row_values = shape.last().copied().unwrap_or(1);
            let treatment = match is_matrix {
                true => asked.treatment(part, name, row_values),
                false => Treatment::NotForQuantising,
            };
            let encoding =
                asked.block_type(treatment).map_or_else(|| plain(info.dtype), Encoding::Blocks);
            let entry = GgufEntry { name: name.clone(), shape: info.shape, encoding };
            summary.original_bytes += info.stored_bytes;
            summary.bytes += entry.bytes();
            summary.tensors.entry(treatment).or_default().push(name.clone());
            entries.push(entry);
        }
    }
    Ok((entries, summary))
}

/// As it is stored, or in f32 where GGUF files have no such dtype.
fn plain(dtype: DType) -> Encoding {
    let stored = Encoding::Plain(dtype);
    if stored.number().is_some() { stored } else { Encoding::Plain(DType::F32) }
}

impl PartSummary {
    /// What became of a tensor, in a word or two.
    fn word(&self, treatment: Treatment) -> String {
        match (self.asked.block_type(treatment), treatment) {
            (Some(block_type), _) => block_type.name().into(),
            (None, Treatment::RowsDoNotFit) => "left, rows do not fit".into(),
            (None, _) => "left".into(),
        }
    }
}

/// Our choice: how many tensors a line names; enough to see the pattern, and still readable.
const NAMED_IN_LINE: usize = 4;

impl Display for PartSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (part, wanted) = (self.part, self.asked.wanted());
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (now, before) = (megabytes(self.bytes), megabytes(self.original_bytes));
        write!(f, "{part}: {now:.1} MB of weights where {before:.1} MB were")?;
        for (treatment, names) in &self.tensors {
            let count = names.len();
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            write!(f, "\n{part}: {count} {tensors} ")?;
            match treatment {
                Treatment::AsAsked => write!(f, "in {wanted}")?,
                Treatment::WithMoreBits => {
                    write!(f, "in {}, because their errors weigh more", self.word(*treatment))?
                }
                Treatment::InSmallerBlocks => write!(
                    f,
                    "in {}, because {wanted} needs rows of a multiple of {} values",
                    self.word(*treatment),
                    wanted.block_values()
                )?,
                Treatment::RowsDoNotFit => {
                    let values = self.asked.smaller().unwrap_or(wanted).block_values();
                    write!(f, "not quantised, because rows are no multiple of {values} values")?;
                }
                Treatment::NotForQuantising => {
                    write!(f, "as they were: norms, biases, tables and what surrounds the blocks")?
                }
            }
            if matches!(treatment, Treatment::InSmallerBlocks | Treatment::RowsDoNotFit) {
                let more = if count > NAMED_IN_LINE { ", ..." } else { "" };
                write!(f, " ({}{more})", names[..count.min(NAMED_IN_LINE)].join(", "))?;
            }
        }
        Ok(())
    }
}
