//! Scaled dot-product attention, shared by every attention of the project.

mod biased;
mod fused;
mod head_rows;
mod rows;

use candle_core::Tensor;

use super::activation::softmax;
use crate::error::Result;

pub(crate) use biased::biased_attention;
pub(crate) use head_rows::{HeadRows, Preparation, Sequence};
pub(crate) use rows::{AttentionScratch, HeadAttention};

/// Scores held at a time, in elements: 64 MiB in f32. Our choice: far above what a core's caches hold, so larger slabs
/// gain nothing, and small beside a block's weights.
pub(crate) const SLAB_SCORES: usize = 1 << 24;

/// `softmax(q k^T * scale + bias) v`: as one kernel where the device has one, else in slabs of sequences, or of queries where
/// one sequence is too long, so that the scores of a long video are never in memory all at once.
///
/// # Shapes
/// `q` `[N, heads, Lq, D]`, `k` and `v` `[N, heads, Lk, D]`, `bias` broadcastable to `[N, heads, Lq, Lk]`;
/// the result is `[N, heads, Lq, D]`.
///
/// # Errors
/// The shapes do not fit each other.
pub fn scaled_dot_product_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    match fused::fused_attention(q, k, v, scale, bias)? {
        Some(mixed) => Ok(mixed),
        None => in_slabs(&(q * scale)?, k, v, bias, SLAB_SCORES),
    }
}

/// Attention by scaled queries, with at most `most_scores` scores at a time (but those of one query at least).
fn in_slabs(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    most_scores: usize,
) -> Result<Tensor> {
    let (sequences, heads, queries, _) = q.dims4()?;
    let scores_of_a_query = heads * k.dim(2)?;
    if sequences * queries * scores_of_a_query <= most_scores || sequences * queries <= 1 {
        return whole(q, k, v, bias);
    }
    // Axis 0 is sequences, each with keys of its own; axis 2 is queries, which share theirs.
    let (axis, length, slab) = if sequences > 1 {
        (0, sequences, most_scores / (queries * scores_of_a_query))
    } else {
        (2, queries, most_scores / scores_of_a_query)
    };
    let slab = slab.max(1);
    let part = |x: &Tensor, start: usize| -> Result<Tensor> {
        Ok(x.narrow(axis, start, slab.min(length - start))?)
    };
    let mut parts = Vec::with_capacity(length.div_ceil(slab));
    for start in (0..length).step_by(slab) {
        let bias = match bias {
            Some(bias) if bias.dim(axis)? == length => Some(part(bias, start)?),
            shared => shared.cloned(),
        };
        let (keys, values) =
            if axis == 0 { (part(k, start)?, part(v, start)?) } else { (k.clone(), v.clone()) };
        parts.push(in_slabs(&part(q, start)?, &keys, &values, bias.as_ref(), most_scores)?);
    }
    Ok(Tensor::cat(&parts, axis)?)
}

fn whole(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = q.contiguous()?.matmul(&k.t()?.contiguous()?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let probabilities = softmax(&scores)?;
    Ok(probabilities.matmul(&v.contiguous()?)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn a_bias_of_minus_infinity_hides_a_key() {
        let device = Device::Cpu;
        let q = Tensor::ones((1, 1, 1, 2), candle_core::DType::F32, &device).unwrap();
        let v = Tensor::new(&[[[[1f32, 2.], [30., 40.]]]], &device).unwrap();
        let bias = Tensor::new(&[[[[0f32, f32::NEG_INFINITY]]]], &device).unwrap();
        let out = scaled_dot_product_attention(&q, &v, &v, 1.0, Some(&bias)).unwrap();
        assert_eq!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1., 2.]);
    }

    #[test]
    fn slabs_change_nothing() {
        let random = |shape: (usize, usize, usize, usize)| {
            Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap()
        };
        let (q, k, v) = (random((3, 2, 5, 4)), random((3, 2, 7, 4)), random((3, 2, 7, 4)));
        let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for bias in [None, Some(random((1, 2, 5, 7))), Some(random((3, 1, 1, 7)))] {
            let expected = values(whole(&q, &k, &v, bias.as_ref()).unwrap());
            // From everything at once over two sequences and two queries down to one query at a time.
            for most_scores in [usize::MAX, 140, 70, 30, 1] {
                let found = values(in_slabs(&q, &k, &v, bias.as_ref(), most_scores).unwrap());
                for (a, b) in found.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-5, "{a} is not {b} with {most_scores} scores");
                }
                assert_eq!(found.len(), expected.len());
            }
        }
    }
}
