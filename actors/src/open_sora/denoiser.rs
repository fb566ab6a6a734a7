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

    /// Numbers of the device's: reading them waits for them, but does not tell every failure.
    fn read<T>(&self, read: impl FnOnce() -> Computed<T>) -> Computed<T> {
        let numbers = read()?;
        finish_work(self.ends.weights().device())?;
        Ok(numbers)
    }
}

/// Works on a run, which stays as it was when that fails: a device may fail when the run has gone on already, and what it has
/// gone on to is not what will be saved.
fn attempt<T>(
    run: &mut DenoiseRun,
    work: impl FnOnce(&mut DenoiseRun) -> Computed<T>,
) -> Computed<T> {
    let before = run.clone();
    let outcome = work(run);
    if outcome.is_err() {
        *run = before;
    }
    outcome
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
        self.read(|| Ok(run.run.save()?))
    }

    fn begin_step(&self, run: &mut SamplingRun) -> Computed<StepTokens> {
        let SamplingRun { run, prompt, timestep, merged, .. } = run;
        attempt(run, |run| {
            let request = run
                .next_step()?
                .ok_or_else(|| ModelError::bad_input("a step was begun after the last one"))?;
            (*timestep, *merged) = (request.timestep, request.merge.is_some());
            let input = StepInput {
                latent: &request.latent,
                timesteps: &request.timesteps(),
                frame_mask: request.frame_mask.as_ref(),
                merge: request.merge,
            };
            let (tokens, step) = self.ends.begin(prompt, &input, &mut NoProbe)?;
            finish_work(tokens.device())?;
            Ok(StepTokens { tokens, step })
        })
    }

    fn finish_step(
        &self,
        run: &mut SamplingRun,
        StepTokens { tokens, step }: StepTokens,
    ) -> Computed<StepReport> {
        let outcome = attempt(&mut run.run, |sampling| {
            let output = self.ends.finish(&tokens, &step, &mut NoProbe)?;
            let outcome = sampling.advance(&output)?;
            run.first_velocity = Some(first_frame(&outcome.velocity)?);
            finish_work(output.device())?;
            Ok(outcome)
        })?;
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
        self.read(|| Ok(Some(Latent::from_tensor(&leapt, 1)?)))
    }

    fn latent(&self, run: SamplingRun) -> Computed<Latent> {
        self.read(|| Ok(Latent::from_tensor(&run.run.into_latent(), run.num_frames)?))
    }
}

/// `[1, C, T, H, W]` to `[1, C, 1, H, W]`, without holding on to the other frames.
fn first_frame(latent: &Tensor) -> sora_models::Result<Tensor> {
    Ok(latent.narrow(2, 0, 1)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device};
    use sora_models::sizes::VideoSize;

    use super::*;
    use crate::messages::one_pixel_request;

    #[test]
    fn a_step_that_a_device_failed_on_leaves_no_trace() {
        let request = one_pixel_request(0);
        let ones = |rows| Tensor::ones((rows, 4, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
        let size = VideoSize { height_px: 8, width_px: 8, frames: 1 };
        let mut run = DenoiseRun::new(&ones(1), request.sampling.clone(), size).unwrap();
        let mut step = |failure: Option<StageFailure>| {
            attempt(&mut run, |run| {
                run.next_step()?;
                run.advance(&ones(2))?;
                failure.map_or(Ok(()), Err)
            })
            .ok();
            run.save().unwrap()
        };
        let lost = || StageFailure::StageDied { reason: "device lost".into() };
        let failed = step(Some(lost()));
        let first = step(None);
        assert_eq!((failed.step, first.step), (0, 1));
        assert_eq!(step(Some(lost())), first);
    }
}
