//! A frame on its way to the app.

use std::sync::Arc;

use sora_actors::messages::VideoChunk;

/// Bytes of a pixel: red, green, blue, and an alpha of 255.
const PIXEL_BYTES: usize = 4;

/// One frame of a video, or a preview: rows from top to bottom, four bytes (red, green, blue, alpha 255) a pixel, without
/// padding.
///
/// The frame crosses the boundary as a handle; its pixels stay where they are. [`SoraFrame::rgba`] copies them, since UniFFI
/// hands bytes over by value. [`SoraFrame::rgba_address`] says where they are, for those who read them in place.
#[derive(Debug, uniffi::Object)]
pub struct SoraFrame {
    index: u32,
    width_px: u32,
    height_px: u32,
    rgba: Vec<u8>,
}

impl SoraFrame {
    /// The frames of a chunk.
    pub(crate) fn of_chunk(chunk: VideoChunk) -> Vec<Arc<Self>> {
        let VideoChunk { first_frame, width_px, height_px, frames, .. } = chunk;
        let frame = |(index, frame): (usize, sora_actors::messages::RgbFrame)| {
            let pixels = frame.0.as_chunks::<3>().0;
            let mut rgba = Vec::with_capacity(pixels.len() * PIXEL_BYTES);
            pixels.iter().for_each(|&[red, green, blue]| rgba.extend([red, green, blue, u8::MAX]));
            Arc::new(Self {
                index: (first_frame + index) as u32,
                width_px: width_px as u32,
                height_px: height_px as u32,
                rgba,
            })
        };
        frames.into_iter().enumerate().map(frame).collect()
    }
}

#[uniffi::export]
impl SoraFrame {
    /// Its place in the video, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Width in pixels.
    pub fn width_px(&self) -> u32 {
        self.width_px
    }

    /// Height in pixels.
    pub fn height_px(&self) -> u32 {
        self.height_px
    }

    /// Its pixels, copied.
    pub fn rgba(&self) -> Vec<u8> {
        self.rgba.clone()
    }

    /// How many bytes its pixels are: four times width times height.
    pub fn rgba_length(&self) -> u64 {
        self.rgba.len() as u64
    }

    /// Where its pixels are in memory. They stay there, unchanged, for as long as this object lives; nobody may write there,
    /// or read there afterwards.
    pub fn rgba_address(&self) -> u64 {
        self.rgba.as_ptr() as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_actors::messages::RgbFrame;

    use super::*;

    #[test]
    fn pixels_keep_their_order_and_get_an_alpha() {
        let frames = vec![RgbFrame(vec![1, 2, 3, 4, 5, 6]), RgbFrame(vec![7; 6])];
        let frames = SoraFrame::of_chunk(VideoChunk::new(17, 2, 1, frames).unwrap());
        assert_eq!(frames.iter().map(|frame| frame.index()).collect::<Vec<_>>(), [17, 18]);
        assert_eq!(frames[0].rgba(), [1, 2, 3, 255, 4, 5, 6, 255]);
        assert_eq!((frames[0].width_px(), frames[0].height_px()), (2, 1));
        assert_eq!(frames[0].rgba_length(), 8);
    }
}
