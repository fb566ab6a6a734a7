//! Runs in which some frames are given.

use candle_core::{DType, Device, Tensor};

use super::noise::{add_noise, release_noise};
use super::timesteps::NUM_TIMESTEPS;
use crate::error::{ModelError, Result};

/// Frames that are given, wholly or as a start, in a run whose latent holds them.
#[derive(Debug, Clone)]
pub struct FrameConditioning {
    /// For each latent frame how much of it is to be generated: 1 all of it, 0 nothing, in between the edit ratio (the
    /// frame is denoised only from the timestep `1000 * ratio` on).
    pub frame_mask: Vec<f32>,
    /// The noise that frames get when they are released.
    pub release_noise: ReleaseNoise,
}

/// Where the noise of newly released frames comes from.
#[derive(Debug, Clone)]
pub enum ReleaseNoise {
    /// Drawn from this seed.
    Seeded(u64),
    /// Given for every step, `[steps, C, T, H, W]`.
    Recorded(Tensor),
}

/// A conditioned run's progress.
#[derive(Debug, Clone)]
pub(super) struct Conditioned {
    settings: FrameConditioning,
    released: Vec<bool>,
}

impl Conditioned {
    /// `shape` is the latent's, `[1, C, T, H, W]`.
    pub(super) fn new(settings: FrameConditioning, shape: &[usize], steps: usize) -> Result<Self> {
        let (frames, mask) = (shape[2], &settings.frame_mask);
        if mask.len() != frames || mask.iter().any(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(ModelError::bad_input(format!(
                "the frame mask {mask:?} does not fit: expected {frames} values between 0 and 1"
            )));
        }
        if let ReleaseNoise::Recorded(noise) = &settings.release_noise {
            let expected = [&[steps], &shape[1..]].concat();
            if noise.dims() != expected {
                let found = noise.dims();
                let refusal =
                    format!("release noise of {found:?} does not fit: expected {expected:?}");
                return Err(ModelError::BadInput(refusal));
            }
        }
        // Frames that are generated from the start already are noise.
        let released = mask.iter().map(|&ratio| ratio == 1.0).collect();
        Ok(Self { settings, released })
    }

    pub(super) fn settings(&self) -> &FrameConditioning {
        &self.settings
    }

    /// For each latent frame whether it is being denoised.
    pub(super) fn released(&self) -> &[bool] {
        &self.released
    }

    /// Goes on from where a run was.
    pub(super) fn set_released(&mut self, released: &[bool]) -> Result<()> {
        if released.len() != self.released.len() {
            let (found, expected) = (released.len(), self.released.len());
            return Err(ModelError::bad_input(format!(
                "the saved run says of {found} frames whether they were released: expected {expected}"
            )));
        }
        self.released = released.to_vec();
        Ok(())
    }

    /// Releases the frames whose time has come and gives them noise.
    pub(super) fn release(
        &mut self,
        latent: &Tensor,
        step: usize,
        timestep: f32,
    ) -> Result<Tensor> {
        let due = |ratio: &f32| f64::from(*ratio) * NUM_TIMESTEPS >= f64::from(timestep);
        let due: Vec<bool> = self.settings.frame_mask.iter().map(due).collect();
        let newly: Vec<bool> =
            due.iter().zip(&self.released).map(|(due, before)| *due && !before).collect();
        self.released = due;
        if !newly.contains(&true) {
            return Ok(latent.clone());
        }
        let noise = match &self.settings.release_noise {
            ReleaseNoise::Seeded(seed) => {
                release_noise(*seed, step, latent.dims(), latent.device())?
            }
            ReleaseNoise::Recorded(noise) => {
                noise.narrow(0, step, 1)?.to_device(latent.device())?
            }
        };
        let noisy = add_noise(latent, &noise, &[timestep])?;
        choose_frames(&newly, &noisy, latent)
    }

    /// `stepped` where frames are released, `before` where they are not.
    pub(super) fn keep_given(&self, stepped: &Tensor, before: &Tensor) -> Result<Tensor> {
        choose_frames(&self.released, stepped, before)
    }

    /// `[rows, T]`, `U8`: 1 where a frame is being denoised.
    pub(super) fn frame_mask(&self, rows: usize, device: &Device) -> Result<Tensor> {
        let mask = flags(&self.released, device)?;
        Ok(mask.reshape((1, ()))?.broadcast_as((rows, self.released.len()))?.contiguous()?)
    }
}

fn flags(frames: &[bool], device: &Device) -> Result<Tensor> {
    let flags: Vec<u8> = frames.iter().map(|&flag| u8::from(flag)).collect();
    Ok(Tensor::new(flags, device)?.to_dtype(DType::U8)?)
}

/// Frame by frame, `[1, C, T, H, W]`: `chosen` where `frames` says so, `other` elsewhere.
fn choose_frames(frames: &[bool], chosen: &Tensor, other: &Tensor) -> Result<Tensor> {
    let mask = flags(frames, other.device())?.reshape((1, 1, frames.len(), 1, 1))?;
    Ok(mask.broadcast_as(other.shape())?.where_cond(chosen, other)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn conditioned(frame_mask: &[f32]) -> Result<Conditioned> {
        let settings = FrameConditioning {
            frame_mask: frame_mask.to_vec(),
            release_noise: ReleaseNoise::Seeded(1),
        };
        Conditioned::new(settings, &[1, 2, 3, 1, 1], 4)
    }

    fn frames(latent: &Tensor) -> Vec<Vec<f32>> {
        latent.reshape((2, 3)).unwrap().t().unwrap().to_vec2().unwrap()
    }

    #[test]
    fn a_frame_gets_noise_once_when_its_time_comes() {
        let mut conditioned = conditioned(&[0.0, 0.5, 1.0]).unwrap();
        let latent = Tensor::ones((1, 2, 3, 1, 1), DType::F32, &Device::Cpu).unwrap();
        let early = conditioned.release(&latent, 0, 1000.0).unwrap();
        assert_eq!(frames(&early), frames(&latent));
        let late = conditioned.release(&latent, 1, 500.0).unwrap();
        assert_eq!(frames(&late)[0], [1., 1.]);
        assert_ne!(frames(&late)[1], [1., 1.]);
        assert_eq!(frames(&late)[2], [1., 1.]);
        let again = conditioned.release(&late, 2, 250.0).unwrap();
        assert_eq!(frames(&again), frames(&late));
        let mask = conditioned.frame_mask(2, &Device::Cpu).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(mask, [[0, 1, 1], [0, 1, 1]]);
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        for bad in [&[0.0, 1.0][..], &[0.0, 1.0, 1.5], &[0.0, f32::NAN, 1.0]] {
            assert!(conditioned(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
