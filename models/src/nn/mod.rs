//! Every primitive of the three networks, once. Faster paths belong behind these functions, not beside them.

pub mod activation;
mod aligned;
pub mod attention;
pub mod conv;
pub mod embeddings;
pub mod group_norm;
pub mod linear;
mod microkernel;
pub mod norm;
pub mod rope;
mod rows;
mod scratch;
mod simd;
mod turn;

pub use activation::{gelu, gelu_gated, silu, softmax};
pub use attention::scaled_dot_product_attention;
pub(crate) use attention::{
    AttentionScratch, HeadAttention, HeadRows, Preparation, SLAB_SCORES as ATTENTION_SLAB_SCORES,
    Sequence, biased_attention,
};
pub(crate) use conv::workspace_bytes as convolution_workspace_bytes;
pub use conv::{CausalConv3d, Conv2d, DoublingConv2d, Window, release_workspaces};
pub use embeddings::{PositionScale, sin_cos_positions_2d, sinusoidal_embedding};
pub use group_norm::GroupNorm;
pub use linear::Linear;
pub(crate) use linear::{Activation, PackedLinear, ProductScratch, rows_of_a_share, sums_of_a_row};
pub(crate) use norm::mean_and_scale;
pub use norm::{RmsNorm, layer_norm};
pub use rope::RotaryTable;
pub(crate) use rows::{is_plain, values_in_order, with_values};
pub(crate) use scratch::ScratchPool;
pub(crate) use simd::vectorised;
