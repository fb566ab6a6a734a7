//! How the tensors of one network are shared out among files, as Hugging Face names and lists them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::safetensors_writer::PlannedTensor;

/// One file and what is in it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedFile {
    /// Its name.
    pub name: String,
    /// Its tensors.
    pub tensors: Vec<PlannedTensor>,
}

impl PlannedFile {
    /// Bytes of all tensors, without the header.
    pub(super) fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::bytes).sum()
    }
}

/// The index beside shards.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Files of these tensors, one for each group: `model.safetensors`, or numbered shards when there are several.
pub(super) fn named(groups: Vec<Vec<PlannedTensor>>) -> Vec<PlannedFile> {
    let count = groups.len();
    let name = |number: usize| match count {
        1 => "model.safetensors".to_string(),
        _ => format!("model-{number:05}-of-{count:05}.safetensors"),
    };
    let numbered = groups.into_iter().zip(1..);
    numbered.map(|(tensors, number)| PlannedFile { name: name(number), tensors }).collect()
}

/// Groups of at most `most_bytes`, in the given order; a tensor above that is a group of its own.
pub(super) fn by_size(tensors: Vec<PlannedTensor>, most_bytes: u64) -> Vec<Vec<PlannedTensor>> {
    let mut groups: Vec<Vec<PlannedTensor>> = Vec::new();
    let mut bytes = 0;
    for tensor in tensors {
        bytes += tensor.bytes();
        match groups.last_mut().filter(|_| bytes <= most_bytes) {
            Some(group) => group.push(tensor),
            None => {
                bytes = tensor.bytes();
                groups.push(vec![tensor]);
            }
        }
    }
    groups
}

/// The text of the index of these files; `None` when there is a single one, which needs none.
pub(super) fn index(files: &[PlannedFile]) -> Option<String> {
    #[derive(Serialize)]
    struct Index<'a> {
        metadata: BTreeMap<&'a str, u64>,
        weight_map: BTreeMap<&'a str, &'a str>,
    }
    if files.len() == 1 {
        return None;
    }
    let total_size = files.iter().map(PlannedFile::data_bytes).sum();
    let places = files.iter().flat_map(|file| {
        file.tensors.iter().map(|tensor| (tensor.name.as_str(), file.name.as_str()))
    });
    let index = Index {
        metadata: BTreeMap::from([("total_size", total_size)]),
        weight_map: places.collect(),
    };
    serde_json::to_string_pretty(&index).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::DType;

    use super::*;

    fn tensors(lengths: &[usize]) -> Vec<PlannedTensor> {
        let tensor = |(index, &length): (usize, &usize)| PlannedTensor {
            name: format!("t{index}"),
            shape: vec![length],
            dtype: DType::U8,
        };
        lengths.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn shards_keep_the_order_and_the_limit() {
        let lengths = |lengths, most| {
            let groups = by_size(tensors(lengths), most);
            groups.iter().map(|group| group.iter().map(|t| t.elements()).collect()).collect()
        };
        let split: Vec<Vec<usize>> = lengths(&[2, 3, 4, 9, 1, 5], 6);
        assert_eq!(split, [vec![2, 3], vec![4], vec![9], vec![1, 5]]);
    }

    #[test]
    fn one_file_needs_no_index_and_several_are_numbered_and_listed() {
        let one = named(by_size(tensors(&[2, 3]), 10));
        assert_eq!((one[0].name.as_str(), index(&one)), ("model.safetensors", None));
        let two = named(by_size(tensors(&[2, 3]), 4));
        let index: serde_json::Value = serde_json::from_str(&index(&two).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 5);
        assert_eq!(index["weight_map"]["t0"], "model-00001-of-00002.safetensors");
        assert_eq!(index["weight_map"]["t1"], "model-00002-of-00002.safetensors");
    }
}
