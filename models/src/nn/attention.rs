//! Scaled dot-product attention, shared by every attention of the project.

use candle_core::Tensor;

use crate::error::Result;

/// `softmax(q k^T * scale + bias) v`.
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
    let q = (q * scale)?.contiguous()?;
    let scores = q.matmul(&k.t()?.contiguous()?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let probabilities = candle_nn::ops::softmax_last_dim(&scores)?;
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
}
