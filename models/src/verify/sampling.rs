//! Cases of kinds `rflow_timesteps`, `rflow_add_noise` and `rflow`: the sampler's pieces, and whole runs.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::case::Case;
use super::compare::Comparison;
use super::diffusion;
use crate::error::{ModelError, Result};
use crate::probe::NoProbe;
use crate::rflow::{
    DenoiseRun, DynamicLeap, FrameConditioning, LeapRule, ReleaseNoise, SamplingSettings,
    StepOutcome, StepRequest, TimestepTransform, add_noise, step_sizes, timesteps,
};
use crate::sizes::{CHUNK_FRAMES, CHUNK_LATENT_FRAMES, VideoSize};
use crate::stdit3::{MergeSteps, PromptContext, PromptInput, Stdit3, StepInput};

#[derive(Deserialize)]
struct TimestepParams {
    base_resolution: usize,
    combos: Vec<Combination>,
}

#[derive(Deserialize)]
struct Combination {
    index: usize,
    height: usize,
    width: usize,
    num_frames: usize,
    steps: usize,
    use_discrete_timesteps: bool,
    use_timestep_transform: bool,
    has_nan: bool,
}

/// What cases hold in place of NaN.
const RECORDED_NAN: f32 = -1.0;

pub(super) fn run_timesteps(case: &Case, comparison: &mut Comparison) -> Result<()> {
    let params: TimestepParams = case.part("/params")?;
    for combination in params.combos {
        let Combination { index, height, width, num_frames, steps, .. } = combination;
        let size = VideoSize { height_px: height, width_px: width, frames: num_frames };
        let base = params.base_resolution;
        let own = SamplingSettings {
            steps,
            discrete_timesteps: combination.use_discrete_timesteps,
            timestep_transform: combination.use_timestep_transform,
            base_resolution_px: base,
            ..Default::default()
        }
        .timesteps(size);
        // Where the reference gets NaN, this crate's rule differs on purpose: then the recording checks the transform
        // by the reference's own ratio, and this crate's timesteps must be usable.
        let times = if combination.has_nan {
            let usable =
                own.windows(2).all(|pair| pair[0] > pair[1]) && own.iter().all(|t| *t > 0.0);
            comparison.check_that(&format!("usable_{index}"), usable, || format!("{own:?}"));
            let frames = (num_frames / CHUNK_FRAMES * CHUNK_LATENT_FRAMES) as f64;
            let ratio = (height as f64 * width as f64 / base as f64).sqrt() * frames.sqrt();
            let transform = TimestepTransform::with_ratio(ratio);
            let times = timesteps(steps, combination.use_discrete_timesteps, Some(transform));
            times.into_iter().map(|t| if t.is_nan() { RECORDED_NAN } else { t }).collect()
        } else {
            own
        };
        let sizes = step_sizes(&times);
        comparison.check(&format!("timesteps_{index}"), &Tensor::new(times, &Device::Cpu)?);
        comparison.check(&format!("dt_{index}"), &Tensor::new(sizes, &Device::Cpu)?);
    }
    Ok(())
}

pub(super) fn run_add_noise(
    case: &Case,
    device: &Device,
    comparison: &mut Comparison,
) -> Result<()> {
    let timesteps: Vec<f32> = case.tensor("t", &Device::Cpu)?.to_vec1()?;
    let noisy = add_noise(&case.tensor("x0", device)?, &case.tensor("noise", device)?, &timesteps)?;
    comparison.check("x_t", &noisy);
    Ok(())
}

/// How a case samples.
#[derive(Deserialize)]
pub(super) struct RunParams {
    num_sampling_steps: usize,
    cfg_scale: f64,
    use_discrete_timesteps: bool,
    use_timestep_transform: bool,
    merge_steps: usize,
    lpl: Leap,
    height: usize,
    width: usize,
    num_frames: usize,
    #[serde(default)]
    pub(super) fps: f32,
    lpl_minimum_steps: usize,
    lpl_cos_tolerance: f64,
    lpl_patience: usize,
    leap_step: Option<usize>,
    n_evals: usize,
    dynamic_trace: Option<Vec<TraceEntry>>,
    synthetic_model: Option<SyntheticParams>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Leap {
    Fixed(usize),
    Named(String),
}

#[derive(Deserialize)]
struct TraceEntry {
    best_cos_after: f64,
    patience_after: usize,
    leap: bool,
}

#[derive(Deserialize)]
struct SyntheticParams {
    kappa: f64,
}

impl RunParams {
    pub(super) fn size(&self) -> VideoSize {
        VideoSize { height_px: self.height, width_px: self.width, frames: self.num_frames }
    }

    pub(super) fn settings(&self, case: &Case) -> Result<SamplingSettings> {
        let leap = match &self.lpl {
            Leap::Fixed(step) => LeapRule::Fixed(*step),
            Leap::Named(name) if name == "off" => LeapRule::Off,
            Leap::Named(name) if name == "dynamic" => LeapRule::Dynamic(DynamicLeap {
                from_step: self.lpl_minimum_steps,
                tolerance: self.lpl_cos_tolerance,
                patience: self.lpl_patience,
                ..Default::default()
            }),
            Leap::Named(name) => {
                return Err(case.unusable(format!("its lpl `{name}` is not known")));
            }
        };
        Ok(SamplingSettings {
            steps: self.num_sampling_steps,
            guidance_scale: self.cfg_scale,
            discrete_timesteps: self.use_discrete_timesteps,
            timestep_transform: self.use_timestep_transform,
            leap,
            merge: MergeSteps::First(self.merge_steps),
            ..Default::default()
        })
    }
}

/// What a case evaluates in a run.
enum Evaluated {
    Network(Box<(Stdit3, PromptContext)>),
    Synthetic { kappa: f64, tensors: [Tensor; 5], theta: Vec<f64>, phi: Vec<f64> },
}

impl Evaluated {
    fn load(case: &Case, params: &RunParams, latent: &Tensor, device: &Device) -> Result<Self> {
        if let Some(SyntheticParams { kappa }) = params.synthetic_model {
            let tensor = |name| case.tensor(name, device);
            let angles = |name| -> Result<Vec<f64>> {
                Ok(case.tensor(name, &Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
            };
            let tensors = [tensor("P")?, tensor("Q")?, tensor("R")?, tensor("S")?, tensor("U")?];
            let (theta, phi) = (angles("theta")?, angles("phi")?);
            return Ok(Self::Synthetic { kappa, tensors, theta, phi });
        }
        let model = diffusion::load(case, device)?;
        let (_, _, frames, height, width) = latent.dims5()?;
        let input = PromptInput {
            text: &model.ends().with_null_captions(&case.tensor("y", device)?)?,
            text_mask: &case.tensor("mask_text", device)?,
            frames_per_second: &[params.fps],
            picture_px: (params.height as f64, params.width as f64),
            latent_size: [frames, height, width],
        };
        let prompt = model.ends().prepare(&input, &mut NoProbe)?;
        Ok(Self::Network(Box::new((model, prompt))))
    }

    fn evaluate(&self, request: &StepRequest) -> Result<Tensor> {
        match self {
            Self::Network(network) => {
                let (model, prompt) = &**network;
                let input = StepInput {
                    latent: &request.latent,
                    timesteps: &request.timesteps(),
                    frame_mask: request.frame_mask.as_ref(),
                    merge: request.merge,
                };
                model.forward(prompt, &input, &mut NoProbe)
            }
            Self::Synthetic { kappa, tensors: [p, q, r, s, u], theta, phi } => {
                let out_of_range = || ModelError::bad_input("the case has too few angles");
                let theta = theta.get(request.step).ok_or_else(out_of_range)?;
                let phi = phi.get(request.step).ok_or_else(out_of_range)?;
                let first = ((p * theta.cos())? + (q * theta.sin())?)?;
                let second = ((r * phi.cos())? + (s * phi.sin())?)?;
                let pull = (request.latent.narrow(0, 0, 1)? * *kappa)?;
                let conditional = ((first + second)? - &pull)?;
                Ok(Tensor::cat(&[conditional, (u - &pull)?], 0)?)
            }
        }
    }
}

pub(super) fn run_sampling(
    case: &Case,
    device: &Device,
    comparison: &mut Comparison,
) -> Result<()> {
    let params: RunParams = case.part("/params")?;
    let settings = params.settings(case)?;
    let latent = case.tensor("z", device)?;
    let model = Evaluated::load(case, &params, &latent, device)?;
    let size = params.size();
    let recorded: Vec<f32> = case.tensor("timesteps", &Device::Cpu)?.to_vec1()?;
    check_timesteps(comparison, &settings.timesteps(size), &recorded);
    let mut run = DenoiseRun::new(&latent, settings, size)?.with_timesteps(recorded)?;
    if let Some(frame_mask) = case.optional_tensor("frame_mask", &Device::Cpu)? {
        run = run.with_conditioning(FrameConditioning {
            frame_mask: frame_mask.flatten_all()?.to_vec1()?,
            release_noise: ReleaseNoise::Recorded(case.tensor("noise", device)?),
        })?;
    }

    let mut recording = Recording::default();
    while let Some(request) = run.next_step()? {
        let outcome = run.advance(&model.evaluate(&request)?)?;
        if let Some(entry) = params.dynamic_trace.as_ref().and_then(|trace| trace.get(outcome.step))
        {
            check_trace(comparison, &run, &outcome, entry);
        }
        recording.add(&request, &outcome, run.latent())?;
    }
    recording.compare(&params, comparison)?;
    comparison.check("z_final", &run.into_latent());
    Ok(())
}

/// The timesteps that follow from the settings against the recorded ones, which the run then takes.
pub(super) fn check_timesteps(comparison: &mut Comparison, own: &[f32], recorded: &[f32]) {
    // The tolerance of the cases about timesteps; that of a run is about latents.
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-4 + 1e-6 * b.abs();
    let agree = own.len() == recorded.len() && own.iter().zip(recorded).all(close);
    comparison.check_that("timesteps", agree, || format!("{own:?} instead of {recorded:?}"));
}

fn check_trace(
    comparison: &mut Comparison,
    run: &DenoiseRun,
    outcome: &StepOutcome,
    entry: &TraceEntry,
) {
    let (best, patience) = run.leap().progress();
    let agree = (best - entry.best_cos_after).abs() <= 1e-4
        && patience == entry.patience_after
        && outcome.leapt == entry.leap;
    comparison.check_that(&format!("dynamic_trace[{}]", outcome.step), agree, || {
        let TraceEntry { best_cos_after, patience_after, leap } = entry;
        format!(
            "best {best}, patience {patience}, leap {} instead of {best_cos_after}, {patience_after}, {leap}",
            outcome.leapt
        )
    });
}

/// What a run records of every step.
#[derive(Default)]
pub(super) struct Recording {
    latents_in: Vec<Tensor>,
    latents_out: Vec<Tensor>,
    velocities: Vec<Tensor>,
    frame_masks: Vec<Tensor>,
    cosines: Vec<f32>,
    leap_step: Option<usize>,
}

/// What cases hold as the cosine of the first step, which has none.
const RECORDED_NO_COSINE: f64 = -2.0;

impl Recording {
    fn add(&mut self, request: &StepRequest, outcome: &StepOutcome, after: &Tensor) -> Result<()> {
        self.latents_in.push(request.latent.narrow(0, 0, 1)?);
        if let Some(mask) = &request.frame_mask {
            self.frame_masks.push(mask.narrow(0, 0, 1)?);
        }
        self.latents_out.push(after.clone());
        self.velocities.push(outcome.velocity.clone());
        self.add_outcome(outcome);
        Ok(())
    }

    /// Adds what is known without the latents.
    pub(super) fn add_outcome(&mut self, outcome: &StepOutcome) {
        self.cosines.push(outcome.cosine.unwrap_or(RECORDED_NO_COSINE) as f32);
        if outcome.leapt {
            self.leap_step = Some(outcome.step);
        }
    }

    pub(super) fn compare(self, params: &RunParams, comparison: &mut Comparison) -> Result<()> {
        let (evaluations, leap) = (self.cosines.len(), self.leap_step);
        comparison.check_that("n_evals", evaluations == params.n_evals, || {
            format!("{evaluations} evaluations instead of {}", params.n_evals)
        });
        comparison.check_that("leap_step", leap == params.leap_step, || {
            format!("leap at {leap:?} instead of {:?}", params.leap_step)
        });
        let steps = [
            ("z_in", &self.latents_in),
            ("x_mask", &self.frame_masks),
            ("v", &self.velocities),
            ("z_out", &self.latents_out),
        ];
        for (name, tensors) in steps {
            if !tensors.is_empty() {
                comparison.check(name, &Tensor::cat(tensors, 0)?);
            }
        }
        comparison.check("cos", &Tensor::new(self.cosines, &Device::Cpu)?);
        Ok(())
    }
}
