//! A run between two steps as plain data, so that it can go on in another process.

#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{DenoiseRun, sample};
use crate::error::{ModelError, Result};
use crate::rflow::conditioning::{FrameConditioning, ReleaseNoise};
use crate::rflow::leap::LinearProportionalLeap;
use crate::rflow::settings::SamplingSettings;
use crate::sizes::VideoSize;

/// All that a [`DenoiseRun`] needs to go on with the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    /// [`SavedRun::FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// The run's settings.
    pub settings: SamplingSettings,
    /// The timestep of every step.
    pub timesteps: Vec<f32>,
    /// Index of the step to take next.
    pub step: usize,
    /// `[C, T, H, W]` of the latent and of every velocity.
    pub shape: [usize; 4],
    /// The latent as it is now, row-major.
    pub latent: Vec<f32>,
    /// The leap rule's state.
    pub leap: LinearProportionalLeap,
    /// The velocities that coasting extrapolates from, the older first; none in runs that do not coast.
    pub velocities: Vec<SavedVelocity>,
    /// What frames are given, in runs that have such.
    pub conditioning: Option<SavedConditioning>,
}

/// A velocity that the model gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedVelocity {
    /// Where it was given.
    pub timestep: f32,
    /// The values, row-major.
    pub values: Vec<f32>,
}

/// The given frames of a run, and how far they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedConditioning {
    /// As [`FrameConditioning::frame_mask`].
    pub frame_mask: Vec<f32>,
    /// Seed of the noise that frames get when they are released.
    pub seed: u64,
    /// For each latent frame whether it was released.
    pub released: Vec<bool>,
}

/// One of the long rows of numbers in saved data, for formats that keep them apart from the rest.
#[derive(Debug)]
pub struct SavedArray<'a> {
    /// What it is, unique within its data.
    pub name: String,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: &'a mut Vec<f32>,
}

impl SavedRun {
    /// Version of this layout.
    pub const FORMAT_VERSION: u32 = 1;

    /// All long rows of numbers. Data whose rows are taken out lists the same names, so that they can be put back.
    pub fn arrays(&mut self) -> Vec<SavedArray<'_>> {
        let shape = self.shape.to_vec();
        let latent =
            SavedArray { name: "latent".into(), shape: shape.clone(), values: &mut self.latent };
        let velocities = self.velocities.iter_mut().enumerate().map(|(index, velocity)| {
            let name = format!("velocity.{index}");
            SavedArray { name, shape: shape.clone(), values: &mut velocity.values }
        });
        let leap = self.leap.previous_mut().map(|sample| {
            let (name, shape) = ("leap.previous".to_string(), vec![sample.values.len()]);
            SavedArray { name, shape, values: &mut sample.values }
        });
        std::iter::once(latent).chain(velocities).chain(leap).collect()
    }

    fn tensor(&self, values: &[f32], device: &Device) -> Result<Tensor> {
        let [channels, frames, height, width] = self.shape;
        // A shape out of a damaged file may multiply beyond usize.
        let expected =
            self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if expected != Some(values.len()) {
            let (values, shape) = (values.len(), self.shape);
            return refuse(format!("{values} values do not fill the shape {shape:?}"));
        }
        let shape = (1, channels, frames, height, width);
        Ok(Tensor::from_slice(values, shape, &Device::Cpu)?.to_device(device)?)
    }
}

impl DenoiseRun {
    /// The run as plain data. A step that was asked for and not answered will be asked for again.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a run whose frames are released with recorded noise, which only checks against
    /// recordings use; or the latent cannot be copied to the CPU.
    pub fn save(&self) -> Result<SavedRun> {
        let (_, channels, frames, height, width) = self.latent.dims5()?;
        let velocities = self
            .trend
            .known()
            .map(|(timestep, velocity)| Ok(SavedVelocity { timestep, values: values(velocity)? }));
        let conditioning = self.conditioned.as_ref().map(|conditioned| {
            let FrameConditioning { frame_mask, release_noise } = conditioned.settings();
            let &ReleaseNoise::Seeded(seed) = release_noise else {
                return refuse("runs with recorded release noise are not saved".into());
            };
            let released = conditioned.released().to_vec();
            Ok(SavedConditioning { frame_mask: frame_mask.clone(), seed, released })
        });
        Ok(SavedRun {
            format_version: SavedRun::FORMAT_VERSION,
            settings: self.settings.clone(),
            timesteps: self.timesteps.clone(),
            step: self.step,
            shape: [channels, frames, height, width],
            latent: values(&self.latent)?,
            leap: self.leap.clone(),
            velocities: velocities.collect::<Result<_>>()?,
            conditioning: conditioning.transpose()?,
        })
    }

    /// Goes on where `saved` was, for a video of `size`, with the same bits as if it had never stopped.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the data is of another version, or does not fit together.
    pub fn restore(saved: &SavedRun, size: VideoSize, device: &Device) -> Result<Self> {
        let (found, supported) = (saved.format_version, SavedRun::FORMAT_VERSION);
        if found != supported {
            return refuse(format!(
                "its format version is {found}, this program reads {supported}"
            ));
        }
        let latent = saved.tensor(&saved.latent, device)?;
        let mut run = Self::new(&latent, saved.settings.clone(), size)?;
        if run.timesteps != saved.timesteps {
            run = run.with_timesteps(saved.timesteps.clone())?;
        }
        if let Some(SavedConditioning { frame_mask, seed, released }) = &saved.conditioning {
            let (frame_mask, release_noise) = (frame_mask.clone(), ReleaseNoise::Seeded(*seed));
            run = run.with_conditioning(FrameConditioning { frame_mask, release_noise })?;
            if let Some(conditioned) = &mut run.conditioned {
                conditioned.set_released(released)?;
            }
        }
        let steps = run.timesteps.len();
        if saved.step > steps || run.evaluated.get(saved.step) == Some(&false) {
            return refuse(format!(
                "step {} of {steps} is none that it can go on from",
                saved.step
            ));
        }
        run.step = saved.step;
        run.leap = run.restored_leap(&saved.leap)?;
        for SavedVelocity { timestep, values } in &saved.velocities {
            run.trend.add(*timestep, &saved.tensor(values, device)?);
        }
        Ok(run)
    }

    fn restored_leap(&self, saved: &LinearProportionalLeap) -> Result<LinearProportionalLeap> {
        let expected = sample(&self.latent, self.leap.sample_over())?;
        let fits = saved.previous().is_none_or(|previous| {
            (previous.values.len(), previous.row_length)
                == (expected.values.len(), expected.row_length)
        });
        if saved.rule() != self.settings.leap || !fits {
            return refuse("the state of its leap rule is that of another run".into());
        }
        Ok(saved.clone())
    }
}

fn values(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(ModelError::BadInput(format!("the saved run cannot be used: {reason}")))
}
