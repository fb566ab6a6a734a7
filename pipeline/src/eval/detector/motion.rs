//! What a shape does over a clip.

use serde::{Deserialize, Serialize};

use super::{Blob, mean};

/// Total travel of a shape that moves. Our choice: about half of the shortest way that the demo
/// model was taught, 30 pixels for a large shape.
const MIN_TRAVEL_PX: f64 = 16.0;

/// Total travel of a shape that stays in place. Our choice: well below the travel of one that
/// moves, with room for a decoder's wobble.
const MAX_DRIFT_PX: f64 = 7.0;

/// Last over first area of a shape that grows. Our choice: the demo model was taught a ratio of 9
/// between the first and the last frame, and uneven edges come nowhere near 2.
const MIN_AREA_RATIO: f64 = 2.0;

/// So many frames at each end give the first and the last area. Our choice: one frame is noisy.
const END_FRAMES: usize = 3;

/// A motion of the demo model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Motion {
    /// From left to right.
    Right,
    /// From right to left.
    Left,
    /// From below to above.
    Up,
    /// From above to below.
    Down,
    /// In place, getting larger.
    Grow,
    /// In place, getting smaller.
    Shrink,
    /// In place, of one size.
    Still,
}

impl Motion {
    /// All motions.
    pub const ALL: [Self; 7] =
        [Self::Right, Self::Left, Self::Up, Self::Down, Self::Grow, Self::Shrink, Self::Still];
}

/// The motion, from straight lines fitted to the centre and from the areas at both ends.
pub(super) fn name_motion(blobs: &[Blob]) -> Option<Motion> {
    let last = blobs.len().checked_sub(1)?;
    let x = slope(blobs.iter().map(|blob| blob.x_px)) * last as f64;
    let y = slope(blobs.iter().map(|blob| blob.y_px)) * last as f64;
    let (far, near) = (x.abs().max(y.abs()), x.abs().min(y.abs()));

    let ends = END_FRAMES.min(blobs.len());
    let area = |blobs: &[Blob]| mean(blobs.iter().map(|blob| blob.area_px));
    let ratio = area(&blobs[blobs.len() - ends..]) / area(&blobs[..ends]).max(1e-6);
    let resized = ratio.max(1.0 / ratio.max(1e-6)) >= MIN_AREA_RATIO;

    if far >= MIN_TRAVEL_PX && near < far / 2.0 && !resized {
        return Some(match (x.abs() > y.abs(), x > 0.0, y > 0.0) {
            (true, true, _) => Motion::Right,
            (true, false, _) => Motion::Left,
            (false, _, true) => Motion::Down,
            (false, _, false) => Motion::Up,
        });
    }
    (far <= MAX_DRIFT_PX).then_some(match (resized, ratio > 1.0) {
        (true, true) => Motion::Grow,
        (true, false) => Motion::Shrink,
        (false, _) => Motion::Still,
    })
}

/// Slope of the least-squares line through values at 0, 1, 2, ...; 0 of fewer than two.
fn slope(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let mean = mean(values.clone());
    let (mut along, mut square) = (0.0, 0.0);
    for (place, value) in values.enumerate() {
        let from_middle = place as f64 - middle;
        along += from_middle * (value - mean);
        square += from_middle * from_middle;
    }
    if square > 0.0 { along / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 17 frames along a straight line, with areas between two ends.
    fn line(travel: (f64, f64), areas: (f64, f64)) -> Vec<Blob> {
        let between = |progress: f64, (from, to): (f64, f64)| from + (to - from) * progress;
        (0..17)
            .map(|frame| f64::from(frame) / 16.0)
            .map(|progress| Blob {
                area_px: between(progress, areas),
                x_px: 32.0 + travel.0 * progress,
                y_px: 32.0 + travel.1 * progress,
            })
            .collect()
    }

    #[test]
    fn directions_are_those_of_the_screen() {
        let same = (100.0, 100.0);
        for (travel, motion) in [
            ((20.0, 0.0), Motion::Right),
            ((-20.0, 9.0), Motion::Left),
            ((0.0, 20.0), Motion::Down),
            ((-9.0, -20.0), Motion::Up),
            ((0.0, 0.0), Motion::Still),
            ((5.0, -6.0), Motion::Still),
        ] {
            assert_eq!(name_motion(&line(travel, same)), Some(motion), "{travel:?}");
        }
    }

    #[test]
    fn a_change_of_size_in_place_is_named() {
        assert_eq!(name_motion(&line((0.0, 3.0), (100.0, 400.0))), Some(Motion::Grow));
        assert_eq!(name_motion(&line((0.0, 3.0), (400.0, 100.0))), Some(Motion::Shrink));
        assert_eq!(name_motion(&line((0.0, 3.0), (100.0, 150.0))), Some(Motion::Still));
    }

    #[test]
    fn a_mixture_is_not_named() {
        assert_eq!(name_motion(&line((20.0, 18.0), (100.0, 100.0))), None, "diagonal");
        assert_eq!(name_motion(&line((12.0, 0.0), (100.0, 100.0))), None, "neither here nor there");
        assert_eq!(name_motion(&line((30.0, 0.0), (100.0, 400.0))), None, "moves and grows");
    }

    #[test]
    fn few_frames_do_no_harm() {
        assert_eq!(name_motion(&[]), None);
        let two = [line((20.0, 0.0), (50.0, 50.0))[0], line((20.0, 0.0), (50.0, 50.0))[16]];
        assert_eq!(name_motion(&two[..1]), Some(Motion::Still));
        assert_eq!(name_motion(&two), Some(Motion::Right));
    }

    #[test]
    fn slopes_are_least_squares() {
        let fitted = |values: &[f64]| slope(values.iter().copied());
        assert!((fitted(&[1.0, 3.0, 5.0, 7.0]) - 2.0).abs() < 1e-12);
        assert!((fitted(&[0.0, 0.0, 3.0]) - 1.5).abs() < 1e-12);
        assert_eq!(fitted(&[4.0]), 0.0);
    }
}
