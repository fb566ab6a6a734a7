//! What blocks need besides tokens: a part that is fixed for a prompt, and a part that is fixed for a step.

use candle_core::Tensor;

use super::merge::TemporalTokenMerge;
use crate::nn::RotaryTable;

/// What a job fixes before its first step. Rows are `[conditional..., unconditional...]`.
pub struct PromptInput<'a> {
    /// Text features of every row, `[rows, L, caption_channels]` (or `[rows, 1, L, caption_channels]`).
    pub text: &'a Tensor,
    /// Which text tokens are real, `[n, L]`, not zero where they are; repeated until every row has one, so that the
    /// null caption keeps as many tokens as its prompt.
    pub text_mask: &'a Tensor,
    /// Frames per second, one a prompt, repeated like the mask.
    pub frames_per_second: &'a [f32],
    /// Height and width of the video in pixels.
    pub picture_px: (f64, f64),
    /// Frames, height and width of the latent.
    pub latent_size: [usize; 3],
}

/// The work on a prompt that its steps share.
#[derive(Clone)]
pub struct PromptContext {
    pub(super) grid: TokenGrid,
    pub(super) text: PackedText,
    /// `[rows, hidden]`.
    pub(super) frame_rate_embedding: Tensor,
    /// `[1, S, hidden]`.
    pub(super) position_embedding: Tensor,
    pub(super) rotary: RotaryTable,
}

impl PromptContext {
    /// Rows of the batch, conditional and unconditional ones.
    pub fn rows(&self) -> usize {
        self.text.lengths.len()
    }
}

/// One evaluation of the model.
pub struct StepInput<'a> {
    /// Noisy latents, `[rows, in_channels, T, H, W]`.
    pub latent: &'a Tensor,
    /// Diffusion time of each row, in `[0, 1000]`.
    pub timesteps: &'a [f32],
    /// `[rows, T]`, `U8`: 1 where a frame is being denoised, 0 where it is a given, clean frame; `None` for all ones.
    pub frame_mask: Option<&'a Tensor>,
    /// Token merging in this step.
    pub merge: Option<TemporalTokenMerge>,
}

/// What every block of one step shares.
#[derive(Clone)]
pub struct StepContext {
    pub(super) prompt: PromptContext,
    pub(super) merge: Option<TemporalTokenMerge>,
    /// What blocks add their tables to, `[rows, F, 6, hidden]`: `F` is 1, or T where frames differ.
    pub(super) modulation: Tensor,
    /// `[rows, hidden]`.
    pub(super) time_embedding: Tensor,
    pub(super) given_frames: Option<GivenFrames>,
}

/// The frames that are not being denoised in a step.
#[derive(Clone)]
pub(super) struct GivenFrames {
    /// `[rows, T, 1, 1]`, `U8`: 0 where the frame is given.
    pub(super) mask: Tensor,
    /// The time embedding of timestep 0, `[rows, hidden]`.
    pub(super) time_embedding: Tensor,
}

/// Text tokens of all rows, one after the other, without padding.
#[derive(Clone)]
pub(super) struct PackedText {
    /// `[1, sum of lengths, hidden]`.
    pub(super) tokens: Tensor,
    pub(super) lengths: Vec<usize>,
}

/// How tokens lie in the latent.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenGrid {
    /// Frames, height and width of the latent.
    pub(super) latent: [usize; 3],
    /// Rows and columns of tokens in a frame.
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl TokenGrid {
    pub(super) fn new(latent: [usize; 3], patch: [usize; 3]) -> Self {
        let (rows, columns) = (latent[1].div_ceil(patch[1]), latent[2].div_ceil(patch[2]));
        Self { latent, rows, columns }
    }

    pub(super) fn frames(&self) -> usize {
        self.latent[0]
    }

    /// Tokens of a frame.
    pub(super) fn spots(&self) -> usize {
        self.rows * self.columns
    }
}
