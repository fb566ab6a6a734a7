//! A spatial and a temporal block of the diffusion transformer, on a prompt and the empty prompt of guidance.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use sora_models::Result;
use sora_models::bundle::PartName;
use sora_models::probe::NoProbe;
use sora_models::sizes::SPATIAL_FACTOR;
use sora_models::stdit3::{
    PromptInput, Stdit3Block, Stdit3Config, Stdit3Ends, StepContext, StepInput, TemporalTokenMerge,
};
use sora_models::weights::Weights;

use super::{BuiltPart, PartMaker};

/// The first two blocks on the tokens of one video, twice: for its prompt, and for guidance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StditPair {
    /// Latent frames.
    pub frames: usize,
    /// Latent rows.
    pub height: usize,
    /// Latent columns.
    pub width: usize,
    /// Text tokens of each of the two rows.
    pub tokens: usize,
    /// Whether frame pairs are merged (TDTM).
    pub merge: bool,
}

/// Rows of the batch.
const GUIDANCE_ROWS: usize = 2;

/// Our choice: the middle of the way.
const TIMESTEP: f32 = 500.0;

const FRAMES_PER_SECOND: f32 = 24.0;

impl StditPair {
    pub(super) fn build(&self, maker: &PartMaker) -> Result<BuiltPart> {
        let (config, weights) = (maker.preset.stdit3_config()?, maker.weights(PartName::Stdit3));
        let (tokens, step) = self.first_tokens(maker, &weights, &config)?;
        let spatial = Stdit3Block::load(&weights, &config, 0)?;
        let temporal = Stdit3Block::load(&weights, &config, 1)?;
        Ok(Box::new(move || {
            let tokens = spatial.forward(&tokens, &step, &mut NoProbe)?;
            temporal.forward(&tokens, &step, &mut NoProbe)
        }))
    }

    /// What comes before the blocks; the weights that it takes are gone when it is done.
    fn first_tokens(
        &self,
        maker: &PartMaker,
        weights: &Weights,
        config: &Stdit3Config,
    ) -> Result<(Tensor, StepContext)> {
        let ends = Stdit3Ends::load(weights, config)?;
        let text = maker.input(&[GUIDANCE_ROWS, self.tokens, config.caption_channels])?;
        let latent_size = [self.frames, self.height, self.width];
        let prompt = ends.prepare(
            &PromptInput {
                text: &text,
                text_mask: &Tensor::ones((1, self.tokens), DType::U8, maker.device)?,
                frames_per_second: &[FRAMES_PER_SECOND],
                picture_px: (
                    (self.height * SPATIAL_FACTOR) as f64,
                    (self.width * SPATIAL_FACTOR) as f64,
                ),
                latent_size,
            },
            &mut NoProbe,
        )?;
        let [frames, height, width] = latent_size;
        let latent = maker.input(&[GUIDANCE_ROWS, config.in_channels, frames, height, width])?;
        let input = StepInput {
            latent: &latent,
            timesteps: &[TIMESTEP; GUIDANCE_ROWS],
            frame_mask: None,
            merge: self.merging(),
        };
        ends.begin(&prompt, &input, &mut NoProbe)
    }

    fn merging(&self) -> Option<TemporalTokenMerge> {
        self.merge.then(TemporalTokenMerge::default)
    }

    /// For each token and block: three projections into self-attention and one out of it, one into cross-attention and
    /// one out of it, all six of merged tokens where tokens are merged, and the MLP. What the text's own tokens take is
    /// left out: they are few, and the same in every step.
    pub(super) fn multiplications(&self, config: &Stdit3Config) -> usize {
        const BLOCKS: usize = 2;
        let [_, patch_rows, patch_columns] = config.patch_size;
        let spots = self.height.div_ceil(patch_rows) * self.width.div_ceil(patch_columns);
        let attended =
            self.merging().map_or(self.frames, |merging| merging.merged_frames(self.frames));
        let hidden = config.hidden_size;
        let attention = attended * 6 * hidden * hidden;
        let mlp = self.frames * 2 * hidden * config.mlp_hidden_size();
        GUIDANCE_ROWS * BLOCKS * spots * (attention + mlp)
    }

    pub(super) fn description(&self) -> String {
        let Self { frames, height, width, tokens, merge } = self;
        let merged = if *merge { ", frame pairs merged" } else { "" };
        format!(
            "STDiT3 pair, latent of {frames}x{height}x{width}, \
             prompt and guidance of {tokens} text tokens each{merged}"
        )
    }
}
