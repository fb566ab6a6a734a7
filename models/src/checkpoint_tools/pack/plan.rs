//! Which tensors go into which file of a packed model, and in which order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::Packing;
use crate::bundle::{ModelBundle, PartName};
use crate::checkpoint_tools::Result;
use crate::checkpoint_tools::safetensors_writer::PlannedTensor;
use crate::checkpoint_tools::weight_files::{self, PlannedFile};
use crate::weights::TensorSource;
use crate::weights::names::STDIT3_IGNORABLE;

/// The pages of phones; a multiple of those of other machines.
pub(super) const ALIGNMENT: usize = 16384;

/// The layout of a packed model.
pub(super) struct PackPlan {
    /// The files of each network, a file for each group of parameters that are loaded together.
    pub parts: Vec<(PartName, Vec<PlannedFile>)>,
    /// The text of `pack.json`: what was packed, and how. Two packings with the same text write the same files.
    pub manifest: Manifest,
}

/// What `pack.json` tells.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    format: u32,
    source_fingerprint: String,
    dtype: &'static str,
    alignment_bytes: usize,
    parts: BTreeMap<&'static str, Vec<ManifestFile>>,
}

#[derive(Debug, Serialize)]
struct ManifestFile {
    file: String,
    holds: String,
    data_bytes: u64,
}

/// Of `pack.json` and the layout that it describes.
const FORMAT_VERSION: u32 = 1;

impl PackPlan {
    /// Plans the packing of `bundle`. Headers are read, no weights.
    ///
    /// # Errors
    /// Files cannot be read.
    pub(super) fn new(bundle: &ModelBundle, packing: &Packing) -> Result<Self> {
        let mut parts = Vec::new();
        let mut listed = BTreeMap::new();
        for part in PartName::ALL {
            let groups = bundle.load_groups(part)?;
            let source = &*bundle.part(part).source;
            let tensors = groups.iter().map(|group| planned(&group.parameters, source, packing));
            let files = weight_files::named(tensors.collect());
            let described = files.iter().zip(&groups).map(|(file, group)| ManifestFile {
                file: file.name.clone(),
                holds: group.name.clone(),
                data_bytes: file.data_bytes(),
            });
            listed.insert(part.folder(), described.collect());
            parts.push((part, files));
        }
        let manifest = Manifest {
            format: FORMAT_VERSION,
            source_fingerprint: bundle.fingerprint()?,
            dtype: packing.dtype.map_or("as-stored", |dtype| dtype.as_str()),
            alignment_bytes: ALIGNMENT,
            parts: listed,
        };
        Ok(Self { parts, manifest })
    }
}

/// The tensors of a group that `source` has (opening the model made sure that it has all that are needed), in the
/// order of use; but wider numbers first, so that each tensor lies at a multiple of its own numbers' width.
fn planned(
    parameters: &[(String, Vec<usize>)],
    source: &dyn TensorSource,
    packing: &Packing,
) -> Vec<PlannedTensor> {
    let stored = parameters.iter().filter_map(|(name, _)| Some((name, source.info(name)?)));
    let mut tensors: Vec<_> = stored
        .map(|(name, info)| {
            // Rotary frequencies are computed with in f32 whatever the weights are, and are a few dozen numbers.
            let wanted = packing.dtype.filter(|_| !STDIT3_IGNORABLE.contains(&name.as_str()));
            let dtype = wanted.map_or(info.dtype, |dtype| dtype.dtype());
            PlannedTensor { name: name.clone(), shape: info.shape, dtype }
        })
        .collect();
    tensors.sort_by_key(|tensor| Reverse(tensor.dtype.size_in_bytes()));
    tensors
}
