//! How sharp a clip is.

use crate::eval::Clip;

/// Sides of the window of the Laplacian.
const WINDOW_PX: usize = 3;

/// Variance of the Laplacian of the luma, mean over frames, in squared 8-bit levels; `None` for a
/// clip without frames, or with frames smaller than 3x3 pixels.
///
/// The Laplacian of a pixel is the sum of its four neighbours less four times itself; pixels at the
/// edge of the frame have none. Blur lowers the value and noise raises it, and it depends on what is
/// shown, so it compares clips of one scene only.
///
/// # Source
/// Pech-Pacheco, Cristobal, Chamorro-Martinez, Fernandez-Valdivia: "Diatom autofocusing in
/// brightfield microscopy: a comparative study", ICPR 2000.
pub fn high_frequency_energy(clip: &Clip) -> Option<f64> {
    let num_frames = clip.frames().len();
    if num_frames == 0 || clip.width_px().min(clip.height_px()) < WINDOW_PX {
        return None;
    }
    let sum: f64 =
        clip.luma_planes().map(|plane| variance(&laplacian(&plane, clip.width_px()))).sum();
    Some(sum / num_frames as f64)
}

/// The Laplacian of a plane of rows of `width_px`: `[height - 2][width - 2]`.
fn laplacian(plane: &[f32], width_px: usize) -> Vec<f64> {
    let rows: Vec<&[f32]> = plane.chunks_exact(width_px).collect();
    let at = |window: &[&[f32]], column: usize| {
        let level = |row: usize, column: usize| f64::from(window[row][column]);
        let neighbours =
            level(0, column) + level(2, column) + level(1, column - 1) + level(1, column + 1);
        neighbours - 4.0 * level(1, column)
    };
    rows.windows(WINDOW_PX)
        .flat_map(|window| (1..width_px - 1).map(move |column| at(window, column)))
        .collect()
}

fn variance(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grey frames, each `height` rows of `width` levels.
    fn grey(width_px: usize, frames: &[&[u8]]) -> Clip {
        let height_px = frames[0].len() / width_px;
        let rgb = |levels: &&[u8]| levels.iter().flat_map(|&level| [level; 3]).collect();
        Clip::new(width_px, height_px, frames.iter().map(rgb).collect()).unwrap()
    }

    #[test]
    fn flat_and_evenly_rising_frames_have_no_energy() {
        let rising: Vec<u8> = (0..30).map(|at| (at % 6) * 20 + (at / 6) * 7).collect();
        let energy = high_frequency_energy(&grey(6, &[&[77; 30], &rising])).unwrap();
        assert!(energy.abs() < 1e-6, "{energy}");
    }

    #[test]
    fn a_lone_pixel_has_the_energy_of_the_kernel() {
        let mut frame = [0; 25];
        frame[12] = 100;
        // Inside the edge are one value of -400, four of 100 and four of 0.
        let expected = (400.0f64.powi(2) + 4.0 * 100.0f64.powi(2)) / 9.0;
        let energy = high_frequency_energy(&grey(5, &[&frame])).unwrap();
        assert!((energy - expected).abs() < 1e-2, "{energy} is not {expected}");
        let halved = high_frequency_energy(&grey(5, &[&frame, &[0; 25]])).unwrap();
        assert!((halved - expected / 2.0).abs() < 1e-2, "the mean over frames, {halved}");
    }

    #[test]
    fn blur_lowers_the_energy() {
        let edge = |ramp: [u8; 4]| {
            let row = [&[0, 0], &ramp[..], &[200, 200]].concat();
            let rows = row.repeat(8);
            high_frequency_energy(&grey(8, &[&rows])).unwrap()
        };
        let (sharp, soft) = (edge([0, 0, 200, 200]), edge([40, 80, 120, 160]));
        assert!(soft < sharp / 10.0, "{soft} against {sharp}");
    }

    #[test]
    fn tiny_and_empty_clips_have_no_value() {
        assert_eq!(high_frequency_energy(&grey(2, &[&[9; 20]])), None);
        assert_eq!(high_frequency_energy(&grey(9, &[&[9; 18]])), None);
        assert_eq!(high_frequency_energy(&Clip::new(64, 64, Vec::new()).unwrap()), None);
        assert_eq!(high_frequency_energy(&grey(3, &[&[9; 9]])), Some(0.0));
    }
}
