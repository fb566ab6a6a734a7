//! Telling a flat shape from the flat background behind it.

use super::palette::{Rgb, distance};
use crate::eval::Clip;

/// Width of the frame's border whose median is the background. Our choice: no shape of the demo
/// model touches most of the border, and 3 pixels are enough for a median.
pub(super) const BORDER_PX: usize = 3;

/// RGB distance, in 8-bit levels, that something must have from the background to be seen. Our
/// choice: well above a decoder's noise, well below the nearest two colours of the palette.
const MIN_CONTRAST: f64 = 40.0;

/// The contrast of the shape is this quantile of all pixels' contrasts. Our choice: a small shape
/// covers more than half a percent of the frame, a few stray pixels cover less.
const STRONGEST_QUANTILE: f64 = 0.995;

/// Pixels with more than this part of the strongest contrast give the shape its colour. Our choice:
/// it leaves soft edges out.
const INSIDE: f64 = 0.6;

/// Mask values below this count as background. Our choice: a faint texture of the background is
/// not part of the shape.
const MIN_MASK: f64 = 0.2;

/// What stands out from the background.
pub(super) struct Foreground {
    /// Median colour of what differs most from the background.
    pub(super) colour: Rgb,
    /// For each frame and pixel, how far it lies on the way from the background to the colour,
    /// from 0 to 1: `[frames][height * width]`.
    pub(super) masks: Vec<Vec<f64>>,
}

impl Foreground {
    /// What stands out from `background`; `None` if nothing does.
    pub(super) fn find(clip: &Clip, background: Rgb) -> Option<Self> {
        let pixels = || clip.frames_of_pixels().flatten();
        let contrast = |pixel: &[u8; 3]| distance(pixel.map(f64::from), background);
        let strongest = quantile(pixels().map(contrast).collect(), STRONGEST_QUANTILE)?;
        if strongest < MIN_CONTRAST {
            return None;
        }
        let inside = pixels().filter(|pixel| contrast(pixel) > INSIDE * strongest);
        let colour = median_colour(inside);
        let masks = clip.frames_of_pixels().map(|frame| mask(frame, background, colour)).collect();
        Some(Self { colour, masks })
    }
}

/// Median colour of the borders of all frames.
pub(super) fn border_colour(clip: &Clip) -> Rgb {
    let (width, height) = (clip.width_px(), clip.height_px());
    let on_border = |at: usize, length: usize| at < BORDER_PX || at + BORDER_PX >= length;
    median_colour(clip.frames_of_pixels().flat_map(|frame| {
        let numbered = frame.iter().enumerate();
        numbered
            .filter(|&(at, _)| on_border(at % width, width) || on_border(at / width, height))
            .map(|(_, pixel)| pixel)
    }))
}

fn mask(frame: &[[u8; 3]], background: Rgb, colour: Rgb) -> Vec<f64> {
    let towards = |rgb: Rgb| [0, 1, 2].map(|c| rgb[c] - background[c]);
    let dot = |a: Rgb, b: Rgb| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let axis = towards(colour);
    let length = dot(axis, axis);
    frame
        .iter()
        .map(|pixel| {
            let share = (dot(towards(pixel.map(f64::from)), axis) / length).clamp(0.0, 1.0);
            // Not a number where the medians of foreground and background are equal.
            if share >= MIN_MASK { share } else { 0.0 }
        })
        .collect()
}

/// The median of each channel; of an even count the mean of the middle two. 0 of no pixels.
fn median_colour<'a>(pixels: impl Iterator<Item = &'a [u8; 3]>) -> Rgb {
    let mut counts = [[0usize; 256]; 3];
    let mut total = 0;
    for pixel in pixels {
        for (channel, &level) in counts.iter_mut().zip(pixel) {
            channel[usize::from(level)] += 1;
        }
        total += 1;
    }
    let middle = |counts: [usize; 256]| {
        let lower = level_at_rank(&counts, usize::saturating_sub(total, 1) / 2);
        (lower + level_at_rank(&counts, total / 2)) / 2.0
    };
    counts.map(middle)
}

/// The value at place `rank`, from 0, of the sorted values that `counts` stands for.
fn level_at_rank(counts: &[usize; 256], rank: usize) -> f64 {
    let mut seen = 0;
    let reaches = |count: &usize| {
        seen += count;
        seen > rank
    };
    counts.iter().position(reaches).unwrap_or(0) as f64
}

/// The `share` quantile (0 to 1), with linear interpolation between the two nearest values.
fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    let place = values.len().checked_sub(1)? as f64 * share;
    let below = (place as usize).min(values.len() - 1);
    let (_, &mut lower, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let upper = above.iter().copied().min_by(f64::total_cmp).unwrap_or(lower);
    Some(lower + (upper - lower) * (place - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_count_is_the_mean_of_two() {
        let pixels = [[1, 9, 0], [2, 9, 255], [4, 9, 255], [200, 9, 0]];
        assert_eq!(median_colour(pixels.iter()), [3.0, 9.0, 127.5]);
        assert_eq!(median_colour(pixels[..3].iter()), [2.0, 9.0, 255.0]);
        assert_eq!(median_colour([].iter()), [0.0; 3]);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = vec![4.0, 1.0, 3.0, 2.0];
        for (share, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            let value = quantile(values.clone(), share).unwrap();
            assert!((value - expected).abs() < 1e-12, "{share}: {value}");
        }
        assert_eq!(quantile(Vec::new(), 0.5), None);
    }

    #[test]
    fn the_border_is_three_pixels_wide() {
        let (width, height) = (12, 10);
        let mut frame = [10; 3].repeat(width * height);
        for y in 3..height - 3 {
            frame[(y * width + 3) * 3..(y * width + width - 3) * 3].fill(200);
        }
        let clip = Clip::new(width, height, vec![frame]).unwrap();
        assert_eq!(border_colour(&clip), [10.0; 3]);
        let found = Foreground::find(&clip, [10.0; 3]).unwrap();
        assert_eq!(found.colour, [200.0; 3]);
        assert_eq!(found.masks[0].iter().sum::<f64>(), 24.0);
    }

    #[test]
    fn a_mask_rises_from_background_to_colour_and_drops_faint_values() {
        let frame = [[0; 3], [19; 3], [20; 3], [50; 3], [100; 3], [255; 3]];
        assert_eq!(mask(&frame, [0.0; 3], [100.0; 3]), [0.0, 0.0, 0.2, 0.5, 1.0, 1.0]);
        assert_eq!(mask(&frame, [7.0; 3], [7.0; 3]), [0.0; 6], "no direction");
    }

    #[test]
    fn nothing_stands_out_of_a_weak_contrast() {
        let frames = |level: u8| {
            let mut frame = [100; 3].repeat(400);
            frame[..600].fill(level);
            Clip::new(20, 20, vec![frame]).unwrap()
        };
        assert!(Foreground::find(&frames(123), [100.0; 3]).is_none(), "23 * sqrt(3) is below 40");
        assert!(Foreground::find(&frames(124), [100.0; 3]).is_some());
    }
}
