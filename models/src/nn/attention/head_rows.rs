//! Where the queries, keys and values of heads lie, and how they are prepared for a product.

use crate::nn::norm::rms_norm_row;
use crate::nn::rope::RotaryTable;

/// Rows of one sequence that hold, among other things, a vector for each head.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    pub(crate) values: &'a [f32],
    /// Distance between two rows.
    pub(crate) pitch: usize,
    /// Where the first head's vector of the first row starts.
    pub(crate) start: usize,
}

/// How queries and keys become what is multiplied.
#[derive(Clone, Copy)]
pub(crate) struct Preparation<'a> {
    /// RMS norm: its weight and epsilon.
    pub(crate) norm: Option<(&'a [f32], f64)>,
    /// Rotary positions: that of each row is its place in the sequence.
    pub(crate) rotary: Option<&'a RotaryTable>,
    /// What queries are multiplied by; 1 for keys.
    pub(crate) scale: f32,
}

/// One sequence: its queries, and what they look at.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub(crate) queries: HeadRows<'a>,
    pub(crate) keys: HeadRows<'a>,
    pub(crate) values: HeadRows<'a>,
    pub(crate) key_count: usize,
}

impl Sequence<'_> {
    /// The same sequence from the head at `head` on, each of which has `size` values.
    pub(super) fn at_head(self, head: usize, size: usize) -> Self {
        let [queries, keys, values] =
            [self.queries, self.keys, self.values].map(|rows| rows.from(head * size));
        Self { queries, keys, values, ..self }
    }
}

impl HeadRows<'_> {
    /// The same rows, so many values further on.
    fn from(self, values: usize) -> Self {
        Self { start: self.start + values, ..self }
    }

    pub(super) fn row(&self, index: usize, size: usize) -> &[f32] {
        &self.values[index * self.pitch + self.start..][..size]
    }
}

impl Preparation<'_> {
    /// Multiplied, and nothing else.
    pub(crate) fn scaled(scale: f32) -> Self {
        Self { norm: None, rotary: None, scale }
    }

    /// Prepares as many rows, from the one at `first` on, as `to` `[rows, size]` has room for.
    #[inline(always)]
    pub(super) fn prepare(&self, rows: HeadRows, first: usize, to: &mut [f32], size: usize) {
        for (position, to) in (first..).zip(to.chunks_exact_mut(size)) {
            let row = rows.row(position, size);
            match self.norm {
                None => to.copy_from_slice(row),
                Some((weight, eps)) => rms_norm_row(row, weight, eps, to),
            }
            if let Some(table) = self.rotary {
                table.rotate_row(position, to);
            }
            if self.scale != 1.0 {
                to.iter_mut().for_each(|value| *value *= self.scale);
            }
        }
    }
}
