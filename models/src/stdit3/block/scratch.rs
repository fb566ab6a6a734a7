//! Where a thread computes a group of tokens.

use crate::nn::{AttentionScratch, ProductScratch};

/// Reused from one group of a block to the next.
#[derive(Default)]
pub(super) struct BlockScratch {
    /// The group's tokens as they are so far, `[tokens, hidden]`.
    pub(super) stream: Vec<f32>,
    /// What goes into a product, or comes out of one, `[merged tokens, hidden]`.
    pub(super) input: Vec<f32>,
    /// Queries, keys and values, or the hidden layer.
    pub(super) wide: Vec<f32>,
    /// Results of an attention, or of the MLP.
    pub(super) mixed: Vec<f32>,
    pub(super) product: ProductScratch,
    pub(super) attention: AttentionScratch,
}
