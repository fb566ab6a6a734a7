//! Random weights that keep activations finite, made as fast as a disk takes them.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::storage_dtype::StorageDtype;
use crate::bundle::PartName;

/// The values of one made-up tensor.
///
/// They follow from the seed and the tensor's name alone, whatever is made before or beside it, and are the same in
/// every dtype but for rounding.
pub(super) enum RandomWeights {
    /// All the same.
    Constant(f32),
    /// Written out, one by one.
    Given(Vec<f32>),
    /// Drawn.
    Uniform(UniformWeights),
}

/// Uniform values between two bounds.
///
/// One multiplication-and-shift hash of a counter gives four values, each picked from a table of [`LEVELS`] that are
/// already in the stored dtype: about a nanosecond a value, without conversion, at any position.
pub(super) struct UniformWeights {
    key: u64,
    half_width: f32,
}

/// Our choice: so many different values that f16 near the bound has no more, and a table that fits a processor's first cache.
const LEVELS: usize = 4096;

/// Values from one hash, 16 bits each, of which the table takes 12.
const LANES: usize = 4;

/// Our choice: spread of biases. Small beside activations of about 1, but not nothing.
const BIAS_DEVIATION: f32 = 0.02;

/// Features of a head in every published size of T5, which takes the scale of attention's scores into its queries.
const T5_HEAD_FEATURES: usize = 64;

impl RandomWeights {
    /// What a parameter of one network of a model gets; two networks may use the same name. T5's queries and its table of
    /// tokens have the spread with which T5 begins its training: without it, each token would attend to nearly one other,
    /// and what the blocks add would drown the tokens.
    ///
    /// # Source
    /// `T5PreTrainedModel._init_weights` in transformers, `modeling_t5.py`.
    pub(super) fn of_part(seed: u64, part: PartName, name: &str, shape: &[usize]) -> Self {
        let scale = match part {
            PartName::T5 if name.ends_with(".SelfAttention.q.weight") => {
                (T5_HEAD_FEATURES as f32).sqrt().recip()
            }
            PartName::T5 if name == "shared.weight" => (shape[shape.len() - 1] as f32).sqrt(),
            _ => 1.0,
        };
        let mut weights = Self::of_parameter(seed, &format!("{part}/{name}"), shape);
        if let Self::Uniform(uniform) = &mut weights {
            uniform.half_width *= scale;
        }
        weights
    }

    /// What a parameter of this name and shape gets: 1 for the weights of norms, small biases, and for matrices,
    /// convolutions and tables a deviation of `1 / sqrt(fan_in)`, which keeps the size of what passes through.
    pub(super) fn of_parameter(seed: u64, name: &str, shape: &[usize]) -> Self {
        let deviation = match shape {
            [] | [_] if name.ends_with(".weight") => return Self::Constant(1.0),
            [] | [_] => BIAS_DEVIATION,
            [_, inputs @ ..] => (inputs.iter().product::<usize>().max(1) as f32).sqrt().recip(),
        };
        // A uniform distribution reaches to the square root of three deviations.
        let half_width = 3f32.sqrt() * deviation;
        Self::Uniform(UniformWeights { key: key(seed, name), half_width })
    }

    /// Whether values can be handed out from this one on, without those before it.
    pub(super) fn can_start_at(element: usize) -> bool {
        element.is_multiple_of(LANES)
    }

    /// Hands out some of the values as a file holds them, in pieces of at most `piece.len()` bytes. The first of them must be
    /// one that [`RandomWeights::can_start_at`] allows.
    ///
    /// # Errors
    /// Those of `take`.
    pub(super) fn stream<E>(
        &self,
        elements: Range<usize>,
        dtype: StorageDtype,
        piece: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Given(values) => take(&dtype.encode(&values[elements])),
            Self::Constant(value) => take(&dtype.encode(&vec![*value; elements.len()])),
            Self::Uniform(uniform) => {
                let table = dtype.encode(&uniform.levels());
                let mut left = elements.len() * dtype.dtype().size_in_bytes();
                let whole_groups = LANES * dtype.dtype().size_in_bytes();
                let most = piece.len() / whole_groups * whole_groups;
                let mut group = (elements.start / LANES) as u64;
                while left > 0 {
                    let piece = &mut piece[..left.min(most)];
                    group = match dtype {
                        StorageDtype::F32 => fill::<4>(piece, &table, uniform.key, group),
                        StorageDtype::F16 | StorageDtype::Bf16 => {
                            fill::<2>(piece, &table, uniform.key, group)
                        }
                    };
                    take(piece)?;
                    left -= piece.len();
                }
                Ok(())
            }
        }
    }
}

impl UniformWeights {
    /// The middles of as many equal parts of the interval.
    fn levels(&self) -> Vec<f32> {
        let part = 2.0 * self.half_width / LEVELS as f32;
        (0..LEVELS).map(|level| (level as f32 + 0.5) * part - self.half_width).collect()
    }
}

/// Fills `piece`, which begins with group `group`, and returns the number of the group behind it.
fn fill<const SIZE: usize>(piece: &mut [u8], table: &[u8], key: u64, mut group: u64) -> u64 {
    let (levels, _) = table.as_chunks::<SIZE>();
    let (values, _) = piece.as_chunks_mut::<SIZE>();
    for lanes in values.chunks_mut(LANES) {
        let bits = mixed(key.wrapping_add(group.wrapping_mul(GOLDEN_GAMMA)));
        for (lane, value) in lanes.iter_mut().enumerate() {
            *value = levels[(bits >> (16 * lane)) as usize % LEVELS];
        }
        group += 1;
    }
    group
}

/// The odd number nearest to 2^64 over the golden ratio: multiples of it are spread evenly.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes all bits of a counter.
///
/// # Source
/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn key(seed: u64, name: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use half::f16;

    use super::*;

    fn bytes(name: &str, shape: &[usize], seed: u64, dtype: StorageDtype, piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let weights = RandomWeights::of_parameter(seed, name, shape);
        let take = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok::<_, ()>(())
        };
        weights.stream(0..shape.iter().product(), dtype, &mut vec![0; piece], take).unwrap();
        all
    }

    fn floats(name: &str, shape: &[usize]) -> Vec<f32> {
        let bytes = bytes(name, shape, 1, StorageDtype::F32, 1 << 16);
        bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
    }

    #[test]
    fn values_follow_from_seed_and_name_and_not_from_the_pieces() {
        let of = |name, seed, piece| bytes(name, &[7, 33], seed, StorageDtype::F16, piece);
        assert_eq!(of("a.weight", 1, 64), of("a.weight", 1, 1 << 20));
        assert_eq!(of("a.weight", 1, 64).len(), 7 * 33 * 2);
        assert_ne!(of("a.weight", 1, 64), of("b.weight", 1, 64));
        assert_ne!(of("a.weight", 1, 64), of("a.weight", 2, 64));
    }

    #[test]
    fn values_are_the_same_in_every_dtype_but_for_rounding() {
        let exact = floats("a.weight", &[50, 100]);
        let half = bytes("a.weight", &[50, 100], 1, StorageDtype::F16, 4096);
        let rounded: Vec<_> = half.as_chunks().0.iter().map(|v| f16::from_le_bytes(*v)).collect();
        let expected: Vec<_> = exact.iter().map(|value| f16::from_f32(*value)).collect();
        assert_eq!(rounded, expected);
    }

    #[test]
    fn matrices_keep_the_size_of_what_passes_through() {
        let values = floats("mlp.weight", &[300, 400]);
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / count;
        // Four standard errors of 120000 uniform values of deviation 1/20.
        assert!(mean.abs() < 4.0 * 0.05 / count.sqrt(), "{mean}");
        assert!((variance * 400.0 - 1.0).abs() < 4.0 * (0.8 / count).sqrt(), "{variance}");
        assert!(values.iter().all(|value| value.abs() < 3f32.sqrt() / 20.0));
        // Neighbours, and values of the lanes of one hash, do not go together.
        for distance in 1..=8 {
            let pairs = values.iter().zip(&values[distance..]);
            let product = pairs.map(|(a, b)| a * b).sum::<f32>() / count * 400.0;
            assert!(product.abs() < 4.0 / count.sqrt(), "{distance}: {product}");
        }
    }

    #[test]
    fn norms_are_one_and_biases_small() {
        assert_eq!(floats("norm.weight", &[5]), [1.0; 5]);
        let biases = floats("norm.bias", &[1000]);
        assert!(biases.iter().all(|bias| bias.abs() < 0.04) && biases.iter().any(|b| *b != 0.0));
    }
}
