//! A clip as decoded 8-bit pixels, which is all that the judges look at.

/// Bytes of a pixel: red, green, blue.
const PIXEL_BYTES: usize = 3;

/// Weights of red, green and blue in luma.
///
/// # Source
/// ITU-R BT.601-7, section 2.5.1.
const LUMA_WEIGHTS: [f32; PIXEL_BYTES] = [0.299, 0.587, 0.114];

/// The frames of a video, all of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    width_px: usize,
    height_px: usize,
    frames: Vec<Vec<u8>>,
}

/// Why frames make no clip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// A frame does not hold the pixels of its size.
    #[error(
        "frame {frame} has {bytes} bytes: {width_px}x{height_px} RGB pixels of {PIXEL_BYTES} bytes \
         were expected"
    )]
    FrameLength {
        /// The first such frame, from 0.
        frame: usize,
        /// How long it is.
        bytes: usize,
        /// Width that the clip should have.
        width_px: usize,
        /// Height that the clip should have.
        height_px: usize,
    },
}

impl Clip {
    /// A clip of `frames`, each with rows from top to bottom and 3 bytes (RGB) a pixel.
    ///
    /// A clip may be empty: without frames, or with frames of no pixels.
    ///
    /// # Errors
    /// [`ClipError::FrameLength`] if a frame is not `width_px * height_px * 3` bytes long.
    pub fn new(width_px: usize, height_px: usize, frames: Vec<Vec<u8>>) -> Result<Self, ClipError> {
        // A product that saturates is longer than any frame can be.
        let expected = width_px.saturating_mul(height_px).saturating_mul(PIXEL_BYTES);
        match frames.iter().position(|frame| frame.len() != expected) {
            Some(frame) => Err(ClipError::FrameLength {
                frame,
                bytes: frames[frame].len(),
                width_px,
                height_px,
            }),
            None => Ok(Self { width_px, height_px, frames }),
        }
    }

    /// Width of every frame, in pixels.
    pub fn width_px(&self) -> usize {
        self.width_px
    }

    /// Height of every frame, in pixels.
    pub fn height_px(&self) -> usize {
        self.height_px
    }

    /// The frames, each `height_px * width_px * 3` bytes: rows from top to bottom, RGB.
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    /// The RGB pixels of each frame, `height_px * width_px` of them, row after row.
    pub fn frames_of_pixels(&self) -> impl Iterator<Item = &[[u8; PIXEL_BYTES]]> {
        self.frames.iter().map(|frame| frame.as_chunks().0)
    }

    /// The luma of each frame after Rec. 601, in 8-bit levels (0 to 255), not rounded:
    /// `height_px * width_px` values, row after row.
    pub fn luma_planes(&self) -> impl Iterator<Item = Vec<f32>> {
        self.frames_of_pixels().map(|pixels| pixels.iter().map(luma).collect())
    }
}

fn luma(rgb: &[u8; PIXEL_BYTES]) -> f32 {
    rgb.iter().zip(LUMA_WEIGHTS).map(|(&level, weight)| f32::from(level) * weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_row_after_row() {
        let clip = Clip::new(2, 1, vec![vec![1, 2, 3, 4, 5, 6], vec![7; 6]]).unwrap();
        assert_eq!((clip.width_px(), clip.height_px(), clip.frames().len()), (2, 1, 2));
        let frames: Vec<_> = clip.frames_of_pixels().collect();
        assert_eq!(frames, [[[1, 2, 3], [4, 5, 6]], [[7; 3]; 2]]);
    }

    #[test]
    fn luma_weighs_the_channels() {
        let frame = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 200, 200];
        let clip = Clip::new(4, 1, vec![frame]).unwrap();
        let planes: Vec<_> = clip.luma_planes().collect();
        for (value, expected) in planes[0].iter().zip([76.245, 149.685, 29.07, 200.0]) {
            assert!((value - expected).abs() < 1e-3, "{value} is not {expected}");
        }
    }

    #[test]
    fn a_frame_of_another_size_is_refused_by_number() {
        let error = Clip::new(1, 2, vec![vec![0; 6], vec![0; 5]]).unwrap_err();
        assert_eq!(error, ClipError::FrameLength { frame: 1, bytes: 5, width_px: 1, height_px: 2 });
        assert!(error.to_string().starts_with("frame 1 has 5 bytes"), "{error}");
        assert!(Clip::new(usize::MAX, usize::MAX, vec![vec![0; 3]]).is_err());
    }

    #[test]
    fn empty_clips_are_clips() {
        assert!(Clip::new(64, 64, Vec::new()).is_ok());
        let pixelless = Clip::new(0, 5, vec![Vec::new(); 2]).unwrap();
        assert!(pixelless.luma_planes().all(|plane| plane.is_empty()));
    }
}
