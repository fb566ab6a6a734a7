//! Attention of whole sequences with a bias, on a CPU in f32.

use candle_core::Tensor;
use rayon::prelude::*;

use super::head_rows::{HeadRows, Preparation, Sequence};
use super::rows::{AttentionScratch, HeadAttention};
use crate::error::Result;
use crate::nn::microkernel::PRODUCTS_ON_ONE_THREAD;
use crate::nn::rows::{is_plain, with_values};
use crate::nn::scratch::ScratchPool;

/// `softmax(q k^T + bias) v` for each head, without ever holding all scores; `None` where the general operations must do it.
///
/// # Shapes
/// `q`, `k` and `v` `[B, L, heads * D]`, `bias` `[1, heads, L, L]` or `[B, heads, L, L]`; the result is
/// `[B, L, heads * D]`.
///
/// # Errors
/// A tensor operation fails.
pub(crate) fn biased_attention(
    [q, k, v]: [&Tensor; 3],
    bias: &Tensor,
    heads: usize,
) -> Result<Option<Tensor>> {
    let (batch, length, width) = q.dims3()?;
    let Ok((biases, of_heads, queries, keys)) = bias.dims4() else { return Ok(None) };
    let fits = (of_heads, queries, keys) == (heads, length, length)
        && (biases == 1 || biases == batch)
        && width.is_multiple_of(heads);
    let all_plain = [q, k, v, bias].into_iter().all(is_plain);
    if !fits || !all_plain || k.dims() != q.dims() || v.dims() != q.dims() {
        return Ok(None);
    }
    let prepared = Preparation::scaled(1.0);
    let head_size = width / heads;
    let attention = HeadAttention { heads, head_size, queries: prepared, keys: prepared };
    let pool = ScratchPool::<AttentionScratch>::new();
    let mut mixed = vec![0f32; batch * length * width];
    // For each head of each sequence, where the vectors of its queries go.
    let mut places: Vec<_> = (0..batch * heads).map(|_| Vec::with_capacity(length)).collect();
    for (row, to) in mixed.chunks_exact_mut(width).enumerate() {
        let of_sequence = places[row / length * heads..][..heads].iter_mut();
        of_sequence.zip(to.chunks_exact_mut(head_size)).for_each(|(places, to)| places.push(to));
    }
    let attend = |q: &[f32], k: &[f32], v: &[f32], bias: &[f32]| {
        let attend_head = |(index, to): (usize, Vec<&mut [f32]>)| {
            let (sequence, head) = (index / heads, index % heads);
            let rows = |values| HeadRows { values, pitch: width, start: sequence * length * width };
            let [queries, keys, values] = [rows(q), rows(k), rows(v)];
            let bias =
                &bias[(sequence % biases * heads + head) * length * length..][..length * length];
            let sequence = Sequence { queries, keys, values, key_count: length };
            pool.with(|scratch| {
                attention.attend_head(head, sequence, Some(bias), to.into_iter(), scratch);
            });
        };
        // As many for the scores as for the values that they weigh.
        if 2 * batch * length * length * width <= PRODUCTS_ON_ONE_THREAD {
            places.into_iter().enumerate().for_each(attend_head);
        } else {
            places.into_par_iter().enumerate().with_max_len(1).for_each(attend_head);
        }
    };
    with_values(q, |q| {
        with_values(k, |k| with_values(v, |v| with_values(bias, |bias| attend(q, k, v, bias))))
    })????;
    Ok(Some(Tensor::from_vec(mixed, (batch, length, width), q.device())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device};

    use super::*;
    use crate::nn::scaled_dot_product_attention;

    /// Enough work for several threads: sequences, biases, heads, size of a head, tokens.
    const SHARED: (usize, usize, usize, usize, usize) = (2, 2, 4, 32, 200);

    #[test]
    fn it_is_what_the_general_operations_give() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        for (batch, biases, heads, size, length) in
            [(1, 1, 4, 16, 7), (3, 1, 2, 8, 300), (2, 2, 3, 24, 50), (1, 1, 1, 8, 700), SHARED]
        {
            let [q, k, v] = [(); 3].map(|()| random(&[batch, length, heads * size]));
            // The first keys are hidden, as padding is; with many keys, that is a whole block of them.
            let hidden = Tensor::full(
                f32::NEG_INFINITY,
                (biases, heads, length, length / 5 * 4),
                &Device::Cpu,
            );
            let seen = random(&[biases, heads, length, length - length / 5 * 4]);
            let bias = Tensor::cat(&[hidden.unwrap(), seen], 3).unwrap().contiguous().unwrap();
            let found = biased_attention([&q, &k, &v], &bias, heads).unwrap().unwrap();
            let by_head = |x: &Tensor| {
                x.reshape((batch, length, heads, size)).unwrap().transpose(1, 2).unwrap()
            };
            let expected = scaled_dot_product_attention(
                &by_head(&q),
                &by_head(&k),
                &by_head(&v),
                1.0,
                Some(&bias),
            );
            let expected = expected.unwrap().transpose(1, 2).unwrap();
            let expected = expected.reshape((batch, length, heads * size)).unwrap();
            let off = (found - expected).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 2e-5, "{length} tokens: {off}");
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let (batch, biases, heads, size, length) = SHARED;
        assert!(2 * batch * length * length * heads * size > PRODUCTS_ON_ONE_THREAD);
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let [q, k, v] = [(); 3].map(|()| random(&[batch, length, heads * size]));
        let bias = random(&[biases, heads, length, length]);
        let attend = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mixed = pool.install(|| biased_attention([&q, &k, &v], &bias, heads));
            let mixed = mixed.unwrap().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            mixed.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = attend(1);
        assert!(alone == attend(2) && alone == attend(5), "the bits differ");
    }

    #[test]
    fn other_shapes_and_dtypes_are_left_to_the_general_operations() {
        let x = Tensor::zeros((1, 4, 8), DType::F32, &Device::Cpu).unwrap();
        let shared = Tensor::zeros((1, 1, 1, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(biased_attention([&x, &x, &x], &shared, 2).unwrap().is_none());
        let of_any_batch = Tensor::zeros((2, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(biased_attention([&x, &x, &x], &of_any_batch, 2).unwrap().is_none());
        let whole = Tensor::zeros((1, 2, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(biased_attention([&x, &x, &x], &whole, 2).unwrap().is_some());
        for uneven in [0, 3, 16] {
            let bias = Tensor::zeros((1, uneven, 4, 4), DType::F32, &Device::Cpu).unwrap();
            assert!(biased_attention([&x, &x, &x], &bias, uneven).unwrap().is_none());
        }
        let narrow = x.to_dtype(DType::BF16).unwrap();
        assert!(biased_attention([&narrow, &narrow, &narrow], &whole, 2).unwrap().is_none());
    }
}
