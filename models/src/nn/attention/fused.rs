//! Attention as one kernel of the GPU, which never writes scores to memory: candle's on Metal.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// Sizes of a head that the kernel is compiled for in every dtype (candle-metal-kernels,
/// `scaled_dot_product_attention.metal`): the transformer's is 72, T5's 64.
const HEAD_SIZES: [usize; 7] = [32, 64, 72, 80, 96, 128, 256];

/// A size that is too large for the kernel's memory in f32: the autoencoder's one head.
const HALF_PRECISION_HEAD_SIZE: usize = 512;

/// `softmax(q k^T * scale + bias) v` where the kernel can do it; `None` elsewhere.
///
/// # Shapes
/// As [`super::scaled_dot_product_attention`].
///
/// # Errors
/// The shapes do not fit each other.
pub(super) fn fused_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    if !q.device().is_metal() || !has_kernel(q.dims4()?, k.dim(2)?, q.dtype(), bias.is_some()) {
        return Ok(None);
    }
    let (sequences, heads, queries, _) = q.dims4()?;
    let scores = (sequences, heads, queries, k.dim(2)?);
    let bias = match bias {
        Some(bias) => {
            Some(readable_bias(&bias.to_dtype(q.dtype())?, k.dim(2)?)?.broadcast_as(scores)?)
        }
        None => None,
    };
    let [q, k, v] = [q, k, v].map(rows_in_one_piece);
    let (causal, no_cap) = (false, 1.0);
    Ok(Some(candle_nn::ops::sdpa(&q?, &k?, &v?, bias.as_ref(), causal, scale as f32, no_cap)?))
}

/// Whether candle has a kernel for queries `[N, heads, Lq, D]` and so many keys. One query goes another way there, which
/// takes no bias; it is too rare here to be worth it.
fn has_kernel(
    (_, _, queries, head_size): (usize, usize, usize, usize),
    keys: usize,
    dtype: DType,
    biased: bool,
) -> bool {
    let compiled = HEAD_SIZES.contains(&head_size)
        || (head_size == HALF_PRECISION_HEAD_SIZE && dtype != DType::F32);
    compiled && queries > 1 && (!biased || queries <= keys)
}

/// A bias with a value for each key, as the kernel reads it: side by side, and from the beginning of its memory, since candle tells
/// it of no other. It steps over all other axes, so a bias that is shared along them is not written out.
fn readable_bias(bias: &Tensor, keys: usize) -> candle_core::Result<Tensor> {
    let (sequences, heads, queries, _) = bias.dims4()?;
    let bias = bias.broadcast_as((sequences, heads, queries, keys))?;
    match bias.layout().start_offset() {
        0 => rows_in_one_piece(&bias),
        _ => bias.force_contiguous(),
    }
}

/// The same tensor, with the last axis side by side in memory.
fn rows_in_one_piece(x: &Tensor) -> candle_core::Result<Tensor> {
    match x.stride().last() {
        Some(1) => Ok(x.clone()),
        _ => x.contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn what_the_kernel_is_not_made_for_goes_the_plain_way() {
        let has = |queries, head_size, keys, dtype, biased| {
            has_kernel((2, 16, queries, head_size), keys, dtype, biased)
        };
        assert!(has(144, 72, 30, DType::F32, false));
        assert!(has(300, 64, 300, DType::BF16, true));
        assert!(has(1024, 512, 1024, DType::F16, false));
        assert!(!has(1024, 512, 1024, DType::F32, false));
        assert!(!has(144, 8, 30, DType::F32, false), "no kernel has such heads");
        assert!(!has(1, 72, 30, DType::F32, false));
        assert!(!has(144, 72, 30, DType::F32, true), "a bias needs a key for each query");
    }

    #[test]
    fn a_bias_is_where_the_kernel_reads_it() {
        let bias = Tensor::arange(0f32, 48., &Device::Cpu).unwrap().reshape((2, 2, 3, 4)).unwrap();
        let shared = bias.narrow(1, 0, 1).unwrap().broadcast_as((2, 5, 3, 4)).unwrap();
        let cases = [
            bias.clone(),
            bias.narrow(0, 1, 1).unwrap(),
            bias.narrow(2, 1, 2).unwrap(),
            bias.narrow(3, 0, 1).unwrap(),
            bias.narrow(3, 2, 1).unwrap(),
            bias.transpose(2, 3).unwrap().narrow(3, 0, 1).unwrap(),
            shared.clone(),
        ];
        for case in &cases {
            let found = readable_bias(case, 4).unwrap();
            let layout = found.layout();
            assert_eq!((layout.start_offset(), layout.stride()[3]), (0, 1), "{case:?}");
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&found), values(&case.broadcast_as(found.shape()).unwrap()));
        }
        assert_eq!(readable_bias(&shared, 4).unwrap().stride(), shared.stride(), "written out");
    }

    #[cfg(feature = "metal")]
    #[test]
    fn the_kernel_computes_what_the_plain_way_does() {
        let metal = Device::new_metal(0).unwrap();
        // Lengths beside and between the kernel's tiles of 32.
        let plain: fn(Tensor) -> candle_core::Result<Tensor> = Ok;
        let cases: [(_, _, Option<fn(Tensor) -> _>); 5] = [
            (144, 30, None),
            (20, 20, None),
            (33, 65, Some(plain)),
            // Of more sequences than one, not the first; and one value for all keys.
            (33, 65, Some(|bias| bias.narrow(0, 1, 1))),
            (33, 65, Some(|bias| bias.narrow(0, 0, 1)?.narrow(3, 7, 1))),
        ];
        for (queries, keys, part) in cases {
            let random =
                |length| Tensor::randn(0f32, 1., (3, 2, length, 72), &Device::Cpu).unwrap();
            let (q, k, v) = (random(queries), random(keys), random(keys));
            let whole = Tensor::randn(0f32, 1., (3, 2, queries, keys), &Device::Cpu).unwrap();
            let on = |x: &Tensor| x.to_device(&metal).unwrap();
            let bias_on =
                |device: &Device| part.map(|part| part(whole.to_device(device).unwrap()).unwrap());
            let bias = bias_on(&Device::Cpu);
            let expected =
                crate::nn::scaled_dot_product_attention(&q, &k, &v, 0.1, bias.as_ref()).unwrap();
            let bias = bias_on(&metal);
            let found = fused_attention(&on(&q), &on(&k), &on(&v), 0.1, bias.as_ref()).unwrap();
            let found = found.expect("there is a kernel").to_device(&Device::Cpu).unwrap();
            let error = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
            let error = error.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(error < 1e-3, "{queries} queries, {keys} keys: {error}");
        }
    }
}
