//! One transformer block, spatial or temporal.

mod fused;
mod groups;
mod scratch;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use super::attention::{CrossAttention, SelfAttention};
use super::config::Stdit3Config;
use super::context::StepContext;
use super::modulation::{BlockModulation, normalise_and_modulate};
use crate::error::{ModelError, Result};
use crate::nn::{Linear, RotaryTable, gelu};
use crate::probe::Probe;
use crate::weights::Weights;
use fused::FusedBlock;

/// What self-attention mixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionAxis {
    /// Tokens of the same frame.
    Spatial,
    /// Tokens at the same spot of all frames, with rotary positions.
    Temporal,
}

/// Self-attention over one axis, cross-attention to the text, and an MLP.
///
/// # Source
/// `STDiT3Block` of `stdit3.py`; token merging as in section "Temporal Dimension Token Merging" of arXiv 2502.04363.
pub struct Stdit3Block {
    name: String,
    axis: AttentionAxis,
    modulation_table: Tensor,
    self_attention: SelfAttention,
    cross_attention: CrossAttention,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Stdit3Block {
    /// Where block `index` of the order of execution lives: its axis, and its number among those of that axis.
    pub fn position(index: usize) -> (AttentionAxis, usize) {
        let axis =
            if index.is_multiple_of(2) { AttentionAxis::Spatial } else { AttentionAxis::Temporal };
        (axis, index / 2)
    }

    /// The name, in the checkpoint, of the place that block `index` of the order of execution reads.
    pub fn place(index: usize) -> String {
        let (axis, number) = Self::position(index);
        let list = match axis {
            AttentionAxis::Spatial => "spatial_blocks",
            AttentionAxis::Temporal => "temporal_blocks",
        };
        format!("{list}.{number}")
    }

    /// The part of the checkpoint `root` that block `index` of the order of execution reads.
    pub fn weights(root: &Weights, index: usize) -> Weights {
        root.pp(Self::place(index))
    }

    /// Reads block `index` of the order of execution (spatial 0, temporal 0, spatial 1, ...) from the checkpoint's
    /// root.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(root: &Weights, config: &Stdit3Config, index: usize) -> Result<Self> {
        let (axis, number) = Self::position(index);
        let name = match axis {
            AttentionAxis::Spatial => format!("spatial_{number}"),
            AttentionAxis::Temporal => format!("temporal_{number}"),
        };
        let weights = Self::weights(root, index);
        let (hidden, mlp_hidden) = (config.hidden_size, config.mlp_hidden_size());
        Ok(Self {
            name,
            axis,
            modulation_table: weights.tensor("scale_shift_table", (6, hidden))?,
            self_attention: SelfAttention::load(&weights.pp("attn"), config)?,
            cross_attention: CrossAttention::load(&weights.pp("cross_attn"), config)?,
            mlp_in: Linear::load(&weights.pp("mlp").pp("fc1"), hidden, mlp_hidden)?,
            mlp_out: Linear::load(&weights.pp("mlp").pp("fc2"), mlp_hidden, hidden)?,
        })
    }

    /// What self-attention mixes.
    pub fn axis(&self) -> AttentionAxis {
        self.axis
    }

    /// # Shapes
    /// `[rows, T * S, hidden]` to the same, frame by frame.
    ///
    /// # Errors
    /// The tokens are not those of the step, or a tensor operation fails.
    pub fn forward(
        &self,
        tokens: &Tensor,
        step: &StepContext,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let grid = &step.prompt.grid;
        let hidden = self.modulation_table.dim(1)?;
        let expected = [step.prompt.rows(), grid.frames() * grid.spots(), hidden];
        if tokens.dims() != expected {
            return Err(ModelError::bad_input(format!(
                "tokens {:?} are not those of the step, which are {expected:?}",
                tokens.dims()
            )));
        }
        if !probe.looks_inside_blocks()
            && let Some(fused) = FusedBlock::new(self, tokens, step)?
        {
            let x = fused.forward(tokens)?;
            probe.tap(&self.name, &x);
            return Ok(x);
        }
        self.forward_plainly(tokens, step, probe)
    }

    /// The block operation by operation: what the fused path is compared with, and the way of other devices and dtypes.
    fn forward_plainly(
        &self,
        tokens: &Tensor,
        step: &StepContext,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let grid = &step.prompt.grid;
        let (rows, _, hidden) = tokens.dims3()?;
        let by_frame = (rows, grid.frames(), grid.spots(), hidden);
        let modulation = BlockModulation::new(&self.modulation_table, &step.modulation)?;

        let x = tokens.reshape(by_frame)?;
        let input =
            normalise_and_modulate(&x, &modulation.attention_shift, &modulation.attention_scale)?;
        let attended =
            self.attend_merged(&input, step, |merged| self.attend_along_axis(merged, step, probe))?;
        let x = (x + attended.broadcast_mul(&modulation.attention_gate)?)?;

        let attended = self.attend_merged(&x, step, |merged| {
            let out = self.cross_attention.forward(&merged.flatten(1, 2)?, &step.prompt.text)?;
            probe.tap(&self.tap_name("cross_out"), &out);
            Ok(out.reshape(merged.shape())?)
        })?;
        let x = (x + attended)?;

        let input = normalise_and_modulate(&x, &modulation.mlp_shift, &modulation.mlp_scale)?;
        let hidden_layer = gelu(&self.mlp_in.forward(&input.flatten(1, 2)?)?)?;
        let out = self.mlp_out.forward(&hidden_layer)?;
        probe.tap(&self.tap_name("mlp_out"), &out);
        let x = (x + out.reshape(by_frame)?.broadcast_mul(&modulation.mlp_gate)?)?.flatten(1, 2)?;
        probe.tap(&self.name, &x);
        Ok(x)
    }

    /// Runs `attention` on merged frames, if this step merges, and undoes the merging.
    fn attend_merged(
        &self,
        x: &Tensor,
        step: &StepContext,
        attention: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match step.merge {
            None => attention(x),
            Some(merge) => merge.unmerge(&attention(&merge.merge(x)?)?, x.dim(1)?),
        }
    }

    /// Self-attention on `[rows, T', S, C]`.
    fn attend_along_axis(
        &self,
        x: &Tensor,
        step: &StepContext,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let (rows, frames, spots, hidden) = x.dims4()?;
        let sequences = match self.axis {
            AttentionAxis::Spatial => x.flatten(0, 1)?,
            AttentionAxis::Temporal => {
                x.transpose(1, 2)?.reshape((rows * spots, frames, hidden))?
            }
        };
        probe.tap(&self.tap_name("attn_in"), &sequences);
        let out = self.self_attention.forward(&sequences, self.rotary(step))?;
        probe.tap(&self.tap_name("attn_out"), &out);
        Ok(match self.axis {
            AttentionAxis::Spatial => out.reshape((rows, frames, spots, hidden))?,
            AttentionAxis::Temporal => {
                out.reshape((rows, spots, frames, hidden))?.transpose(1, 2)?.contiguous()?
            }
        })
    }

    fn rotary<'a>(&self, step: &'a StepContext) -> Option<&'a RotaryTable> {
        match self.axis {
            AttentionAxis::Spatial => None,
            AttentionAxis::Temporal => Some(&step.prompt.rotary),
        }
    }

    fn tap_name(&self, point: &str) -> String {
        format!("{}.{point}", self.name)
    }
}
