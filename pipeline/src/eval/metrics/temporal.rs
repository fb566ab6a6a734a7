//! How steady a clip is from frame to frame.

use super::PEAK;
use crate::eval::Clip;

/// The temporal flickering score of VBench: 1 for a clip whose frames are all alike, 0 for one that
/// changes from black to white and back; `None` for fewer than two frames or no pixels.
///
/// Motion lowers it as flicker does, and a frozen clip has the best score of all. It compares
/// clips of like motion, so read it together with [`mean_frame_difference`]; VBench itself asks for
/// static scenes.
///
/// # Source
/// Huang et al.: "VBench: Comprehensive Benchmark Suite for Video Generative Models", 2024,
/// dimension "temporal flickering": 255 less the mean absolute difference of consecutive frames,
/// over 255.
pub fn temporal_flickering(clip: &Clip) -> Option<f64> {
    mean_frame_difference(clip).map(|difference| (PEAK - difference) / PEAK)
}

/// Mean absolute difference of consecutive frames over all pixels and channels, in 8-bit levels (0
/// to 255); `None` for fewer than two frames or no pixels.
///
/// It tells a clip that moves from one that stands still, which the flickering score alone rewards.
pub fn mean_frame_difference(clip: &Clip) -> Option<f64> {
    let frames = clip.frames();
    let compared = frames.iter().skip(1).map(Vec::len).sum::<usize>();
    let levels = frames.iter().zip(frames.iter().skip(1)).flat_map(|(a, b)| a.iter().zip(b));
    let sum: u64 = levels.map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    (compared > 0).then(|| sum as f64 / compared as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 2x1 pixels.
    fn clip(frames: &[[u8; 6]]) -> Clip {
        Clip::new(2, 1, frames.iter().map(|frame| frame.to_vec()).collect()).unwrap()
    }

    #[test]
    fn a_frozen_clip_has_the_best_score_and_no_motion() {
        let frozen = clip(&[[9, 8, 7, 200, 100, 0]; 4]);
        assert_eq!(temporal_flickering(&frozen), Some(1.0));
        assert_eq!(mean_frame_difference(&frozen), Some(0.0));
    }

    #[test]
    fn black_and_white_in_turn_is_the_worst() {
        let blinking = clip(&[[0; 6], [255; 6], [0; 6]]);
        assert_eq!(temporal_flickering(&blinking), Some(0.0));
        assert_eq!(mean_frame_difference(&blinking), Some(255.0));
    }

    #[test]
    fn differences_are_absolute_and_averaged_over_everything() {
        let changing = clip(&[[10; 6], [10, 10, 10, 10, 10, 40], [10, 10, 4, 10, 10, 40]]);
        assert_eq!(mean_frame_difference(&changing), Some(3.0), "(30 + 6) / (2 pairs * 6 values)");
        let score = temporal_flickering(&changing).unwrap();
        assert!((score - 252.0 / 255.0).abs() < 1e-12, "{score}");
    }

    #[test]
    fn only_consecutive_frames_are_compared() {
        let there_and_back = clip(&[[0; 6], [20; 6], [0; 6], [20; 6]]);
        let once = clip(&[[0; 6], [20; 6]]);
        assert_eq!(mean_frame_difference(&there_and_back), mean_frame_difference(&once));
    }

    #[test]
    fn nothing_to_compare_has_no_score() {
        let pixelless = Clip::new(0, 4, vec![Vec::new(); 3]).unwrap();
        for clip in [clip(&[]), clip(&[[5; 6]]), pixelless] {
            assert_eq!(temporal_flickering(&clip), None);
            assert_eq!(mean_frame_difference(&clip), None);
        }
    }
}
