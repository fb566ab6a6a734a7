//! The transformer as a whole, and its ends: everything but the blocks.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::block::Stdit3Block;
use super::captions::repeated;
use super::config::Stdit3Config;
use super::context::{GivenFrames, PromptContext, PromptInput, StepContext, StepInput, TokenGrid};
use super::embedders::{CaptionEmbedder, PatchEmbedding, ScalarEmbedder};
use super::final_layer::{FinalLayer, unpatchify};
use crate::error::{ModelError, Result};
use crate::nn::{Linear, PositionScale, RotaryTable, silu, sin_cos_positions_2d};
use crate::probe::Probe;
use crate::weights::{LoadGroup, Weights};

/// What comes before the first block and after the last.
pub struct Stdit3Ends {
    pub(super) config: Stdit3Config,
    pub(super) root: Weights,
    patch_embedding: PatchEmbedding,
    timestep_embedder: ScalarEmbedder,
    frame_rate_embedder: ScalarEmbedder,
    block_modulation: Linear,
    pub(super) caption_embedder: CaptionEmbedder,
    rotary_frequencies: Vec<f32>,
    final_layer: FinalLayer,
}

impl Stdit3Ends {
    /// Reads everything but the blocks from the checkpoint's root.
    ///
    /// `rope.freqs` may be absent: some published files leave it out, since it follows from the config.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(root: &Weights, config: &Stdit3Config) -> Result<Self> {
        let (hidden, head_size) = (config.hidden_size, config.head_size());
        let rotary_frequencies = if root.has("rope.freqs") {
            root.with_dtype(DType::F32).tensor("rope.freqs", head_size / 2)?.to_vec1()?
        } else {
            RotaryTable::frequencies(head_size)
        };
        Ok(Self {
            config: config.clone(),
            root: root.clone(),
            patch_embedding: PatchEmbedding::load(&root.pp("x_embedder"), config)?,
            timestep_embedder: ScalarEmbedder::load(&root.pp("t_embedder"), hidden)?,
            frame_rate_embedder: ScalarEmbedder::load(&root.pp("fps_embedder"), hidden)?,
            block_modulation: Linear::load(&root.pp("t_block").pp(1), hidden, 6 * hidden)?,
            caption_embedder: CaptionEmbedder::load(&root.pp("y_embedder"), config)?,
            rotary_frequencies,
            final_layer: FinalLayer::load(&root.pp("final_layer"), config)?,
        })
    }

    /// The sizes that this was loaded with.
    pub fn config(&self) -> &Stdit3Config {
        &self.config
    }

    /// Where the weights come from; their dtype and device are those of the computation.
    pub fn weights(&self) -> &Weights {
        &self.root
    }

    /// Does the work on a prompt that its steps share.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the inputs do not fit each other or the model.
    pub fn prepare(&self, input: &PromptInput, probe: &mut dyn Probe) -> Result<PromptContext> {
        let (dtype, device) = (self.root.dtype(), self.root.device());
        if input.latent_size.contains(&0) {
            let refusal =
                format!("a latent of {:?} frames, rows, columns is empty", input.latent_size);
            return Err(ModelError::BadInput(refusal));
        }
        let grid = TokenGrid::new(input.latent_size, self.config.patch_size);
        let (height, width) = input.picture_px;
        let scale = PositionScale {
            resolution: (height * width).sqrt() / self.config.input_sq_size as f64,
            base_tokens: (grid.spots() as f64).sqrt().round_ties_even() as usize,
        };
        let hidden = self.config.hidden_size;
        let position_embedding =
            sin_cos_positions_2d(grid.rows, grid.columns, hidden, scale, device)?
                .to_dtype(dtype)?;
        probe.tap("pos_emb", &position_embedding);

        let text = self.pack_text(input)?;
        probe.tap("y_packed", &text.tokens);
        let lengths = text.lengths.iter().map(|&length| length as i64).collect::<Vec<_>>();
        probe.tap("y_lens", &Tensor::new(lengths, device)?);

        let rows = text.lengths.len();
        let frame_rates = repeated(input.frames_per_second, rows).ok_or_else(|| {
            let given = input.frames_per_second.len();
            ModelError::bad_input(format!("{given} frame rates cannot be shared by {rows} rows"))
        })?;
        Ok(PromptContext {
            frame_rate_embedding: self.frame_rate_embedder.forward(&frame_rates, &self.root)?,
            rotary: RotaryTable::new(&self.rotary_frequencies, grid.frames(), dtype, device)?,
            grid,
            text,
            position_embedding,
        })
    }

    /// Embeds a step's latents and timesteps: the tokens for block 0, and what all blocks share.
    ///
    /// # Shapes
    /// Tokens are `[rows, T * S, hidden]`, frame by frame.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the step does not fit the prompt.
    pub fn begin(
        &self,
        prompt: &PromptContext,
        input: &StepInput,
        probe: &mut dyn Probe,
    ) -> Result<(Tensor, StepContext)> {
        let (grid, rows) = (&prompt.grid, prompt.rows());
        let [frames, height, width] = grid.latent;
        let expected = [rows, self.config.in_channels, frames, height, width];
        if input.latent.dims() != expected || input.timesteps.len() != rows {
            return Err(ModelError::bad_input(format!(
                "a step with latents {:?} and {} timesteps does not fit its prompt, \
                 which needs {expected:?} and {rows}",
                input.latent.dims(),
                input.timesteps.len()
            )));
        }
        let x = self.patch_embedding.forward(&input.latent.to_dtype(self.root.dtype())?)?;
        probe.tap("x_embed", &x);
        let tokens = x
            .reshape((rows, frames, grid.spots(), self.config.hidden_size))?
            .broadcast_add(&prompt.position_embedding.unsqueeze(1)?)?
            .flatten(1, 2)?;
        probe.tap("x0_in", &tokens);

        let (time_embedding, mut modulation) = self.embed_time(prompt, input.timesteps)?;
        probe.tap("t_emb", &time_embedding);
        probe.tap("t_mlp", &modulation.flatten_from(1)?);
        let mut given_frames = None;
        if let Some(mask) = input.frame_mask {
            if mask.dims() != [rows, frames] {
                return Err(ModelError::bad_input(format!(
                    "the frame mask is {:?}, the latents need {:?}",
                    mask.dims(),
                    [rows, frames]
                )));
            }
            let (clean_embedding, clean_modulation) = self.embed_time(prompt, &vec![0.0; rows])?;
            probe.tap("t0_emb", &clean_embedding);
            probe.tap("t0_mlp", &clean_modulation.flatten_from(1)?);
            let mask = mask.to_dtype(DType::U8)?.reshape((rows, frames, 1, 1))?;
            // Choosing the modulation for each frame equals choosing between two modulated tensors.
            let by_frame = (rows, frames, 6, self.config.hidden_size);
            modulation = mask.broadcast_as(by_frame)?.where_cond(
                &modulation.broadcast_as(by_frame)?,
                &clean_modulation.broadcast_as(by_frame)?,
            )?;
            given_frames = Some(GivenFrames { mask, time_embedding: clean_embedding });
        }
        let prompt = prompt.clone();
        let merge = input.merge;
        Ok((tokens, StepContext { prompt, merge, modulation, time_embedding, given_frames }))
    }

    /// Turns the last block's tokens into the model's output.
    ///
    /// # Shapes
    /// `[rows, T * S, hidden]` to `[rows, out_channels, T, H, W]` in f32; the first `in_channels` are the velocity.
    ///
    /// # Errors
    /// The tokens are not those of the step.
    pub fn finish(
        &self,
        tokens: &Tensor,
        step: &StepContext,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let patches = self.final_layer.forward(tokens, step)?;
        probe.tap("final", &patches);
        let output = unpatchify(&patches, &step.prompt.grid, &self.config)?;
        let output = output.to_dtype(DType::F32)?;
        probe.tap("output", &output);
        Ok(output)
    }

    /// The time embedding `[rows, hidden]` and the blocks' modulation `[rows, 1, 6, hidden]`.
    fn embed_time(&self, prompt: &PromptContext, timesteps: &[f32]) -> Result<(Tensor, Tensor)> {
        let embedding = self.timestep_embedder.forward(timesteps, &self.root)?;
        let embedding = (embedding + &prompt.frame_rate_embedding)?;
        let modulation = self.block_modulation.forward(&silu(&embedding)?)?;
        let shape = (timesteps.len(), 1, 6, self.config.hidden_size);
        Ok((embedding, modulation.reshape(shape)?))
    }
}

/// The transformer with every block in memory.
pub struct Stdit3 {
    ends: Stdit3Ends,
    pub(super) blocks: Vec<Stdit3Block>,
}

impl Stdit3 {
    /// Reads everything from the checkpoint's root.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(root: &Weights, config: &Stdit3Config) -> Result<Self> {
        let blocks = (0..config.blocks()).map(|index| Stdit3Block::load(root, config, index));
        Ok(Self { ends: Stdit3Ends::load(root, config)?, blocks: blocks.collect::<Result<_>>()? })
    }

    /// Every parameter of a transformer of these sizes: official name to shape.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn parameters(config: &Stdit3Config) -> Result<BTreeMap<String, Vec<usize>>> {
        let groups = Self::load_groups(config)?.into_iter();
        Ok(groups.flat_map(|group| group.parameters).collect())
    }

    /// The same parameters by when they are needed: the ends, then block by block in the order of execution.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn load_groups(config: &Stdit3Config) -> Result<Vec<LoadGroup>> {
        let ends = LoadGroup::record("ends", |root| Stdit3Ends::load(root, config).map(drop));
        let blocks = (0..config.blocks()).map(|index| {
            LoadGroup::record(Stdit3Block::place(index), |root| {
                Stdit3Block::load(root, config, index).map(drop)
            })
        });
        std::iter::once(ends).chain(blocks).collect()
    }

    /// Everything but the blocks.
    pub fn ends(&self) -> &Stdit3Ends {
        &self.ends
    }

    /// One evaluation of the model.
    ///
    /// # Shapes
    /// As [`Stdit3Ends::begin`] and [`Stdit3Ends::finish`].
    ///
    /// # Errors
    /// As [`Stdit3Ends::begin`].
    pub fn forward(
        &self,
        prompt: &PromptContext,
        input: &StepInput,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let (mut tokens, step) = self.ends.begin(prompt, input, probe)?;
        for block in &self.blocks {
            tokens = block.forward(&tokens, &step, probe)?;
        }
        self.ends.finish(&tokens, &step, probe)
    }
}
