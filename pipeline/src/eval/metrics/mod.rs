//! Measures of clips that need no knowledge of what is shown.
//!
//! Two clips are compared by [`psnr_db`] and [`ssim`]; one clip alone is measured by
//! [`temporal_flickering`], [`mean_frame_difference`] and [`high_frequency_energy`].

mod sharpness;
mod similarity;
mod temporal;

use std::fmt;

use super::Clip;

pub use sharpness::high_frequency_energy;
pub use similarity::{IDENTICAL_DB, psnr_db, ssim};
pub use temporal::{mean_frame_difference, temporal_flickering};

/// The highest 8-bit level, and so the largest difference of two pixels in a channel.
const PEAK: f64 = 255.0;

/// Why two clips cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// The clips differ in width, height or number of frames.
    #[error("clips of different sizes cannot be compared: {first} and {second}")]
    DifferentSizes {
        /// Size of the first clip.
        first: ClipSize,
        /// Size of the second clip.
        second: ClipSize,
    },

    /// There are too few pixels to measure.
    #[error(
        "clips of {size} are too small: at least one frame of {least_px} pixels a side is needed"
    )]
    TooSmall {
        /// Size of both clips.
        size: ClipSize,
        /// What a side must have at least.
        least_px: usize,
    },
}

/// The size of a clip, as an error shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSize {
    /// Width of a frame.
    pub width_px: usize,
    /// Height of a frame.
    pub height_px: usize,
    /// How many frames there are.
    pub num_frames: usize,
}

impl ClipSize {
    fn of(clip: &Clip) -> Self {
        Self {
            width_px: clip.width_px(),
            height_px: clip.height_px(),
            num_frames: clip.frames().len(),
        }
    }
}

impl fmt::Display for ClipSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} pixels and {} frames", self.width_px, self.height_px, self.num_frames)
    }
}

/// The size of two clips, once they are found to be alike and large enough.
fn common_size(first: &Clip, second: &Clip, least_px: usize) -> Result<ClipSize, MetricError> {
    let (first, second) = (ClipSize::of(first), ClipSize::of(second));
    if first != second {
        return Err(MetricError::DifferentSizes { first, second });
    }
    if first.num_frames == 0 || first.width_px.min(first.height_px) < least_px {
        return Err(MetricError::TooSmall { size: first, least_px });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(width_px: usize, height_px: usize, num_frames: usize) -> Clip {
        let frames = vec![vec![0; width_px * height_px * 3]; num_frames];
        Clip::new(width_px, height_px, frames).unwrap()
    }

    #[test]
    fn only_clips_of_one_size_are_compared() {
        let one = clip(4, 3, 2);
        assert!(common_size(&one, &one, 3).is_ok());
        for other in [clip(3, 4, 2), clip(4, 3, 1), clip(4, 2, 2)] {
            let error = common_size(&one, &other, 1).unwrap_err();
            assert!(matches!(error, MetricError::DifferentSizes { .. }), "{error}");
            assert!(error.to_string().contains("4x3 pixels and 2 frames"), "{error}");
        }
    }

    #[test]
    fn too_few_pixels_are_refused() {
        for small in [clip(4, 3, 0), clip(0, 0, 2), clip(4, 2, 1)] {
            let error = common_size(&small, &small, 3).unwrap_err();
            assert!(matches!(error, MetricError::TooSmall { least_px: 3, .. }), "{error}");
        }
    }
}
