//! Values that begin where a cache line does.

use std::ops::{Deref, DerefMut};

/// A cache line, which is also the longest vector that a tile reads.
const LINE_BYTES: usize = 64;
/// Values of a cache line.
pub(super) const LINE_VALUES: usize = LINE_BYTES / size_of::<f32>();

/// A buffer whose vectors, if they are laid out one after the other, each lie in one cache line. Large allocations never do by
/// themselves: the allocator keeps notes in front of them.
#[derive(Default)]
pub(crate) struct AlignedValues {
    /// Never grows in place, so that `start` stays what it is.
    allocation: Vec<f32>,
    start: usize,
    length: usize,
}

impl AlignedValues {
    /// So many zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let allocation = vec![0f32; length + LINE_VALUES - 1];
        // Where no offset would do, which an allocator may say of any, vectors are just slower to read.
        let start = allocation.as_ptr().align_offset(LINE_BYTES);
        let start = if start < LINE_VALUES { start } else { 0 };
        Self { allocation, start, length }
    }

    /// Makes room for so many values, of which nothing can be said but that they are there.
    pub(crate) fn set_length(&mut self, length: usize) {
        if self.start + length > self.allocation.len() {
            *self = Self::zeros(length);
        }
        self.length = length;
    }
}

impl Deref for AlignedValues {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.allocation[self.start..][..self.length]
    }
}

impl DerefMut for AlignedValues {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.allocation[self.start..][..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_with_a_cache_line_whatever_their_length() {
        let mut values = AlignedValues::default();
        for length in [1, 15, 16, 17, 5 << 20, 3] {
            values.set_length(length);
            assert_eq!(values.len(), length);
            assert!(values.as_ptr().addr().is_multiple_of(LINE_BYTES));
            values.fill(1.0);
        }
    }
}
