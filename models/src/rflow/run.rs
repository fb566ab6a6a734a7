//! A whole sampling job as a state machine.

mod saved;
#[cfg(test)]
mod tests;

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

pub use saved::{SavedArray, SavedConditioning, SavedRun, SavedVelocity};

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

    /// Where `latent`, of this run and this moment, would be if the rest of the way were leapt along `velocity`. The run
    /// itself stays where it is.
    ///
    /// # Shapes
    /// Both the same: the run's, or some of its frames.
    ///
    /// # Errors
    /// The shapes differ.
    ///
    /// # Source
    /// Paper, section 4.1 (linear proportional leap), as a look ahead.
    pub fn leapt_along(&self, latent: &Tensor, velocity: &Tensor) -> Result<Tensor> {
        let left = self.timesteps.get(self.step).map_or(0.0, |timestep| f64::from(*timestep));
        Ok((latent + (velocity * (left / NUM_TIMESTEPS))?)?)
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
        if self.settings.coast != CoastRule::Off {
            trend.add(timestep, &velocity);
        }
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
