//! From tokens back to a latent.

use candle_core::Tensor;

use super::config::Stdit3Config;
use super::context::{StepContext, TokenGrid};
use super::modulation::normalise_and_modulate;
use crate::error::Result;
use crate::nn::Linear;
use crate::weights::Weights;

/// A last modulation and the projection of each token to its patch.
pub(super) struct FinalLayer {
    modulation_table: Tensor,
    projection: Linear,
}

impl FinalLayer {
    /// Reads `scale_shift_table` `[2, hidden]` and `linear`.
    pub(super) fn load(weights: &Weights, config: &Stdit3Config) -> Result<Self> {
        let (hidden, out) = (config.hidden_size, config.patch_volume() * config.out_channels());
        Ok(Self {
            modulation_table: weights.tensor("scale_shift_table", (2, hidden))?,
            projection: Linear::load(&weights.pp("linear"), hidden, out)?,
        })
    }

    /// # Shapes
    /// `[rows, T * S, hidden]` to `[rows, T * S, patch volume * out channels]`, a patch's values channel-last.
    pub(super) fn forward(&self, tokens: &Tensor, step: &StepContext) -> Result<Tensor> {
        let grid = &step.prompt.grid;
        let (rows, _, hidden) = tokens.dims3()?;
        let x = tokens.reshape((rows, grid.frames(), grid.spots(), hidden))?;
        let mut modulated = self.modulate(&x, &step.time_embedding)?;
        if let Some(given) = &step.given_frames {
            // Given frames are modulated on top of the modulated tensor, not of `x`: the reference does so, hence
            // the published weights were trained so.
            let twice = self.modulate(&modulated, &given.time_embedding)?;
            let mask = given.mask.broadcast_as(modulated.shape())?;
            modulated = mask.where_cond(&modulated, &twice)?;
        }
        self.projection.forward(&modulated.flatten(1, 2)?)
    }

    fn modulate(&self, x: &Tensor, time_embedding: &Tensor) -> Result<Tensor> {
        let (rows, hidden) = time_embedding.dims2()?;
        let table = self.modulation_table.reshape((1, 1, 2, hidden))?;
        let both = time_embedding.reshape((rows, 1, 1, hidden))?.broadcast_add(&table)?;
        normalise_and_modulate(x, &both.narrow(2, 0, 1)?, &both.narrow(2, 1, 1)?)
    }
}

/// Puts patches back in their places and cuts off what the patch embedding padded.
///
/// # Shapes
/// `[rows, T * S, patch volume * channels]` to `[rows, channels, T, H, W]`.
pub(super) fn unpatchify(
    patches: &Tensor,
    grid: &TokenGrid,
    config: &Stdit3Config,
) -> Result<Tensor> {
    let (batch, channels) = (patches.dim(0)?, config.out_channels());
    let [frames, height, width] = grid.latent;
    let [_, patch_rows, patch_columns] = config.patch_size;
    let (padded_height, padded_width) = (grid.rows * patch_rows, grid.columns * patch_columns);
    let latent = patches
        .reshape(vec![batch, frames, grid.rows, grid.columns, patch_rows, patch_columns, channels])?
        .permute(vec![0, 6, 1, 2, 4, 3, 5])?
        .reshape((batch, channels, frames, padded_height, padded_width))?;
    Ok(latent.narrow(3, 0, height)?.narrow(4, 0, width)?.contiguous()?)
}
