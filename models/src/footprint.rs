//! How much memory computation takes beside the weights, estimated from sizes, the number of threads and the way that a
//! device and a dtype are computed in.
//!
//! Each estimate counts the tensors that are alive together at the worst moment, in units of the widest ones; the counts
//! were measured with models of full size (see the constants) and hold for every size, since the tensors grow together.

use candle_core::{DType, Device};

use crate::error::Result;
use crate::nn::{ATTENTION_SLAB_SCORES, convolution_workspace_bytes, sums_of_a_row};
use crate::sizes::VideoSize;
use crate::stdit3::Stdit3Config;
use crate::t5::T5Config;
use crate::vae::VaeConfig;

/// Rows of one step: the prompt, and the null caption or the negative prompt that guidance compares it with.
const GUIDANCE_ROWS: usize = 2;

/// Token tensors that are alive at the worst moment of a transformer block on the plain path, besides the two hidden layers
/// of its MLP.
const BLOCK_TOKEN_TENSORS: usize = 9;

/// Token tensors that are alive in the transformer's first and last layers.
const END_TOKEN_TENSORS: usize = 4;

/// Rows that a thread has in hand on the fused path, unless a sequence is longer.
const FUSED_GROUP_ROWS: usize = 192;

/// What the fused path holds for each row in hand besides queries, keys and values or the hidden layer, and what products lay
/// out of it, in rows: up to three tokens that are merged, what goes into products, and an attention's result.
const FUSED_ROWS: usize = 5;

/// Hidden layers of the MLP that are alive together: before and after the activation.
const BLOCK_HIDDEN_LAYERS: usize = 2;

/// Tensors as wide as a T5 block's feed-forward layer that are alive together, and as wide as its scores.
const T5_WIDE_TENSORS: usize = 5;
const T5_SCORE_TENSORS: usize = 3;

/// Tensors of the widest level of each of the decoder's networks that are alive together.
const VAE_TENSORS: usize = 6;

/// Taps of the decoder's largest kernels: three along each axis.
const LARGEST_KERNEL_TAPS: usize = 27;

/// Frames are decoded in groups whose widest tensor stays below this. Our choice: above the frames of a small model, below
/// what matters beside a network's weights.
const FRAME_GROUP_BYTES: usize = 48 << 20;

/// Memory of one job's activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBytes {
    /// What the job holds while another one computes.
    pub carried: u64,
    /// What computing one block takes on top.
    pub working: u64,
}

/// Memory of denoising one video from so many texts, the prompt and perhaps a negative one, computed in `dtype` on `device`.
///
/// # Errors
/// The video is too small for a latent.
pub fn denoising_bytes(
    config: &Stdit3Config,
    size: VideoSize,
    texts: usize,
    dtype: DType,
    device: &Device,
) -> Result<ActivationBytes> {
    let [frames, rows, columns] = size.latent()?;
    let [_, patch_rows, patch_columns] = config.patch_size;
    let tokens = frames * rows.div_ceil(patch_rows) * columns.div_ceil(patch_columns);
    let width = dtype.size_in_bytes();
    let token_tensor = GUIDANCE_ROWS * tokens * config.hidden_size * width;
    let hidden_layer = GUIDANCE_ROWS * tokens * config.mlp_hidden_size() * width;
    // Embeddings, and what the transformer makes of the text of each row.
    let text_channels = texts * config.caption_channels + GUIDANCE_ROWS * config.hidden_size;
    let text = config.model_max_length * text_channels * 4;
    // The latent and what is made of it: in f32, up to a dozen of them with guidance, leap and trend.
    let latents = 12 * config.in_channels * frames * rows * columns * 4;
    let carried = (2 * token_tensor + text + latents) as u64;
    if is_computed_by_rows(dtype, device) {
        let text_rows = GUIDANCE_ROWS * config.model_max_length * 2 * config.hidden_size * width;
        let group = FUSED_GROUP_ROWS.max(tokens / frames).max(frames);
        let wide = (3 * config.hidden_size).max(config.mlp_hidden_size());
        let rows_in_hand = (FUSED_ROWS * config.hidden_size + wide) * group;
        // The MLP takes so many rows at a time, whatever the group.
        let laid_out =
            (config.hidden_size * group).max(config.mlp_hidden_size() * FUSED_GROUP_ROWS);
        let scratch = (rows_in_hand + laid_out + sums_of_a_row() * group) * width;
        let fused = token_tensor + text_rows + rayon::current_num_threads() * scratch;
        let working = fused.max(END_TOKEN_TENSORS * token_tensor) as u64;
        return Ok(ActivationBytes { carried, working });
    }
    let mlp = BLOCK_HIDDEN_LAYERS * hidden_layer;
    // Scores and their softmax, for one slab at most.
    let frame_tokens = tokens / frames;
    let scores =
        GUIDANCE_ROWS * config.num_heads * tokens * frame_tokens.max(config.model_max_length);
    let attention = 2 * ATTENTION_SLAB_SCORES.min(scores) * width;
    Ok(ActivationBytes {
        carried,
        working: (BLOCK_TOKEN_TENSORS * token_tensor + mlp.max(attention)) as u64,
    })
}

/// Memory of embedding one prompt of so many tokens, computed in `dtype` on `device`.
pub fn embedding_bytes(
    config: &T5Config,
    tokens: usize,
    dtype: DType,
    device: &Device,
) -> ActivationBytes {
    let width = dtype.size_in_bytes();
    let wide = tokens * config.d_ff.max(config.attention_width()) * width;
    let scores = config.num_heads * tokens * tokens * width;
    // Attention by rows holds none.
    let score_tensors = if is_computed_by_rows(dtype, device) { 0 } else { T5_SCORE_TENSORS };
    ActivationBytes {
        // The residual stream, and the position bias.
        carried: (tokens * config.d_model * width + scores) as u64,
        working: (T5_WIDE_TENSORS * wide + score_tensors * scores) as u64,
    }
}

/// Whether the fast paths of the CPU are taken.
fn is_computed_by_rows(dtype: DType, device: &Device) -> bool {
    device.is_cpu() && dtype == DType::F32
}

/// Memory of decoding a video, computed in `dtype` on `device`: the larger of the two passes.
///
/// # Errors
/// The video is too small for a latent.
pub fn decoding_bytes(
    config: &VaeConfig,
    size: VideoSize,
    dtype: DType,
    device: &Device,
) -> Result<u64> {
    let [_, rows, columns] = size.latent()?;
    let width = dtype.size_in_bytes();
    let factor = config.temporal.time_factor();
    let chunk_frames = config.micro_frame_size.next_multiple_of(factor);
    let temporal = config.temporal.widest() * chunk_frames * rows * columns * width;
    let frames = frames_at_once(config, rows, columns, dtype);
    let spatial = frames * frame_bytes(config, rows, columns, dtype);
    let latents = config.latent_channels() * size.frames * rows * columns * width;
    let attention = 2
        * ATTENTION_SLAB_SCORES.min((rows * columns).saturating_pow(2).saturating_mul(frames))
        * width;
    let widest = temporal.max(spatial);
    let largest_kernel = LARGEST_KERNEL_TAPS * config.temporal.widest().pow(2) * width;
    let workspace = match is_computed_by_rows(dtype, device) {
        true => convolution_workspace_bytes(widest, largest_kernel),
        false => 0,
    };
    Ok((VAE_TENSORS * widest + workspace + attention + 3 * latents) as u64)
}

/// How many frames to decode together: as many as the config says, but no more than memory is well spent on.
pub fn frames_at_once(config: &VaeConfig, rows: usize, columns: usize, dtype: DType) -> usize {
    let affordable = FRAME_GROUP_BYTES / frame_bytes(config, rows, columns, dtype).max(1);
    affordable.clamp(1, config.spatial.micro_batch_size)
}

/// The widest tensor of one frame: at full resolution, with the channels of the level before the last.
fn frame_bytes(config: &VaeConfig, rows: usize, columns: usize, dtype: DType) -> usize {
    let channels = config.spatial.block_out_channels.iter().take(2).max().copied().unwrap_or(0);
    let factor = config.spatial_factor();
    channels * rows * factor * columns * factor * dtype.size_in_bytes()
}
