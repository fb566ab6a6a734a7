//! From a prompt to frames: what every way of running shares, and the plainest way, which all others must equal.

use candle_core::Tensor;

use crate::error::Result;
use crate::probe::Probe;
use crate::rflow::{DenoiseRun, SamplingSettings, StepOutcome, initial_noise};
use crate::sizes::VideoSize;
use crate::stdit3::{PromptContext, PromptInput, Stdit3, Stdit3Ends, StepInput};
use crate::t5::{T5Encoder, TokenBatch};
use crate::vae::VideoVae;

/// The video to generate, apart from its prompt and its noise.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSettings {
    /// Its size.
    pub size: VideoSize,
    /// Its frame rate.
    pub frames_per_second: f64,
    /// How it is sampled.
    pub sampling: SamplingSettings,
}

impl VideoSettings {
    /// The noise that sampling starts from.
    ///
    /// # Shapes
    /// `[1, C, T, H, W]` in f32.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn noise(&self, seed: u64, ends: &Stdit3Ends) -> Result<Tensor> {
        let [frames, rows, columns] = self.size.latent()?;
        let shape = [1, ends.config().in_channels, frames, rows, columns];
        initial_noise(seed, &shape, ends.weights().device())
    }

    /// Prepares a prompt and the null caption that guidance compares it with.
    ///
    /// # Shapes
    /// `text` `[1, L, caption_channels]`, `text_mask` `[1, L]`.
    ///
    /// # Errors
    /// The text does not fit the transformer, or the video is too small for a latent.
    pub fn prepare_prompt(
        &self,
        ends: &Stdit3Ends,
        text: &Tensor,
        text_mask: &Tensor,
    ) -> Result<PromptContext> {
        let frame_rate = self.size.conditioning_frame_rate(self.frames_per_second);
        let input = PromptInput {
            text: &ends.with_null_captions(text)?,
            text_mask,
            frames_per_second: &[frame_rate as f32],
            picture_px: (self.size.height_px as f64, self.size.width_px as f64),
            latent_size: self.size.latent()?,
        };
        ends.prepare(&input, &mut crate::probe::NoProbe)
    }
}

/// All models in memory, run one after the other on one thread: no stages, no channels, no sharing out of blocks.
pub struct PlainPath<'a> {
    /// The text encoder.
    pub text_encoder: &'a T5Encoder,
    /// The transformer with all its blocks.
    pub transformer: &'a Stdit3,
    /// The autoencoder.
    pub vae: &'a VideoVae,
}

/// One video's input.
pub struct PlainInput<'a> {
    /// The prompt's tokens, one row.
    pub tokens: TokenBatch,
    /// 1 for each token that counts, `[1, L]`.
    pub text_mask: &'a Tensor,
    /// `[1, C, T, H, W]`.
    pub noise: &'a Tensor,
    /// The video.
    pub settings: VideoSettings,
}

/// One video, and what it came from.
pub struct PlainOutput {
    /// The prompt's embedding, `[1, L, d_model]`.
    pub text_embedding: Tensor,
    /// The timestep of every step, whether it was taken or not.
    pub timesteps: Vec<f32>,
    /// The steps that were taken.
    pub steps: Vec<StepOutcome>,
    /// The denoised latent, `[1, C, T, H, W]`.
    pub latent: Tensor,
    /// The video, `[1, 3, F, 8 * H, 8 * W]`, nominally in [-1, 1], not clamped.
    pub video: Tensor,
}

impl PlainPath<'_> {
    /// Generates one video.
    ///
    /// # Errors
    /// The input does not fit the models, weights are missing, or a result is not finite.
    pub fn generate(&self, input: &PlainInput, probe: &mut dyn Probe) -> Result<PlainOutput> {
        let encoded = self.text_encoder.encode(std::slice::from_ref(&input.tokens), probe)?;
        let text_embedding = encoded.into_iter().next().expect("invariant: one text in, one out");
        let (ends, settings) = (self.transformer.ends(), &input.settings);
        let prompt = settings.prepare_prompt(ends, &text_embedding, input.text_mask)?;
        let mut run = DenoiseRun::new(input.noise, settings.sampling.clone(), settings.size)?;
        let mut steps = Vec::new();
        while let Some(request) = run.next_step()? {
            let step = StepInput {
                latent: &request.latent,
                timesteps: &request.timesteps(),
                frame_mask: request.frame_mask.as_ref(),
                merge: request.merge,
            };
            steps.push(run.advance(&self.transformer.forward(&prompt, &step, probe)?)?);
        }
        let timesteps = run.timesteps().to_vec();
        let latent = run.into_latent();
        let video = self.vae.decode(&latent, settings.size.frames, probe)?;
        Ok(PlainOutput { text_embedding, timesteps, steps, latent, video })
    }
}
