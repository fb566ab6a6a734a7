//! How alike two clips are, pixel by pixel.

use super::{MetricError, PEAK, common_size};
use crate::eval::Clip;

/// The PSNR of identical clips, and the most that is ever given: without a cap it would be
/// infinite, which no mean and no JSON can hold. Our choice: only clips that differ
/// in a few bytes come near it.
pub const IDENTICAL_DB: f64 = 100.0;

/// Sides of the window of SSIM, and the standard deviation of its Gaussian weights.
///
/// # Source
/// Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to structural
/// similarity", IEEE Transactions on Image Processing 13(4), 2004, section III-C; so are `K1` and
/// `K2`.
const WINDOW_PX: usize = 11;
const WINDOW_SIGMA_PX: f64 = 1.5;

/// They keep the quotients of SSIM stable where means and variances are near 0.
const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// Peak signal-to-noise ratio in decibels, of the squared error over all frames, pixels and
/// channels together, with the 8-bit peak of 255; at most [`IDENTICAL_DB`].
///
/// # Errors
/// [`MetricError`] if the clips differ in size or have no pixels.
pub fn psnr_db(a: &Clip, b: &Clip) -> Result<f64, MetricError> {
    common_size(a, b, 1)?;
    let levels = || a.frames().iter().flatten().zip(b.frames().iter().flatten());
    let squares: u64 = levels().map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    if squares == 0 {
        return Ok(IDENTICAL_DB);
    }
    let mean_square = squares as f64 / levels().count() as f64;
    Ok((10.0 * (PEAK * PEAK / mean_square).log10()).min(IDENTICAL_DB))
}

/// Structural similarity of the luma, mean over pixels and frames; 1 for identical clips.
///
/// Only windows that lie inside the frame count, as in the paper's own program.
///
/// # Errors
/// [`MetricError`] if the clips differ in size, have no frames, or frames smaller than the window
/// of 11x11 pixels.
///
/// # Source
/// Wang, Bovik, Sheikh, Simoncelli 2004, equation 13, with the parameters of section III-C.
pub fn ssim(a: &Clip, b: &Clip) -> Result<f64, MetricError> {
    let size = common_size(a, b, WINDOW_PX)?;
    let weights = window_weights();
    let frames = a.luma_planes().zip(b.luma_planes());
    let sum: f64 = frames.map(|(a, b)| frame_ssim(&a, &b, size.width_px, &weights)).sum();
    Ok(sum / size.num_frames as f64)
}

fn frame_ssim(a: &[f32], b: &[f32], width_px: usize, weights: &[f64; WINDOW_PX]) -> f64 {
    let local_mean = |value: fn(f64, f64) -> f64| {
        let values = a.iter().zip(b).map(|(&a, &b)| value(f64::from(a), f64::from(b)));
        weighted(&values.collect::<Vec<_>>(), width_px, weights)
    };
    let (mean_a, mean_b) = (local_mean(|a, _| a), local_mean(|_, b| b));
    let (square_a, square_b) = (local_mean(|a, _| a * a), local_mean(|_, b| b * b));
    let product = local_mean(|a, b| a * b);

    let (c1, c2) = ((K1 * PEAK).powi(2), (K2 * PEAK).powi(2));
    let similarity = |at: usize| {
        let (a, b) = (mean_a[at], mean_b[at]);
        let variances = (square_a[at] - a * a) + (square_b[at] - b * b);
        let covariance = product[at] - a * b;
        (2.0 * a * b + c1) * (2.0 * covariance + c2) / ((a * a + b * b + c1) * (variances + c2))
    };
    (0..mean_a.len()).map(similarity).sum::<f64>() / mean_a.len() as f64
}

/// Weighted means over all windows inside a plane of rows of `width_px`:
/// `[height - 10][width - 10]`.
fn weighted(plane: &[f64], width_px: usize, weights: &[f64; WINDOW_PX]) -> Vec<f64> {
    let dot = |values: &[f64]| values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
    let across: Vec<f64> =
        plane.chunks_exact(width_px).flat_map(|row| row.windows(WINDOW_PX).map(dot)).collect();
    let columns = width_px - WINDOW_PX + 1;
    let down = |at: usize| {
        let below = across[at..].iter().step_by(columns);
        below.zip(weights).map(|(value, weight)| value * weight).sum()
    };
    (0..across.len() - (WINDOW_PX - 1) * columns).map(down).collect()
}

/// The Gaussian along one side of the window; the weights add up to 1.
fn window_weights() -> [f64; WINDOW_PX] {
    let weights = std::array::from_fn(|at| {
        let from_middle = at as f64 - (WINDOW_PX / 2) as f64;
        (-from_middle * from_middle / (2.0 * WINDOW_SIGMA_PX * WINDOW_SIGMA_PX)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One frame of which each pixel is grey.
    fn grey(width_px: usize, levels: impl Iterator<Item = u8>) -> Clip {
        let frame: Vec<u8> = levels.flat_map(|level| [level; 3]).collect();
        Clip::new(width_px, frame.len() / 3 / width_px, vec![frame]).unwrap()
    }

    fn checks(low: u8, high: u8) -> Clip {
        let level = |at: usize| if (at % 16 + at / 16).is_multiple_of(2) { low } else { high };
        grey(16, (0..16 * 16).map(level))
    }

    #[test]
    fn identical_clips_are_as_alike_as_can_be() {
        let clip = checks(30, 200);
        assert_eq!(psnr_db(&clip, &clip), Ok(IDENTICAL_DB));
        assert!((ssim(&clip, &clip).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn psnr_is_that_of_the_mean_square() {
        let error_of_5 = psnr_db(&checks(100, 150), &checks(105, 145)).unwrap();
        assert!((error_of_5 - 34.1514).abs() < 1e-4, "{error_of_5}");
        let worst = psnr_db(&checks(0, 255), &checks(255, 0)).unwrap();
        assert!(worst.abs() < 1e-12, "{worst}");
    }

    #[test]
    fn psnr_is_over_all_frames_together() {
        let clip =
            |levels: [u8; 2]| Clip::new(1, 1, levels.map(|level| vec![level; 3]).to_vec()).unwrap();
        let value = psnr_db(&clip([0, 0]), &clip([0, 10])).unwrap();
        assert!((value - 10.0 * (PEAK * PEAK / 50.0).log10()).abs() < 1e-12);
    }

    #[test]
    fn psnr_stays_below_its_cap() {
        let mut levels = vec![7u8; 600 * 600];
        let flat = grey(600, levels.iter().copied());
        levels[0] = 8;
        assert_eq!(psnr_db(&flat, &grey(600, levels.into_iter())), Ok(IDENTICAL_DB));
    }

    #[test]
    fn ssim_of_flat_clips_compares_brightness_alone() {
        let flat = |level: u8| grey(12, std::iter::repeat_n(level, 12 * 13));
        let c1 = (K1 * PEAK).powi(2);
        let expected = (2.0 * 100.0 * 150.0 + c1) / (100.0f64.powi(2) + 150.0f64.powi(2) + c1);
        let value = ssim(&flat(100), &flat(150)).unwrap();
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }

    #[test]
    fn ssim_of_opposite_patterns_is_negative() {
        let value = ssim(&checks(60, 190), &checks(190, 60)).unwrap();
        assert!(value < -0.9, "{value}");
    }

    #[test]
    fn ssim_needs_a_whole_window() {
        let small = grey(10, std::iter::repeat_n(9, 10 * 20));
        assert!(matches!(ssim(&small, &small), Err(MetricError::TooSmall { least_px: 11, .. })));
        let enough = grey(11, std::iter::repeat_n(9, 11 * 11));
        assert!(ssim(&enough, &enough).is_ok());
    }
}
