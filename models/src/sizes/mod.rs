//! Sizes of videos and of their latents, and the names that Open-Sora gives them.

mod resolution;
mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};

pub use resolution::{aspect_ratio_key, picture_size, pixel_count};

/// Pixel frames that the VAE compresses at a time.
pub const CHUNK_FRAMES: usize = 17;
/// Latent frames of one such chunk.
pub const CHUNK_LATENT_FRAMES: usize = 5;
/// Pixel frames of one latent frame, within a chunk.
pub const TEMPORAL_FACTOR: usize = 4;
/// Pixels of one latent value, along height and along width.
pub const SPATIAL_FACTOR: usize = 8;
/// What the transformer is told instead of a frame rate when it makes a single picture.
///
/// # Source
/// `IMG_FPS` of Open-Sora's `datasets/__init__.py`.
pub const PICTURE_FRAMES_PER_SECOND: f64 = 120.0;

/// The longest side of a picture. Our choice: the longest in Open-Sora's tables is 4704 pixels, and a network that
/// never saw pictures near this size makes none.
pub const LONGEST_SIDE_PX: usize = 8192;
/// The most frames of a video. Our choice: Open-Sora's longest named length is 816, and with [`LONGEST_SIDE_PX`] this
/// keeps every count of pixels and latent values far within a machine word.
pub const MOST_FRAMES: usize = 2048;

/// Size of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VideoSize {
    /// Height in pixels.
    pub height_px: usize,
    /// Width in pixels.
    pub width_px: usize,
    /// Frames; 1 is a picture.
    pub frames: usize,
}

impl VideoSize {
    /// The latent's frames, rows and columns.
    ///
    /// Frames go in chunks of 17, each of which becomes 5; what is left over, a fourth of it, rounded up. Pixels beyond
    /// a multiple of 8 are not generated.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when nothing is left of the video, or it is beyond [`LONGEST_SIDE_PX`] or [`MOST_FRAMES`].
    ///
    /// # Source
    /// `get_latent_size` of `VideoAutoencoderPipeline`, `models/vae/vae.py`.
    pub fn latent(self) -> Result<[usize; 3]> {
        if self.height_px.max(self.width_px) > LONGEST_SIDE_PX || self.frames > MOST_FRAMES {
            return Err(ModelError::bad_input(format!(
                "a video of {self} is too large: expected at most {MOST_FRAMES} frames of \
                 {LONGEST_SIDE_PX}x{LONGEST_SIDE_PX}"
            )));
        }
        let latent = [
            latent_frames(self.frames),
            self.height_px / SPATIAL_FACTOR,
            self.width_px / SPATIAL_FACTOR,
        ];
        if latent.contains(&0) {
            return Err(ModelError::bad_input(format!(
                "a video of {self} is too small: expected at least 1 frame of {SPATIAL_FACTOR}x{SPATIAL_FACTOR}"
            )));
        }
        Ok(latent)
    }

    /// The frame rate that the transformer is told for a video at `frames_per_second`.
    pub fn conditioning_frame_rate(self, frames_per_second: f64) -> f64 {
        if self.frames > 1 { frames_per_second } else { PICTURE_FRAMES_PER_SECOND }
    }

    /// Height over width.
    pub fn aspect_ratio(self) -> f64 {
        self.height_px as f64 / self.width_px as f64
    }
}

impl fmt::Display for VideoSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}, {} frames", self.width_px, self.height_px, self.frames)
    }
}

/// Latent frames of `frames` pixel frames.
pub fn latent_frames(frames: usize) -> usize {
    let rest = frames % CHUNK_FRAMES;
    frames / CHUNK_FRAMES * CHUNK_LATENT_FRAMES + rest.div_ceil(TEMPORAL_FACTOR)
}

/// Pixel frames of so many latent frames, which must be whole chunks.
///
/// # Errors
/// [`ModelError::BadInput`] when they are not, or are too many.
///
/// # Source
/// `dframe_to_frame` of `utils/inference_utils.py`.
pub fn frames_of_whole_chunks(latent_frames: usize) -> Result<usize> {
    if !latent_frames.is_multiple_of(CHUNK_LATENT_FRAMES) {
        return Err(ModelError::bad_input(format!(
            "{latent_frames} latent frames are no whole chunks: expected a multiple of {CHUNK_LATENT_FRAMES}"
        )));
    }
    let frames = (latent_frames / CHUNK_LATENT_FRAMES).checked_mul(CHUNK_FRAMES);
    frames
        .ok_or_else(|| ModelError::bad_input(format!("{latent_frames} latent frames are too many")))
}

/// A picture's size as `WIDTHxHEIGHT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureSize {
    /// Height in pixels.
    pub height_px: usize,
    /// Width in pixels.
    pub width_px: usize,
}

impl FromStr for PictureSize {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        let parse = |side: &str| side.parse().ok().filter(|side| *side >= SPATIAL_FACTOR);
        let sides =
            text.split_once(['x', 'X']).map(|(width, height)| (parse(width), parse(height)));
        let Some((Some(width_px), Some(height_px))) = sides else {
            return Err(ModelError::bad_input(format!(
                "size `{text}` is not known: expected WIDTHxHEIGHT in pixels, such as 256x256, \
                 each at least {SPATIAL_FACTOR}"
            )));
        };
        Ok(Self { height_px, width_px })
    }
}

/// The lengths that have names: as multiples of 51 frames, or in seconds at about 25 frames a second.
///
/// # Source
/// `NUM_FRAMES_MAP` of Open-Sora's `datasets/aspect.py`.
const NAMED_LENGTHS: [(&str, usize); 10] = [
    ("1x", 51),
    ("2x", 102),
    ("4x", 204),
    ("8x", 408),
    ("16x", 816),
    ("2s", 51),
    ("4s", 102),
    ("8s", 204),
    ("16s", 408),
    ("32s", 816),
];

/// A number of frames as a number, or as one of Open-Sora's names (`2s`, `4x`).
///
/// # Errors
/// [`ModelError::BadInput`] saying what would be accepted.
pub fn parse_frames(text: &str) -> Result<usize> {
    let named = NAMED_LENGTHS.iter().find(|(name, _)| *name == text).map(|(_, frames)| *frames);
    named.or_else(|| text.parse().ok()).filter(|frames| *frames > 0).ok_or_else(|| {
        let names = NAMED_LENGTHS.map(|(name, _)| name).join(", ");
        ModelError::bad_input(format!(
            "length `{text}` is not known: expected a number of frames or one of {names}"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn latents_count_whole_chunks_and_the_rest() {
        let frames = [(1, 1), (4, 1), (5, 2), (16, 4), (17, 5), (18, 6), (51, 15), (68, 20)];
        for (pixel, latent) in frames {
            assert_eq!(latent_frames(pixel), latent, "{pixel} frames");
        }
        let size = VideoSize { height_px: 166, width_px: 221, frames: 51 };
        assert_eq!(size.latent().unwrap(), [15, 20, 27]);
        assert!(VideoSize { height_px: 7, ..size }.latent().is_err());
        assert!(VideoSize { frames: 0, ..size }.latent().is_err());
        assert_eq!(frames_of_whole_chunks(15).unwrap(), 51);
        assert!(frames_of_whole_chunks(usize::MAX).is_err());
    }

    #[test]
    fn videos_beyond_the_limits_are_refused() {
        let largest = VideoSize {
            height_px: LONGEST_SIDE_PX,
            width_px: LONGEST_SIDE_PX,
            frames: MOST_FRAMES,
        };
        assert_eq!(largest.latent().unwrap(), [602, 1024, 1024]);
        for size in [
            VideoSize { height_px: LONGEST_SIDE_PX + 1, ..largest },
            VideoSize { width_px: 100_000, ..largest },
            VideoSize { height_px: 99_999_999_999, width_px: 99_999_999_999, ..largest },
            VideoSize { frames: MOST_FRAMES + 1, ..largest },
            VideoSize { frames: 999_999_999, ..largest },
            VideoSize { frames: usize::MAX, ..largest },
        ] {
            let error = size.latent().unwrap_err();
            assert!(matches!(error, ModelError::BadInput(_)), "{error}");
            assert!(error.to_string().contains("at most 2048 frames of 8192x8192"), "{error}");
        }
    }

    #[test]
    fn every_named_size_and_length_is_within_the_limits() {
        for resolution in table::RESOLUTIONS {
            for &(name, height_px, width_px) in resolution.sizes {
                let size = VideoSize { height_px, width_px, frames: 1 };
                assert!(size.latent().is_ok(), "{} {name}", resolution.name);
            }
        }
        assert!(NAMED_LENGTHS.iter().all(|(_, frames)| *frames <= MOST_FRAMES));
    }

    #[test]
    fn width_comes_first() {
        let size: PictureSize = "256x144".parse().unwrap();
        assert_eq!((size.height_px, size.width_px), (144, 256));
        for bad in ["256", "x", "256x", "0x64", "256x144x3", "-8x8", "2.5x9", "7x64"] {
            let error = bad.parse::<PictureSize>().unwrap_err().to_string();
            assert!(error.contains("WIDTHxHEIGHT"), "{error}");
        }
    }

    #[test]
    fn lengths_are_numbers_or_names() {
        assert_eq!((parse_frames("17").unwrap(), parse_frames("2s").unwrap()), (17, 51));
        for bad in ["", "0", "3s", "-1", "1.5"] {
            let error = parse_frames(bad).unwrap_err().to_string();
            assert!(error.contains("2s"), "{error}");
        }
    }
}
