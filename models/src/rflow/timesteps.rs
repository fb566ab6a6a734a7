//! At which diffusion times the model is evaluated.

use crate::sizes::{CHUNK_FRAMES, CHUNK_LATENT_FRAMES, VideoSize};

/// Diffusion time runs from this, pure noise, to 0.
pub const NUM_TIMESTEPS: f64 = 1000.0;

/// Shifts timesteps towards noise for larger and longer videos, which need more of it to lose their structure.
///
/// # Source
/// `timestep_transform` of `schedulers/rf/rectified_flow.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimestepTransform {
    ratio: f64,
}

impl TimestepTransform {
    /// Pixels of the picture whose timesteps stay as they are: 512 x 512.
    pub const BASE_RESOLUTION_PX: usize = 512 * 512;

    /// The transform for a video: `sqrt(height * width / base) * sqrt(F)`, where F is 1 for a picture and 5 for each
    /// whole chunk of 17 frames.
    ///
    /// Videos of 2 to 16 frames have no whole chunk. The reference then multiplies by 0, which makes the first
    /// timestep NaN; here F is at least 1, as for a picture.
    pub fn new(size: VideoSize, base_resolution_px: usize) -> Self {
        let frames = (size.frames / CHUNK_FRAMES * CHUNK_LATENT_FRAMES).max(1) as f64;
        let pixels = size.height_px as f64 * size.width_px as f64;
        Self::with_ratio((pixels / base_resolution_px as f64).sqrt() * frames.sqrt())
    }

    /// The transform with a given ratio; 1 changes nothing.
    pub fn with_ratio(ratio: f64) -> Self {
        Self { ratio }
    }

    /// `timestep`, in `[0, 1000]`, transformed.
    pub fn apply(self, timestep: f64) -> f64 {
        let t = timestep / NUM_TIMESTEPS;
        self.ratio * t / (1.0 + (self.ratio - 1.0) * t) * NUM_TIMESTEPS
    }
}

/// The timestep of every step, from 1000 down.
///
/// `discrete` rounds them to whole numbers, half to even, before the transform.
pub fn timesteps(steps: usize, discrete: bool, transform: Option<TimestepTransform>) -> Vec<f32> {
    let timestep = |step: usize| {
        let even = (1.0 - step as f64 / steps as f64) * NUM_TIMESTEPS;
        let even = if discrete { even.round_ties_even() } else { even };
        transform.map_or(even, |transform| transform.apply(even)) as f32
    };
    (0..steps).map(timestep).map(at_most_the_start).collect()
}

/// Rounding must not carry the first timestep beyond pure noise: every frame of a conditioned run would count as not
/// yet released. NaN stays NaN.
pub(super) fn at_most_the_start(timestep: f32) -> f32 {
    if timestep > NUM_TIMESTEPS as f32 { NUM_TIMESTEPS as f32 } else { timestep }
}

/// How far each step goes, as a part of the whole way: to the next timestep, the last one to 0.
pub fn step_sizes(timesteps: &[f32]) -> Vec<f32> {
    let next = timesteps.iter().skip(1).chain(std::iter::once(&0.0));
    let distance = |(t, next): (&f32, &f32)| (f64::from(*t) - f64::from(*next)) / NUM_TIMESTEPS;
    timesteps.iter().zip(next).map(|pair| distance(pair) as f32).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn size(frames: usize) -> VideoSize {
        VideoSize { height_px: 192, width_px: 192, frames }
    }

    #[test]
    fn discrete_timesteps_round_half_to_even() {
        // 16 steps are 62.5 apart: 937.5, 812.5 and 687.5 lie halfway.
        let rounded = timesteps(16, true, None);
        assert_eq!(rounded[..6], [1000.0, 938.0, 875.0, 812.0, 750.0, 688.0]);
        assert_eq!(timesteps(16, false, None)[1], 937.5);
    }

    #[test]
    fn a_whole_run_goes_the_whole_way() {
        for frames in [1, 2, 16, 17, 68, 204] {
            let transform =
                TimestepTransform::new(size(frames), TimestepTransform::BASE_RESOLUTION_PX);
            let times = timesteps(30, true, Some(transform));
            assert!(times.windows(2).all(|pair| pair[0] > pair[1]), "{frames} frames: {times:?}");
            assert!(times[0] <= 1000.0 && times[29] > 0.0, "{frames} frames: {times:?}");
            let way: f32 = step_sizes(&times).iter().sum();
            assert!((way - times[0] / 1000.0).abs() < 1e-5, "{frames} frames go {way}");
        }
    }

    #[test]
    fn short_videos_are_transformed_like_pictures() {
        let base = TimestepTransform::BASE_RESOLUTION_PX;
        let picture = TimestepTransform::new(size(1), base);
        assert_eq!(TimestepTransform::new(size(16), base), picture);
        assert_ne!(TimestepTransform::new(size(17), base), picture);
    }

    #[test]
    fn the_base_picture_is_not_transformed() {
        let base = VideoSize { height_px: 512, width_px: 512, frames: 1 };
        let transform = TimestepTransform::new(base, TimestepTransform::BASE_RESOLUTION_PX);
        assert_eq!(timesteps(10, true, Some(transform)), timesteps(10, true, None));
    }
}
