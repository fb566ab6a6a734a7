//! Attention over rows of values where they lie, on a CPU in f32, without ever holding all scores.

use super::head_rows::{HeadRows, Preparation, Sequence};
use crate::nn::activation::exp;
use crate::nn::aligned::AlignedValues;
use crate::nn::microkernel::{ONE_TAP, Tile, lanes, largest_tile, panel_width};
use crate::nn::rows::{largest_of, sum_of};
use crate::nn::simd::{SimdLevel, vectorised};
use crate::nn::turn::{turn_panel, turn_tile};

/// Keys that are looked at together. Our choice: their scores and values stay in an inner cache; few sequences are longer.
const BLOCK_KEYS: usize = 480;

/// Blocks of keys begin where panels begin, whatever the processor: panels are 48, 16 or 12 keys wide.
const _: () = assert!(BLOCK_KEYS.is_multiple_of(48));

/// Attention of several heads.
pub(crate) struct HeadAttention<'a> {
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
    pub(crate) queries: Preparation<'a>,
    pub(crate) keys: Preparation<'a>,
}

/// Where a thread computes attention: reused from one sequence to the next.
#[derive(Default)]
pub(crate) struct AttentionScratch {
    /// Prepared vectors of a tile of queries or of a panel of keys `[vectors, head_size]`.
    prepared: Vec<f32>,
    /// Keys of one head, in panels `[head_size, keys of the panel]`.
    keys: AlignedValues,
    /// Values of one head `[keys, head_size in whole vectors]`.
    values: AlignedValues,
    /// Queries of one tile `[head_size, rows]`.
    queries: Vec<f32>,
    /// Scores of one tile `[rows, keys in whole panels]`, then their exponentials.
    scores: AlignedValues,
    /// The same, `[keys, rows]`.
    turned: Vec<f32>,
    /// Results of one tile `[rows, head_size in whole vectors]`.
    mixed: AlignedValues,
    /// Of each row of one tile.
    softmax: Vec<RunningSoftmax>,
}

impl HeadAttention<'_> {
    /// `softmax(q k^T) v` for each head of one sequence, on this thread. The bits of a query's result do not depend on the
    /// other queries.
    ///
    /// # Shapes
    /// `to` `[queries, heads * head_size]`.
    pub(crate) fn attend(
        &self,
        sequence: Sequence,
        to: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        for head in 0..self.heads {
            let rows = to.chunks_exact_mut(self.heads * self.head_size);
            let places = rows.map(|row| &mut row[head * self.head_size..][..self.head_size]);
            self.attend_head(head, sequence, None, places, scratch);
        }
    }

    /// One head of [`HeadAttention::attend`]: `softmax(q k^T + bias) v`.
    ///
    /// # Shapes
    /// `bias` `[queries, keys]`; `to` says how many queries there are, and where the head's vector of each goes.
    pub(crate) fn attend_head<'a>(
        &self,
        head: usize,
        sequence: Sequence,
        bias: Option<&[f32]>,
        mut to: impl ExactSizeIterator<Item = &'a mut [f32]>,
        scratch: &mut AttentionScratch,
    ) {
        let level = SimdLevel::best();
        let sequence = sequence.at_head(head, self.head_size);
        let key_count = sequence.key_count;
        vectorised(|| self.pack(sequence, level, scratch));
        let tile_rows = largest_tile(level).0;
        let padded_size = self.head_size.next_multiple_of(lanes(level));
        scratch.mixed.set_length(padded_size * tile_rows);
        for first_query in (0..to.len()).step_by(tile_rows) {
            let rows = tile_rows.min(to.len());
            vectorised(|| self.lay_out(sequence.queries, first_query, rows, tile_rows, scratch));
            scratch.softmax.clear();
            scratch.softmax.resize(tile_rows, RunningSoftmax::default());
            for first in (0..key_count).step_by(BLOCK_KEYS) {
                let keys = BLOCK_KEYS.min(key_count - first);
                self.score(first, keys, tile_rows, level, scratch);
                if let Some(bias) = bias {
                    let bias = bias[first_query * key_count..].chunks_exact(key_count);
                    scratch.add_bias(bias.take(rows), first, keys, panel_width(level));
                }
                scratch.weigh(keys, tile_rows, padded_size, panel_width(level));
                self.mix(first, keys, tile_rows, level, scratch);
            }
            let mixed = scratch.mixed.chunks_exact(padded_size).zip(&scratch.softmax);
            for (to, (mixed, softmax)) in to.by_ref().take(rows).zip(mixed) {
                to.iter_mut().zip(mixed).for_each(|(to, mixed)| *to = mixed / softmax.sum);
            }
        }
    }

    /// Lays out keys and values for tiles.
    #[inline(always)]
    fn pack(&self, sequence: Sequence, level: SimdLevel, scratch: &mut AttentionScratch) {
        let Sequence { keys, values, key_count, .. } = sequence;
        let (size, width) = (self.head_size, panel_width(level));
        let padded_size = size.next_multiple_of(lanes(level));
        // What lies behind the last key, from whatever was here before, is computed with and thrown away.
        scratch.keys.set_length(key_count.next_multiple_of(width) * size);
        for (index, panel) in scratch.keys.chunks_exact_mut(width * size).enumerate() {
            let first = index * width;
            let count = width.min(key_count - first);
            scratch.prepared.resize(count * size, 0.0);
            self.keys.prepare(keys, first, &mut scratch.prepared, size);
            turn_panel(&scratch.prepared, size, panel, width);
        }
        scratch.values.set_length(key_count * padded_size);
        for (index, to) in scratch.values.chunks_exact_mut(padded_size).enumerate() {
            let (value, padding) = to.split_at_mut(size);
            value.copy_from_slice(values.row(index, size));
            padding.fill(0.0);
        }
    }

    /// Lays out a tile of queries, with zeros where there are fewer.
    #[inline(always)]
    fn lay_out(
        &self,
        queries: HeadRows,
        first: usize,
        rows: usize,
        tile_rows: usize,
        scratch: &mut AttentionScratch,
    ) {
        let size = self.head_size;
        let AttentionScratch { prepared, queries: turned, .. } = scratch;
        prepared.resize(rows * size, 0.0);
        self.queries.prepare(queries, first, prepared, size);
        turned.resize(size * tile_rows, 0.0);
        turn_tile(prepared, size, 0, tile_rows, turned);
    }

    /// Scores of a tile of queries and a block of keys.
    fn score(
        &self,
        first: usize,
        keys: usize,
        tile_rows: usize,
        level: SimdLevel,
        scratch: &mut AttentionScratch,
    ) {
        let (size, width) = (self.head_size, panel_width(level));
        let pitch = keys.next_multiple_of(width);
        scratch.scores.set_length(tile_rows * pitch);
        for panel in 0..pitch / width {
            let left = keys - panel * width;
            Tile {
                scalars: &scratch.queries,
                rows: tile_rows,
                vectors: &scratch.keys[(first / width + panel) * width * size..][..width * size],
                channels: size,
                channel_pitch: width,
                taps: ONE_TAP,
                sums: &mut scratch.scores[panel * width..],
                sums_pitch: pitch,
                width: left.min(width).div_ceil(lanes(level)),
                add: false,
                next: &[],
            }
            .compute(level);
        }
    }

    /// Adds up a block's values by the weights of the turned scores.
    fn mix(
        &self,
        first: usize,
        keys: usize,
        tile_rows: usize,
        level: SimdLevel,
        scratch: &mut AttentionScratch,
    ) {
        let (lanes, most) = (lanes(level), largest_tile(level).1);
        let padded_size = self.head_size.next_multiple_of(lanes);
        for vector in (0..padded_size / lanes).step_by(most) {
            let width = most.min(padded_size / lanes - vector);
            Tile {
                scalars: &scratch.turned[..keys * tile_rows],
                rows: tile_rows,
                vectors: &scratch.values[first * padded_size + vector * lanes..],
                channels: keys,
                channel_pitch: padded_size,
                taps: ONE_TAP,
                sums: &mut scratch.mixed[vector * lanes..],
                sums_pitch: padded_size,
                width,
                add: first > 0,
                next: &[],
            }
            .compute(level);
        }
    }
}

/// The softmax of a row of scores that come block by block.
#[derive(Clone, Copy)]
struct RunningSoftmax {
    largest: f32,
    sum: f32,
}

impl Default for RunningSoftmax {
    fn default() -> Self {
        Self { largest: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl AttentionScratch {
    /// Adds a bias to a block's scores; it gives a row of all keys for each query.
    fn add_bias<'a>(
        &mut self,
        bias: impl Iterator<Item = &'a [f32]>,
        first: usize,
        keys: usize,
        panel_width: usize,
    ) {
        let pitch = keys.next_multiple_of(panel_width);
        vectorised(|| {
            for (scores, bias) in self.scores.chunks_exact_mut(pitch).zip(bias) {
                let scores = scores[..keys].iter_mut();
                scores.zip(&bias[first..]).for_each(|(score, bias)| *score += bias);
            }
        });
    }

    /// Turns a block's scores into weights relative to the largest score so far, and brings what was mixed before to the
    /// same measure.
    fn weigh(&mut self, keys: usize, tile_rows: usize, padded_size: usize, panel_width: usize) {
        let pitch = keys.next_multiple_of(panel_width);
        self.turned.resize(keys * tile_rows, 0.0);
        let Self { scores, turned, mixed, softmax, .. } = self;
        vectorised(|| {
            for (row, softmax) in softmax.iter_mut().enumerate() {
                let scores = &mut scores[row * pitch..][..keys];
                let largest = softmax.largest.max(largest_of(scores));
                // Where a bias hides all keys so far, nothing is the largest.
                let base = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
                scores.iter_mut().for_each(|score| *score = exp(*score - base));
                let before = exp(softmax.largest - base);
                if softmax.sum > 0.0 && before != 1.0 {
                    let mixed = &mut mixed[row * padded_size..][..padded_size];
                    mixed.iter_mut().for_each(|value| *value *= before);
                }
                softmax.sum = softmax.sum * before + sum_of(scores, |weight| weight) as f32;
                softmax.largest = largest;
            }
            turn_tile(scores, pitch, 0, tile_rows, turned);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::nn::scaled_dot_product_attention;

    /// `heads` heads of `size`, with `queries` and `keys` rows, against the plain operations.
    fn check(heads: usize, size: usize, queries: usize, keys: usize) {
        let random =
            |rows: usize| Tensor::randn(0f32, 1.0, (rows, 3, heads, size), &Device::Cpu).unwrap();
        let (q, kv) = (random(queries), random(keys));
        let part = |x: &Tensor, index: usize| {
            let part = x.narrow(1, index, 1).unwrap().squeeze(1).unwrap();
            part.transpose(0, 1).unwrap().unsqueeze(0).unwrap().contiguous().unwrap()
        };
        let scale = 0.3;
        let expected =
            scaled_dot_product_attention(&part(&q, 0), &part(&kv, 1), &part(&kv, 2), scale, None)
                .unwrap()
                .transpose(1, 2)
                .unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (q, kv, width) = (values(&q), values(&kv), heads * size);
        let rows = |values, part| HeadRows { values, pitch: 3 * width, start: part * width };
        let attention = HeadAttention {
            heads,
            head_size: size,
            queries: Preparation::scaled(scale as f32),
            keys: Preparation::scaled(1.0),
        };
        let mut found = vec![0f32; queries * width];
        let mut scratch = AttentionScratch::default();
        for _ in 0..2 {
            let [queries, of_keys, values] = [rows(&q, 0), rows(&kv, 1), rows(&kv, 2)];
            let sequence = Sequence { queries, keys: of_keys, values, key_count: keys };
            attention.attend(sequence, &mut found, &mut scratch);
        }
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{a} is not {b} with {queries} x {keys}");
        }
    }

    #[test]
    fn it_is_what_the_plain_operations_give() {
        for (queries, keys) in [(1, 1), (8, 48), (13, 50), (20, 20), (9, 479), (5, 481), (17, 1500)]
        {
            check(2, 24, queries, keys);
        }
        check(3, 7, 10, 11);
        check(1, 72, 16, 144);
    }
}
