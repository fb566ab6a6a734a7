//! A whole sampling job as a state machine.

use candle_core::{DType, Tensor};

use super::coast::{CoastRule, VelocityTrend};
use super::conditioning::{Conditioned, FrameConditioning};
use super::guidance::guided_velocity;
use super::leap::{CosineOver, LinearProportionalLeap, VelocitySample};
use super::settings::SamplingSettings;
use super::timesteps::{NUM_TIMESTEPS, at_most_the_start, step_sizes};
use crate::error::{ModelError, Result};
use crate::sizes::VideoSize;
use crate::stdit3::TemporalTokenMerge;

/// The sampling of one video: ask [`next_step`](Self::next_step) what to evaluate, hand the result to
/// [`advance`](Self::advance), until there is no next step.
#[derive(Debug, Clone)]
pub struct DenoiseRun {
    settings: SamplingSettings,
    timesteps: Vec<f32>,
    /// `[1, C, T, H, W]` in f32.
    latent: Tensor,
    /// Index of the step to take next; the number of steps when the run is done.
    step: usize,
    /// Whether a step was asked for and its result has not come yet.
    in_flight: bool,
    leap: LinearProportionalLeap,
    /// For each step whether the model is evaluated there.
    evaluated: Vec<bool>,
    trend: VelocityTrend,
    conditioned: Option<Conditioned>,
}

/// What the model is to evaluate. Rows are conditional, then unconditional.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Index of the step.
    pub step: usize,
    /// Diffusion time, in `[0, 1000]`, the same for every row.
    pub timestep: f32,
    /// `[2, C, T, H, W]`, the same latent twice.
    pub latent: Tensor,
    /// `[2, T]`, `U8`: 1 where a frame is being denoised; `None` in runs without given frames.
    pub frame_mask: Option<Tensor>,
    /// Token merging in this step.
    pub merge: Option<TemporalTokenMerge>,
}

impl StepRequest {
    /// The timestep of every row.
    pub fn timesteps(&self) -> [f32; 2] {
        [self.timestep; 2]
    }
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct StepOutcome {
    /// Index of the step.
    pub step: usize,
    /// The guided velocity, `[1, C, T, H, W]`.
    pub velocity: Tensor,
    /// The drift cosine: between this velocity and the one before; `None` at the first step.
    pub cosine: Option<f64>,
    /// Whether the step went all the way.
    pub leapt: bool,
    /// How many steps after it were walked without an evaluation.
    pub coasted: usize,
    /// Whether it was the last step.
    pub done: bool,
}

impl DenoiseRun {
    /// A run from `noise`, `[1, C, T, H, W]`, for a video of `size`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the settings cannot work, the size is too small, or the noise is not of one video.
    pub fn new(noise: &Tensor, settings: SamplingSettings, size: VideoSize) -> Result<Self> {
        settings.check()?;
        size.latent()?;
        let timesteps = settings.timesteps(size);
        if noise.rank() != 5 || noise.dim(0)? != 1 || noise.elem_count() == 0 {
            return Err(ModelError::bad_input(format!(
                "noise of {:?} is not that of one video: expected [1, C, T, H, W]",
                noise.dims()
            )));
        }
        Ok(Self {
            leap: LinearProportionalLeap::new(settings.leap),
            evaluated: settings.coast.evaluated(&timesteps),
            trend: VelocityTrend::default(),
            settings,
            timesteps,
            latent: noise.to_dtype(DType::F32)?,
            step: 0,
            in_flight: false,
            conditioned: None,
        })
    }

    /// Replaces the timesteps that follow from the settings.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] unless there is one a step, from 1000 down.
    pub fn with_timesteps(mut self, timesteps: Vec<f32>) -> Result<Self> {
        let timesteps: Vec<f32> = timesteps.into_iter().map(at_most_the_start).collect();
        let falling = timesteps.windows(2).all(|pair| pair[0] > pair[1]);
        let positive = timesteps.last().is_some_and(|last| *last > 0.0);
        if timesteps.len() != self.settings.steps || !falling || !positive {
            return Err(ModelError::bad_input(format!(
                "timesteps {timesteps:?}: expected {} of them, falling, above 0",
                self.settings.steps
            )));
        }
        self.evaluated = self.settings.coast.evaluated(&timesteps);
        self.timesteps = timesteps;
        Ok(self)
    }

    /// Makes some of the latent's frames given ones; the latent must hold them already.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the conditioning does not fit the latent, or the run coasts: frames that join on
    /// the way have no trend to follow.
    pub fn with_conditioning(mut self, conditioning: FrameConditioning) -> Result<Self> {
        if self.settings.coast != CoastRule::Off {
            return Err(ModelError::bad_input("a run with given frames cannot coast"));
        }
        let steps = self.settings.steps;
        self.conditioned = Some(Conditioned::new(conditioning, self.latent.dims(), steps)?);
        Ok(self)
    }

    /// The timestep of every step, whether it will be taken or not.
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// Index of the step to take next; the number of steps when the run is done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The latent as it is now.
    pub fn latent(&self) -> &Tensor {
        &self.latent
    }

    /// The leap rule's state.
    pub fn leap(&self) -> &LinearProportionalLeap {
        &self.leap
    }

    /// What to evaluate next; `None` when the run is done. Asking again changes nothing.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn next_step(&mut self) -> Result<Option<StepRequest>> {
        let Some(&timestep) = self.timesteps.get(self.step) else { return Ok(None) };
        let mut frame_mask = None;
        if let Some(conditioned) = &mut self.conditioned {
            self.latent = conditioned.release(&self.latent, self.step, timestep)?;
            frame_mask = Some(conditioned.frame_mask(2, self.latent.device())?);
        }
        self.in_flight = true;
        Ok(Some(StepRequest {
            step: self.step,
            timestep,
            latent: Tensor::cat(&[&self.latent, &self.latent], 0)?,
            frame_mask,
            merge: self.settings.merge_at(self.step),
        }))
    }

    /// Takes the model's output, `[2, at least C, T, H, W]`, for the step asked for.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when no step was asked for or the output does not fit, [`ModelError::NotFinite`] when
    /// the velocity holds NaN or infinities. The run stays as it was.
    pub fn advance(&mut self, model_output: &Tensor) -> Result<StepOutcome> {
        if !self.in_flight {
            return Err(ModelError::bad_input(
                "a model output came for a step that was not asked for",
            ));
        }
        let step = self.step;
        let timestep = self.timesteps[step];
        let (_, channels, ..) = self.latent.dims5()?;
        let output = model_output.to_dtype(DType::F32)?;
        let velocity = guided_velocity(&output, channels, self.settings.guidance_scale)?;
        if !is_finite(&velocity)? {
            let what = format!("the velocity of step {step} (timestep {timestep})");
            return Err(ModelError::NotFinite { what });
        }
        let mut leap = self.leap.clone();
        let decision = leap.decide(step, sample(&velocity, self.leap.sample_over())?);
        let size = if decision.leap {
            f64::from(timestep) / NUM_TIMESTEPS
        } else {
            f64::from(step_sizes(&self.timesteps)[step])
        };
        let mut stepped = (&self.latent + (&velocity * size)?)?;
        if let Some(conditioned) = &self.conditioned {
            stepped = conditioned.keep_given(&stepped, &self.latent)?;
        }
        let mut trend = self.trend.clone();
        trend.add(timestep, &velocity);
        let (latent, next) = match decision.leap {
            true => (stepped, self.timesteps.len()),
            false => self.coast(stepped, step + 1, &trend)?,
        };
        let coasted = if decision.leap { 0 } else { next - step - 1 };
        (self.latent, self.leap, self.trend) = (latent, leap, trend);
        self.in_flight = false;
        self.step = next;
        Ok(StepOutcome {
            step,
            velocity,
            cosine: decision.cosine,
            leapt: decision.leap,
            coasted,
            done: next == self.timesteps.len(),
        })
    }

    /// Walks from `step` to the next one that is evaluated, or to the end.
    fn coast(
        &self,
        mut latent: Tensor,
        mut step: usize,
        trend: &VelocityTrend,
    ) -> Result<(Tensor, usize)> {
        let sizes = step_sizes(&self.timesteps);
        while self.evaluated.get(step) == Some(&false) {
            if let Some(velocity) = trend.at(self.timesteps[step])? {
                latent = (latent + (velocity * f64::from(sizes[step]))?)?;
            }
            step += 1;
        }
        Ok((latent, step))
    }

    /// The latent, `[1, C, T, H, W]`.
    pub fn into_latent(self) -> Tensor {
        self.latent
    }
}

/// Whether every value is finite. Zero times a value is zero for those, NaN for all others, and cannot overflow.
fn is_finite(x: &Tensor) -> Result<bool> {
    Ok((x * 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// What a leap rule looks at.
fn sample(velocity: &Tensor, over: CosineOver) -> Result<VelocitySample> {
    let part = match over {
        CosineOver::FirstFrame => velocity.narrow(1, 0, 1)?.narrow(2, 0, 1)?,
        CosineOver::Whole => velocity.clone(),
    };
    let row_length = match over {
        CosineOver::FirstFrame => velocity.dim(4)?,
        CosineOver::Whole => velocity.elem_count(),
    };
    Ok(VelocitySample { values: part.flatten_all()?.to_vec1()?, row_length })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::super::conditioning::ReleaseNoise;
    use super::super::leap::LeapRule;
    use super::*;

    const SIZE: VideoSize = VideoSize { height_px: 32, width_px: 32, frames: 17 };

    fn noise() -> Tensor {
        super::super::initial_noise(3, &[1, 2, 5, 4, 4], &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// A model whose velocity leads every latent straight to `target`.
    fn straight(request: &StepRequest, target: f64) -> Tensor {
        let velocity = (request.latent.affine(-1.0, target).unwrap()
            / (f64::from(request.timestep) / 1000.0))
            .unwrap();
        // A second half of channels, as with `pred_sigma`, must not matter.
        Tensor::cat(&[&velocity, &(&velocity * 100.0).unwrap()], 1).unwrap()
    }

    fn run_to_end(mut run: DenoiseRun) -> (Vec<StepOutcome>, Tensor) {
        let mut outcomes = Vec::new();
        while let Some(request) = run.next_step().unwrap() {
            outcomes.push(run.advance(&straight(&request, 0.25)).unwrap());
        }
        (outcomes, run.into_latent())
    }

    #[test]
    fn a_leap_ends_at_time_zero() {
        for leap in [LeapRule::Off, LeapRule::Fixed(0), LeapRule::Fixed(4), LeapRule::Fixed(9)] {
            let settings = SamplingSettings { steps: 10, leap, ..Default::default() };
            let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
            let (outcomes, latent) = run_to_end(run);
            let expected = if let LeapRule::Fixed(at) = leap { at + 1 } else { 10 };
            assert_eq!(outcomes.len(), expected, "{leap}");
            assert!(outcomes.last().unwrap().done);
            assert!(outcomes[..expected - 1].iter().all(|outcome| !outcome.done && !outcome.leapt));
            let off = values(&latent).iter().map(|x| (x - 0.25).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{leap} ends {off} from the target");
        }
    }

    #[test]
    fn coasting_walks_all_steps_with_few_evaluations() {
        let coast = CoastRule::Evaluations(4);
        let settings = SamplingSettings { steps: 10, coast, ..Default::default() };
        let (outcomes, latent) = run_to_end(DenoiseRun::new(&noise(), settings, SIZE).unwrap());
        assert_eq!(outcomes.len(), 4);
        assert_eq!(outcomes.iter().map(|outcome| 1 + outcome.coasted).sum::<usize>(), 10);
        assert!(outcomes[3].done && !outcomes[3].leapt);
        // The velocity to a fixed target does not change on the way.
        let off = values(&latent).iter().map(|x| (x - 0.25).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "it ends {off} from the target");
    }

    #[test]
    fn runs_repeat_bit_for_bit() {
        let settings = SamplingSettings { steps: 7, ..Default::default() };
        let latent = || run_to_end(DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap()).1;
        assert_eq!(values(&latent()), values(&latent()));
    }

    #[test]
    fn given_frames_stay_as_they_are() {
        let start = noise();
        let conditioning = FrameConditioning {
            frame_mask: vec![0.0, 0.5, 1.0, 1.0, 1.0],
            release_noise: ReleaseNoise::Seeded(3),
        };
        let settings = SamplingSettings { steps: 8, ..Default::default() };
        let run = DenoiseRun::new(&start, settings, SIZE).unwrap();
        let (_, latent) = run_to_end(run.with_conditioning(conditioning).unwrap());
        let frame =
            |x: &Tensor, index| values(&x.narrow(2, index, 1).unwrap().contiguous().unwrap());
        assert_eq!(frame(&latent, 0), frame(&start, 0));
        for index in 1..5 {
            assert!(frame(&latent, index).iter().all(|x| (x - 0.25).abs() < 1e-5), "frame {index}");
        }
    }

    #[test]
    fn values_that_are_not_finite_name_the_step() {
        let settings = SamplingSettings { steps: 4, ..Default::default() };
        for poison in [f32::NAN, f32::INFINITY] {
            let mut run = DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap();
            let request = run.next_step().unwrap().unwrap();
            run.advance(&straight(&request, 0.0)).unwrap();
            run.next_step().unwrap();
            let mut output = vec![0f32; 2 * 4 * 5 * 4 * 4];
            output[3] = poison;
            let output = Tensor::from_vec(output, (2, 4, 5, 4, 4), &Device::Cpu).unwrap();
            let error = run.advance(&output).unwrap_err();
            assert!(matches!(error, ModelError::NotFinite { .. }), "{error}");
            assert!(error.to_string().contains("step 1"), "{error}");
        }
    }

    #[test]
    fn a_run_cannot_be_driven_out_of_order() {
        let settings = SamplingSettings { steps: 1, ..Default::default() };
        let mut run = DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap();
        let output = Tensor::zeros((2, 4, 5, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(run.advance(&output).is_err());
        run.next_step().unwrap();
        run.advance(&output).unwrap();
        assert!(run.next_step().unwrap().is_none());
        assert!(run.advance(&output).is_err());
        let batch = Tensor::zeros((2, 2, 5, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(DenoiseRun::new(&batch, settings, SIZE).is_err());
    }

    #[test]
    fn timesteps_must_fit() {
        let run = || {
            let settings = SamplingSettings { steps: 2, ..Default::default() };
            DenoiseRun::new(&noise(), settings, SIZE).unwrap()
        };
        assert_eq!(run().with_timesteps(vec![1000.0001, 3.0]).unwrap().timesteps(), [1000.0, 3.0]);
        for bad in [vec![1000.0], vec![500.0, 500.0], vec![500.0, 0.0], vec![f32::NAN, 1.0]] {
            assert!(run().with_timesteps(bad.clone()).is_err(), "{bad:?} was accepted");
        }
    }
}
