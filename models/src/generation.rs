//! From a prompt to frames: what every way of running shares, and the plainest way, which all others must equal.

use candle_core::Tensor;

use crate::error::{ModelError, Result};
use crate::guiding_texts::GuidingTexts;
use crate::probe::Probe;
use crate::rflow::{DenoiseRun, SamplingSettings, StepOutcome, initial_noise};
use crate::sizes::VideoSize;
use crate::stdit3::{PromptContext, PromptInput, Stdit3, Stdit3Ends, StepInput, TextFeatures};
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

    /// Prepares a prompt and what guidance compares it with: its negative prompt, at that one's own length, or else the
    /// null caption, at the prompt's length.
    ///
    /// # Shapes
    /// One row a text.
    ///
    /// # Errors
    /// A text does not fit the transformer, or the video is too small for a latent.
    pub fn prepare_prompt(
        &self,
        ends: &Stdit3Ends,
        texts: &GuidingTexts<TextFeatures>,
    ) -> Result<PromptContext> {
        let frame_rate = self.size.conditioning_frame_rate(self.frames_per_second);
        let GuidingTexts { prompt, negative } = texts;
        let (text, text_mask) = match negative {
            Some(negative) => ends.with_negative_captions(prompt, negative)?,
            None => (ends.with_null_captions(&prompt.values)?, prompt.mask.clone()),
        };
        let input = PromptInput {
            text: &text,
            text_mask: &text_mask,
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

/// A text as the text encoder takes it.
pub struct PlainText {
    /// Its tokens, one row.
    pub tokens: TokenBatch,
    /// 1 for each token that counts, `[1, L]`.
    pub mask: Tensor,
}

/// One video's input.
pub struct PlainInput<'a> {
    /// The prompt, and the negative one.
    pub texts: GuidingTexts<PlainText>,
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
        let texts = input.texts.as_ref().try_map(|text| {
            let encoded = self.text_encoder.encode(std::slice::from_ref(&text.tokens), probe)?;
            let values = encoded.into_iter().next().expect("invariant: one text in, one out");
            Ok::<_, ModelError>(TextFeatures { values, mask: text.mask.clone() })
        })?;
        let (ends, settings) = (self.transformer.ends(), &input.settings);
        let prompt = settings.prepare_prompt(ends, &texts)?;
        let text_embedding = texts.prompt.values;
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
