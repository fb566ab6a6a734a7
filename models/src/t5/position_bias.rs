//! What attention knows of positions: a learned bias for each head and bucket of distances.

use candle_core::Tensor;

use super::config::T5Config;
use crate::error::Result;
use crate::weights::Weights;

/// The relative position bias. Block 0 holds it, and all blocks use it.
pub struct RelativePositionBias {
    /// `[buckets, heads]`
    table: Tensor,
    buckets: usize,
    max_distance: usize,
}

impl RelativePositionBias {
    /// Reads the table of block 0. `weights` is the root of the T5 checkpoint.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let place = weights.pp("encoder.block.0.layer.0.SelfAttention.relative_attention_bias");
        let buckets = config.relative_attention_num_buckets;
        let table = place.tensor("weight", (buckets, config.num_heads))?;
        Ok(Self { table, buckets, max_distance: config.relative_attention_max_distance })
    }

    /// The bias that is added to the attention scores of a text of `length` tokens.
    ///
    /// # Shapes
    /// `[1, heads, length, length]`, query positions first.
    ///
    /// # Errors
    /// A tensor operation fails.
    ///
    /// # Source
    /// T5 (arXiv 1910.10683), section 2.1; `compute_bias` of Hugging Face's `modeling_t5.py`.
    pub fn bias(&self, length: usize) -> Result<Tensor> {
        let mut buckets = Vec::with_capacity(length * length);
        for query in 0..length {
            buckets.extend((0..length).map(|key| self.bucket(query, key)));
        }
        let buckets = Tensor::new(buckets, self.table.device())?;
        let bias = self.table.index_select(&buckets, 0)?.reshape((length, length, ()))?;
        Ok(bias.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?)
    }

    /// Half of the buckets are for keys behind the query; of each half the first half hold one distance each, the
    /// others grow logarithmically up to the maximal distance.
    fn bucket(&self, query: usize, key: usize) -> u32 {
        let half = self.buckets / 2;
        let exact = half / 2;
        let (side, distance) = (if key > query { half } else { 0 }, key.abs_diff(query));
        if distance < exact {
            return (side + distance) as u32;
        }
        // In f32, as in the reference, where the edges of the buckets depend on its rounding.
        let growth = (distance as f32 / exact as f32).ln()
            / (self.max_distance as f64 / exact as f64).ln() as f32;
        let far = exact + (growth * (half - exact) as f32) as usize;
        (side + far.min(half - 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};

    use super::*;

    fn bias() -> RelativePositionBias {
        let table = Tensor::arange(0f32, 32., &Device::Cpu).unwrap().reshape((32, 1)).unwrap();
        RelativePositionBias { table, buckets: 32, max_distance: 128 }
    }

    #[test]
    fn near_distances_are_exact_far_ones_logarithmic_and_the_farthest_shared() {
        let bias = bias();
        let to_the_left = |distance: usize| bias.bucket(1000, 1000 - distance);
        assert_eq!((0..8).map(to_the_left).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        // From 8 on the edges are 8 * 16^(k/8): 8, 11.3, 16, 22.6, 32, 45.3, 64, 90.5.
        let expected =
            [(8, 8), (11, 8), (12, 9), (15, 9), (16, 10), (22, 10), (23, 11), (31, 11), (33, 12)];
        for (distance, bucket) in expected {
            assert_eq!(to_the_left(distance), bucket, "distance {distance}");
        }
        assert_eq!([91, 127, 128, 999].map(to_the_left), [15; 4]);
        assert_eq!(bias.bucket(5, 8), 16 + 3);
    }

    #[test]
    fn queries_are_the_third_axis() {
        let bias = bias().bias(3).unwrap();
        assert_eq!(bias.dims(), [1, 1, 3, 3]);
        assert_eq!(bias.dtype(), DType::F32);
        let rows: Vec<Vec<f32>> = bias.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2().unwrap();
        assert_eq!(rows, [[0., 17., 18.], [1., 0., 17.], [2., 1., 0.]]);
    }
}
