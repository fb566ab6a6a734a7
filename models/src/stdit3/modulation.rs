//! adaLN-single: shift, scale and gate from the timestep, shared by all blocks but for a learned table in each.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::{layer_norm, with_values};

/// Epsilon of every normalisation in the transformer.
///
/// # Source
/// `eps=1e-6` throughout `stdit3.py`.
pub(super) const EPSILON: f64 = 1e-6;

/// `layer_norm(x) * (1 + scale) + shift`.
///
/// # Shapes
/// `x` `[B, T, S, C]`; `shift` and `scale` `[B, F, 1, C]` with `F` 1 or T.
pub(super) fn normalise_and_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let normed = layer_norm(x, EPSILON)?;
    Ok(normed.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(shift)?)
}

/// The six modulations of a block, `[B, F, 1, C]` each.
pub(super) struct BlockModulation {
    pub(super) attention_shift: Tensor,
    pub(super) attention_scale: Tensor,
    pub(super) attention_gate: Tensor,
    pub(super) mlp_shift: Tensor,
    pub(super) mlp_scale: Tensor,
    pub(super) mlp_gate: Tensor,
}

impl BlockModulation {
    /// Adds a block's table `[6, C]` to the step's modulation `[B, F, 6, C]`.
    pub(super) fn new(table: &Tensor, step: &Tensor) -> Result<Self> {
        let all = step.broadcast_add(table)?;
        let part = |index| all.narrow(2, index, 1);
        Ok(Self {
            attention_shift: part(0)?,
            attention_scale: part(1)?,
            attention_gate: part(2)?,
            mlp_shift: part(3)?,
            mlp_scale: part(4)?,
            mlp_gate: part(5)?,
        })
    }
}

/// The six modulations of a block for each row and frame, as values on a CPU.
pub(super) struct Modulation {
    /// `[B, F, 6, C]`.
    values: Vec<f32>,
    frames: usize,
    hidden: usize,
}

impl Modulation {
    /// As [`BlockModulation::new`].
    pub(super) fn new(table: &Tensor, step: &Tensor) -> Result<Self> {
        let all = step.broadcast_add(table)?;
        let (_, frames, _, hidden) = all.dims4()?;
        Ok(Self { values: with_values(&all, <[f32]>::to_vec)?, frames, hidden })
    }

    /// Length of a modulation.
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// One of the six, in the order of [`BlockModulation`].
    pub(super) fn part(&self, row: usize, frame: usize, index: usize) -> &[f32] {
        let frame = if self.frames == 1 { 0 } else { frame };
        &self.values[((row * self.frames + frame) * 6 + index) * self.hidden..][..self.hidden]
    }
}
