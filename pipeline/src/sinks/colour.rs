//! From RGB frames to the planes that video codecs take.

/// Luma weight of red in BT.709.
const RED_WEIGHT: f32 = 0.2126;
/// Luma weight of blue in BT.709.
const BLUE_WEIGHT: f32 = 0.0722;

/// One frame as 8-bit Y'CbCr 4:2:0, BT.709, limited range.
pub(super) struct Yuv420 {
    pub(super) width_px: usize,
    pub(super) height_px: usize,
    pub(super) luma: Vec<u8>,
    pub(super) blue_difference: Vec<u8>,
    pub(super) red_difference: Vec<u8>,
}

impl Yuv420 {
    /// An empty frame for pictures of this size, rounded up to even: 4:2:0 has one chroma sample for 2x2 pixels.
    pub(super) fn new(width_px: usize, height_px: usize) -> Self {
        let (width_px, height_px) = (width_px.next_multiple_of(2), height_px.next_multiple_of(2));
        let chroma = width_px * height_px / 4;
        Self {
            width_px,
            height_px,
            luma: vec![0; width_px * height_px],
            blue_difference: vec![0; chroma],
            red_difference: vec![0; chroma],
        }
    }

    /// Fills the planes from packed 8-bit RGB; the last row and column are repeated where the size was rounded up.
    ///
    /// Chroma samples sit level with the left pixel of each pair and between its rows, as H.264 assumes when nothing
    /// else is said, so they are filtered 1-2-1 across and averaged down: a plain 2x2 mean shifts colours by a quarter pixel.
    pub(super) fn fill(&mut self, rgb: &[u8], source_width_px: usize, source_height_px: usize) {
        let pixel = |x: usize, y: usize| {
            let at =
                (y.min(source_height_px - 1) * source_width_px + x.min(source_width_px - 1)) * 3;
            [rgb[at], rgb[at + 1], rgb[at + 2]].map(f32::from)
        };
        for y in 0..self.height_px {
            for x in 0..self.width_px {
                self.luma[y * self.width_px + x] =
                    to_byte(16.0 + 219.0 / 255.0 * luma(pixel(x, y)));
            }
        }
        let chroma_width = self.width_px / 2;
        for y in 0..self.height_px / 2 {
            for x in 0..chroma_width {
                let mut mean = [0.0f32; 3];
                for (column, weight) in
                    [(2 * x).saturating_sub(1), 2 * x, 2 * x + 1].into_iter().zip([1.0, 2.0, 1.0])
                {
                    for row in [2 * y, 2 * y + 1] {
                        let colour = pixel(column, row);
                        for (sum, channel) in mean.iter_mut().zip(colour) {
                            *sum += channel * weight / 8.0;
                        }
                    }
                }
                let [red, _, blue] = mean;
                let grey = luma(mean);
                let scale = 224.0 / 255.0;
                let at = y * chroma_width + x;
                self.blue_difference[at] =
                    to_byte(128.0 + scale * (blue - grey) / (2.0 * (1.0 - BLUE_WEIGHT)));
                self.red_difference[at] =
                    to_byte(128.0 + scale * (red - grey) / (2.0 * (1.0 - RED_WEIGHT)));
            }
        }
    }
}

fn luma([red, green, blue]: [f32; 3]) -> f32 {
    RED_WEIGHT * red + (1.0 - RED_WEIGHT - BLUE_WEIGHT) * green + BLUE_WEIGHT * blue
}

fn to_byte(value: f32) -> u8 {
    // `as` saturates, and the values are within 16..=240 already.
    value.round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_have_their_published_values() {
        // 100 % colour bars in BT.709, limited range.
        for (rgb, [y, cb, cr]) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            let mut frame = Yuv420::new(4, 2);
            frame.fill(&rgb.repeat(8), 4, 2);
            assert_eq!(
                (frame.luma[5], frame.blue_difference[1], frame.red_difference[0]),
                (y, cb, cr),
                "{rgb:?}"
            );
        }
    }

    #[test]
    fn an_odd_picture_repeats_its_edge() {
        let mut frame = Yuv420::new(3, 1);
        assert_eq!((frame.width_px, frame.height_px), (4, 2));
        frame.fill(&[0, 0, 0, 0, 0, 0, 255, 255, 255], 3, 1);
        assert_eq!(frame.luma, [16, 16, 235, 235, 16, 16, 235, 235]);
    }

    #[test]
    fn chroma_is_sampled_level_with_the_left_pixel() {
        // Black | red: the second chroma sample sits on the first red pixel, so a quarter of it is still black.
        let mut frame = Yuv420::new(4, 2);
        let row = [[0, 0, 0], [0, 0, 0], [255, 0, 0], [255, 0, 0]].concat();
        frame.fill(&row.repeat(2), 4, 2);
        assert_eq!(frame.red_difference, [128, 128 + 84]);
    }
}
