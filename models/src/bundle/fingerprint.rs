//! What identifies a model without reading all of it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::part::{BundlePart, PartName};
use crate::error::Result;
use crate::weights::TensorSource;

/// Our choice: samples of a network's files together, and bytes of each. A retrained or fine-tuned network differs
/// nearly everywhere, so a megabyte spread over it tells it apart, and is read in milliseconds.
const SAMPLES: usize = 256;
const SAMPLE_BYTES: usize = 4096;

/// Collects what a model consists of into one SHA-256.
#[derive(Default)]
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds something with its name and length, so that no two sequences of parts look alike.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        for piece in [name.as_bytes(), bytes] {
            self.0.update((piece.len() as u64).to_le_bytes());
            self.0.update(piece);
        }
    }

    pub(super) fn add_part(&mut self, name: PartName, part: &BundlePart) -> Result<()> {
        self.add(&format!("{name}/config.json"), part.config_json.as_bytes());
        for tensor in part.source.names() {
            let header = part.source.info(&tensor).map(|info| format!("{info:?}"));
            self.add(&tensor, header.unwrap_or_default().as_bytes());
        }
        let files = part.source.files();
        let share = SAMPLES.div_ceil(files.len().max(1)).max(2);
        for file in files {
            let name = file.path().file_name().unwrap_or(Path::new("").as_os_str());
            self.add(&name.to_string_lossy(), &file.length_bytes().to_le_bytes());
            let read = |offset, length| file.read(offset, length);
            self.add("samples", &samples(file.length_bytes(), share, read)?);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `count` evenly spaced pieces, the first and the last bytes among them; all of it when it is small.
fn samples(
    length: u64,
    count: usize,
    read: impl Fn(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let all = count * SAMPLE_BYTES;
    if length <= all as u64 {
        return read(0, length as usize);
    }
    let last = u128::from(length - SAMPLE_BYTES as u64);
    let mut bytes = Vec::with_capacity(all);
    for index in 0..count as u128 {
        let start = (last * index / (count as u128 - 1)) as u64;
        bytes.extend(read(start, SAMPLE_BYTES)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn small_files_are_read_whole_and_large_ones_to_both_ends() {
        let samples = |bytes: &[u8]| {
            let read = |offset: u64, length: usize| {
                let offset = offset as usize;
                Ok(bytes[offset..offset + length].to_vec())
            };
            samples(bytes.len() as u64, SAMPLES, read).unwrap()
        };
        assert_eq!(samples(&[1, 2, 3]), [1, 2, 3]);
        let mut large = vec![0u8; SAMPLES * SAMPLE_BYTES * 3];
        let blank = samples(&large);
        assert_eq!(blank.len(), SAMPLES * SAMPLE_BYTES);
        let end = large.len() - 1;
        for position in [0, end] {
            large[position] = 1;
            assert_ne!(samples(&large), blank);
            large[position] = 0;
        }
    }

    #[test]
    fn the_same_bytes_divided_otherwise_are_another_model() {
        let of = |parts: &[(&str, &str)]| {
            let mut fingerprint = Fingerprint::default();
            parts.iter().for_each(|(name, text)| fingerprint.add(name, text.as_bytes()));
            fingerprint.finish()
        };
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
        assert_eq!(of(&[("a", "bc")]), of(&[("a", "bc")]));
    }
}
