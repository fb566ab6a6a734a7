//! A block on a CPU in f32: a group of tokens passes all of it while it is in a core's caches, so that nothing as wide as
//! queries, scores or the hidden layer ever exists for all tokens.
//!
//! Results differ from the plain path's by rounding only. A token's bits depend neither on how tokens are grouped nor on
//! the number of threads.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::Stdit3Block;
use super::groups::{TokenGroup, token_groups};
use super::scratch::BlockScratch;
use crate::error::Result;
use crate::nn::{
    Activation, HeadAttention, HeadRows, PackedLinear, Preparation, RotaryTable, ScratchPool,
    Sequence, is_plain, mean_and_scale, rows_of_a_share, values_in_order, vectorised, with_values,
};
use crate::stdit3::attention::{CrossWeights, SelfWeights};
use crate::stdit3::context::{PackedText, StepContext};
use crate::stdit3::modulation::{EPSILON, Modulation};

/// Tokens of a group whose hidden layer is computed at a time. Our choice: it stays in an outer cache.
const MLP_ROWS: usize = 192;

/// A block and what it works with in one step.
pub(super) struct FusedBlock<'a> {
    self_attention: SelfWeights<'a>,
    cross_attention: CrossWeights<'a>,
    mlp: [&'a PackedLinear; 2],
    rotary: Option<&'a RotaryTable>,
    text: &'a PackedText,
    /// Keys and values of the text, `[sum of lengths, 2 * hidden]`.
    text_rows: Vec<f32>,
    modulation: Modulation,
    groups: Vec<TokenGroup>,
}

impl<'a> FusedBlock<'a> {
    /// `None` where the plain path must be taken.
    pub(super) fn new(
        block: &'a Stdit3Block,
        tokens: &Tensor,
        step: &'a StepContext,
    ) -> Result<Option<Self>> {
        let mlp = block.mlp_in.packed().zip(block.mlp_out.packed());
        let attentions = block.self_attention.packed()?.zip(block.cross_attention.packed());
        let (Some((mlp_in, mlp_out)), Some((self_attention, cross_attention))) = (mlp, attentions)
        else {
            return Ok(None);
        };
        if !is_plain(tokens) {
            return Ok(None);
        }
        let grid = &step.prompt.grid;
        let (rows, frames) = (tokens.dim(0)?, grid.frames());
        let merged_frames = step.merge.map_or(frames, |merge| merge.merged_frames(frames));
        let merged = rows * merged_frames * grid.spots();
        let share = rows_of_a_share(merged, rayon::current_num_threads());
        let text = &step.prompt.text;
        let text_rows = cross_attention.key_value.forward(&text.tokens)?;
        Ok(Some(Self {
            self_attention,
            cross_attention,
            mlp: [mlp_in, mlp_out],
            rotary: block.rotary(step),
            text,
            text_rows: with_values(&text_rows, <[f32]>::to_vec)?,
            modulation: Modulation::new(&block.modulation_table, &step.modulation)?,
            groups: token_groups(grid, rows, block.axis, step.merge, share),
        }))
    }

    /// # Shapes
    /// `[rows, T * S, hidden]` to the same, frame by frame.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        Ok(tokens.apply_op1_no_bwd(self)?)
    }

    fn pass(&self, x: &[f32], group: &TokenGroup, to: Vec<&mut [f32]>, scratch: &mut BlockScratch) {
        let hidden = self.modulation.hidden();
        scratch.stream.clear();
        for token in &group.tokens {
            scratch.stream.extend_from_slice(&x[token.place * hidden..][..hidden]);
        }
        self.attend_to_each_other(group, scratch);
        self.attend_to_text(group, scratch);
        self.think(group, to, scratch);
    }

    /// Self-attention, added to the stream.
    fn attend_to_each_other(&self, group: &TokenGroup, scratch: &mut BlockScratch) {
        let SelfWeights { qkv, norms, projection, heads } = &self.self_attention;
        let hidden = self.modulation.hidden();
        let [shift, scale, gate] = [0, 1, 2];
        let BlockScratch { stream, input, wide, mixed, product, attention } = scratch;
        input.resize(group.merged.len() * hidden, 0.0);
        vectorised(|| {
            for (merged, to) in group.merged.iter().zip(input.chunks_exact_mut(hidden)) {
                for source in 0..merged.sources {
                    let token = merged.first + source;
                    let frame = group.tokens[token].frame;
                    let parts =
                        [shift, scale].map(|part| self.modulation.part(group.row, frame, part));
                    let row = &stream[token * hidden..][..hidden];
                    modulate(row, parts, to, source > 0);
                }
            }
        });
        halve_pairs(group, input, hidden);
        wide.resize(group.merged.len() * 3 * hidden, 0.0);
        qkv.multiply(input, Activation::None, wide, product);
        let head_size = hidden / heads;
        let norm =
            |index: usize| norms.as_ref().map(|norms| (norms[index].0.as_slice(), norms[index].1));
        let prepared = |index, scale| Preparation { norm: norm(index), rotary: self.rotary, scale };
        let of_heads = HeadAttention {
            heads: *heads,
            head_size,
            queries: prepared(0, 1.0 / (head_size as f32).sqrt()),
            keys: prepared(1, 1.0),
        };
        mixed.resize(group.merged.len() * hidden, 0.0);
        let sequences = wide.chunks_exact(group.length * 3 * hidden);
        for (rows, to) in sequences.zip(mixed.chunks_exact_mut(group.length * hidden)) {
            let part = |part| HeadRows { values: rows, pitch: 3 * hidden, start: part * hidden };
            let [queries, keys, values] = [0, 1, 2].map(part);
            let sequence = Sequence { queries, keys, values, key_count: group.length };
            of_heads.attend(sequence, to, attention);
        }
        projection.multiply(mixed, Activation::None, input, product);
        vectorised(|| {
            for (merged, update) in group.merged.iter().zip(input.chunks_exact(hidden)) {
                for token in merged.first..merged.first + merged.targets {
                    let gate = self.modulation.part(group.row, group.tokens[token].frame, gate);
                    let values = stream[token * hidden..][..hidden].iter_mut();
                    values.zip(update.iter().zip(gate)).for_each(|(x, (y, gate))| *x += y * gate);
                }
            }
        });
    }

    /// Cross-attention, added to the stream.
    fn attend_to_text(&self, group: &TokenGroup, scratch: &mut BlockScratch) {
        let CrossWeights { query, projection, heads, .. } = &self.cross_attention;
        let hidden = self.modulation.hidden();
        let BlockScratch { stream, input, mixed, product, attention, .. } = scratch;
        for (merged, to) in group.merged.iter().zip(input.chunks_exact_mut(hidden)) {
            to.copy_from_slice(&stream[merged.first * hidden..][..hidden]);
            for source in 1..merged.sources {
                let row = &stream[(merged.first + source) * hidden..][..hidden];
                to.iter_mut().zip(row).for_each(|(to, x)| *to += x);
            }
        }
        halve_pairs(group, input, hidden);
        query.multiply(input, Activation::None, mixed, product);
        let head_size = hidden / heads;
        let of_heads = HeadAttention {
            heads: *heads,
            head_size,
            queries: Preparation::scaled(1.0 / (head_size as f32).sqrt()),
            keys: Preparation::scaled(1.0),
        };
        let first: usize = self.text.lengths[..group.row].iter().sum();
        let part = |part| HeadRows {
            values: &self.text_rows,
            pitch: 2 * hidden,
            start: (2 * first + part) * hidden,
        };
        let queries = HeadRows { values: mixed, pitch: hidden, start: 0 };
        let [keys, values] = [0, 1].map(part);
        let sequence = Sequence { queries, keys, values, key_count: self.text.lengths[group.row] };
        of_heads.attend(sequence, input, attention);
        projection.multiply(input, Activation::None, mixed, product);
        for (merged, update) in group.merged.iter().zip(mixed.chunks_exact(hidden)) {
            for token in merged.first..merged.first + merged.targets {
                let values = stream[token * hidden..][..hidden].iter_mut();
                values.zip(update).for_each(|(x, y)| *x += y);
            }
        }
    }

    /// The MLP, added to the stream on its way out.
    fn think(&self, group: &TokenGroup, mut to: Vec<&mut [f32]>, scratch: &mut BlockScratch) {
        let hidden = self.modulation.hidden();
        let [shift, scale, gate] = [3, 4, 5];
        let [mlp_in, mlp_out] = self.mlp;
        let BlockScratch { stream, input, wide, mixed, product, .. } = scratch;
        let chunks = group.tokens.chunks(MLP_ROWS).zip(stream.chunks(MLP_ROWS * hidden));
        for ((tokens, stream), to) in chunks.zip(to.chunks_mut(MLP_ROWS)) {
            input.resize(stream.len(), 0.0);
            vectorised(|| {
                let rows = stream.chunks_exact(hidden).zip(input.chunks_exact_mut(hidden));
                for (token, (row, to)) in tokens.iter().zip(rows) {
                    let part = |part| self.modulation.part(group.row, token.frame, part);
                    modulate(row, [part(shift), part(scale)], to, false);
                }
            });
            wide.resize(tokens.len() * mlp_in.out_features(), 0.0);
            mlp_in.multiply(input, Activation::Gelu, wide, product);
            mixed.resize(stream.len(), 0.0);
            mlp_out.multiply(wide, Activation::None, mixed, product);
            vectorised(|| {
                let rows = stream.chunks_exact(hidden).zip(mixed.chunks_exact(hidden));
                for ((token, to), (row, update)) in tokens.iter().zip(to.iter_mut()).zip(rows) {
                    let gate = self.modulation.part(group.row, token.frame, gate);
                    let values = row.iter().zip(update.iter().zip(gate));
                    to.iter_mut().zip(values).for_each(|(to, (x, (y, gate)))| *to = x + y * gate);
                }
            });
        }
    }
}

/// `layer_norm(row) * (1 + scale) + shift`, put into `to` or added to it.
#[inline(always)]
fn modulate(row: &[f32], [shift, scale]: [&[f32]; 2], to: &mut [f32], add: bool) {
    let (mean, norm) = mean_and_scale(row, EPSILON);
    let modulated = row.iter().zip(shift.iter().zip(scale));
    let modulated = modulated.map(|(x, (shift, scale))| (x - mean) * norm * (scale + 1.0) + shift);
    match add {
        true => to.iter_mut().zip(modulated).for_each(|(to, value)| *to += value),
        false => to.iter_mut().zip(modulated).for_each(|(to, value)| *to = value),
    }
}

/// Makes means of the sums of two tokens.
fn halve_pairs(group: &TokenGroup, sums: &mut [f32], hidden: usize) {
    for (merged, sum) in group.merged.iter().zip(sums.chunks_exact_mut(hidden)) {
        if merged.sources == 2 {
            sum.iter_mut().for_each(|value| *value *= 0.5);
        }
    }
}

impl CustomOp1 for FusedBlock<'_> {
    fn name(&self) -> &'static str {
        "stdit3-block"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values_in_order(storage, layout, self.name())?;
        let mut result = vec![0f32; x.len()];
        let mut places: Vec<_> =
            result.chunks_exact_mut(self.modulation.hidden()).map(Some).collect();
        // Each token is in one group, so none finds its place taken.
        let mut take = |group: &TokenGroup| -> Vec<&mut [f32]> {
            group.tokens.iter().filter_map(|token| places[token.place].take()).collect()
        };
        let work: Vec<_> = self.groups.iter().map(|group| (group, take(group))).collect();
        let pool = ScratchPool::<BlockScratch>::new();
        work.into_par_iter().with_max_len(1).for_each(|(group, to)| {
            pool.with(|scratch| self.pass(x, group, to, scratch));
        });
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }
}
