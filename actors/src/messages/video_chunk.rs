//! Frames on their way out of the decoder.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::check_version;
use crate::error::PayloadError;

/// One frame: rows from top to bottom, three bytes (red, green, blue) a pixel, without padding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RgbFrame(pub Vec<u8>);

/// Some consecutive frames of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoChunk {
    /// [`VideoChunk::FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// Index of the first of these frames within the video.
    pub first_frame: usize,
    /// Width of each frame in pixels.
    pub width_px: usize,
    /// Height of each frame in pixels.
    pub height_px: usize,
    /// The frames, in order.
    pub frames: Vec<RgbFrame>,
}

impl VideoChunk {
    /// Version of this payload's layout.
    pub const FORMAT_VERSION: u32 = 1;

    /// Wraps frames that are already apart.
    ///
    /// # Errors
    /// A frame's bytes are not `3 * width_px * height_px`.
    pub fn new(
        first_frame: usize,
        width_px: usize,
        height_px: usize,
        frames: Vec<RgbFrame>,
    ) -> Result<Self, PayloadError> {
        let chunk =
            Self { format_version: Self::FORMAT_VERSION, first_frame, width_px, height_px, frames };
        chunk.check()?;
        Ok(chunk)
    }

    /// Takes frames out of a tensor of bytes.
    ///
    /// # Shapes
    /// `frames`: `[T, H, W, 3]` in U8.
    ///
    /// # Errors
    /// The tensor has another shape or dtype.
    pub fn from_tensor(first_frame: usize, frames: &Tensor) -> Result<Self, PayloadError> {
        let unexpected = || PayloadError::Tensor {
            payload: "video chunk",
            expected: "[T, H, W, 3] in U8",
            shape: frames.dims().to_vec(),
            dtype: frames.dtype(),
        };
        let &[_, height_px, width_px, 3] = frames.dims() else { return Err(unexpected()) };
        if frames.dtype() != DType::U8 {
            return Err(unexpected());
        }
        let bytes = frames.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<u8>()?;
        let frame_bytes = (3 * width_px * height_px).max(1);
        let frames = bytes.chunks_exact(frame_bytes).map(|frame| RgbFrame(frame.to_vec()));
        Self::new(first_frame, width_px, height_px, frames.collect())
    }

    /// Checks a chunk that came from outside.
    ///
    /// # Errors
    /// Its version is another one, or a frame's bytes are not `3 * width_px * height_px`.
    pub fn check(&self) -> Result<(), PayloadError> {
        check_version("video chunk", self.format_version, Self::FORMAT_VERSION)?;
        let shape = [self.height_px, self.width_px, 3];
        self.frames
            .iter()
            .try_for_each(|frame| super::check_count("video chunk", &shape, frame.0.len()))
    }
}
