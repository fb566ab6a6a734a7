//! Rectified-flow sampling with guidance, around blocks that run elsewhere.

use candle_core::Tensor;
use sora_models::ModelError;
use sora_models::device_work::finish_work;
use sora_models::footprint::{ActivationBytes, denoising_bytes};
use sora_models::probe::NoProbe;
use sora_models::rflow::{DenoiseRun, SavedRun};
use sora_models::stdit3::{PromptContext, Stdit3Ends, StepInput, TextFeatures};

use super::block_span::StepTokens;
use crate::compute::{Computed, Denoise, EmbeddedPrompt, EmbeddedTexts, StepReport};
use crate::error::{PayloadError, StageFailure};
use crate::messages::{GenerationRequest, Latent};

/// The transformer's ends and the sampler.
pub struct GuidedDenoiser {
    ends: Stdit3Ends,
    memory: DenoisingMemory,
}

/// What denoising takes besides blocks that are kept or read ahead.
#[derive(Debug, Clone, Copy)]
pub struct DenoisingMemory {
    /// The largest block.
    pub block_bytes: u64,
    /// Workers, each with a block and a token at work.
    pub workers: usize,
}

impl DenoisingMemory {
    /// Bytes for jobs with these activations in flight together.
    pub fn bytes(&self, jobs: &[ActivationBytes]) -> u64 {
        if jobs.is_empty() {
            return 0;
        }
        let carried: u64 = jobs.iter().map(|job| job.carried).sum();
        let working = jobs.iter().map(|job| job.working).max().unwrap_or(0);
        // A worker without a token has a block in hand, but no activations.
        let busy = self.workers.min(jobs.len()) as u64;
        self.workers as u64 * self.block_bytes + busy * working + carried
    }
}

/// One job's sampling.
pub struct SamplingRun {
    run: DenoiseRun,
    prompt: PromptContext,
    num_frames: usize,
    /// Of the last step's velocity the first frame, `[1, C, 1, H, W]`, for previews.
    first_velocity: Option<Tensor>,
    /// Of the step under way.
    timestep: f32,
    merged: bool,
}

impl GuidedDenoiser {
    /// Sampling with these ends.
    pub fn new(ends: Stdit3Ends, memory: DenoisingMemory) -> Self {
        Self { ends, memory }
    }

    fn sampling(
        &self,
        run: DenoiseRun,
        request: &GenerationRequest,
        texts: &EmbeddedTexts,
    ) -> Computed<SamplingRun> {
        let weights = self.ends.weights();
        let texts = texts.as_ref().try_map(|EmbeddedPrompt { embedding, .. }| {
            let values = embedding.to_tensor(weights.dtype(), weights.device())?;
            let mask = embedding.mask_tensor(weights.device())?;
            Ok::<_, PayloadError>(TextFeatures { values, mask })
        })?;
        Ok(SamplingRun {
            run,
            prompt: request.video_settings().prepare_prompt(&self.ends, &texts)?,
            num_frames: request.num_frames,
            first_velocity: None,
            timestep: 0.0,
            merged: false,
        })
    }
}

impl Denoise for GuidedDenoiser {
    type Run = SamplingRun;
    type Activation = StepTokens;

    fn working_bytes(&self, in_flight: &[&GenerationRequest]) -> u64 {
        let (config, weights) = (self.ends.config(), self.ends.weights());
        let of_job = |request: &&GenerationRequest| {
            let size = request.video_settings().size;
            // A video that is too small fails when it starts, whatever memory it gets.
            denoising_bytes(config, size, request.text_count(), weights.dtype(), weights.device())
                .ok()
        };
        self.memory.bytes(&in_flight.iter().filter_map(of_job).collect::<Vec<_>>())
    }

    fn start(&self, request: &GenerationRequest, texts: &EmbeddedTexts) -> Computed<SamplingRun> {
        let settings = request.video_settings();
        let noise = settings.noise(request.seed, &self.ends)?;
        let run = DenoiseRun::new(&noise, request.sampling.clone(), settings.size)?;
        self.sampling(run, request, texts)
    }

    fn resume(
        &self,
        request: &GenerationRequest,
        texts: &EmbeddedTexts,
        saved: &SavedRun,
    ) -> Computed<SamplingRun> {
        let (found, expected) = (saved.shape[0], self.ends.config().in_channels);
        if found != expected {
            return Err(StageFailure::Model(ModelError::BadInput(format!(
                "the saved latent has {found} channels, but this model's have {expected}"
            ))));
        }
        let device = self.ends.weights().device();
        let run = DenoiseRun::restore(saved, request.video_settings().size, device)?;
        self.sampling(run, request, texts)
    }

    fn save(&self, run: &SamplingRun) -> Computed<SavedRun> {
        Ok(run.run.save()?)
    }

    fn begin_step(&self, run: &mut SamplingRun) -> Computed<StepTokens> {
        let request = run.run.next_step()?;
        let request =
            request.ok_or_else(|| ModelError::bad_input("a step was begun after the last one"))?;
        (run.timestep, run.merged) = (request.timestep, request.merge.is_some());
        let input = StepInput {
            latent: &request.latent,
            timesteps: &request.timesteps(),
            frame_mask: request.frame_mask.as_ref(),
            merge: request.merge,
        };
        let (tokens, step) = self.ends.begin(&run.prompt, &input, &mut NoProbe)?;
        finish_work(tokens.device())?;
        Ok(StepTokens { tokens, step })
    }

    fn finish_step(
        &self,
        run: &mut SamplingRun,
        StepTokens { tokens, step }: StepTokens,
    ) -> Computed<StepReport> {
        let output = self.ends.finish(&tokens, &step, &mut NoProbe)?;
        let outcome = run.run.advance(&output)?;
        run.first_velocity = Some(first_frame(&outcome.velocity)?);
        finish_work(output.device())?;
        Ok(StepReport {
            index: outcome.step,
            steps: run.run.timesteps().len(),
            timestep: f64::from(run.timestep),
            cosine: outcome.cosine,
            merged: run.merged,
            leapt: outcome.leapt,
            coasted: outcome.coasted,
            last: outcome.done,
        })
    }

    fn preview(&self, run: &SamplingRun) -> Computed<Option<Latent>> {
        let Some(velocity) = &run.first_velocity else { return Ok(None) };
        let first = first_frame(run.run.latent())?;
        let leapt = run.run.leapt_along(&first, velocity)?;
        Ok(Some(Latent::from_tensor(&leapt, 1)?))
    }

    fn latent(&self, run: SamplingRun) -> Computed<Latent> {
        Ok(Latent::from_tensor(&run.run.into_latent(), run.num_frames)?)
    }
}

/// `[1, C, T, H, W]` to `[1, C, 1, H, W]`, without holding on to the other frames.
fn first_frame(latent: &Tensor) -> sora_models::Result<Tensor> {
    Ok(latent.narrow(2, 0, 1)?.contiguous()?)
}
