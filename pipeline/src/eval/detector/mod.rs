//! Names what a clip of the demo model shows, from its pixels alone.
//!
//! The demo model draws one flat shape on a flat background. The detector knows its palette and its
//! shapes, and nothing of the prompt, the model or the renderer. It decides as the Python detector
//! of the model's training code does, which made the figures of the model's documentation.
//!
//! Distances in pixels hold for the 64x64 clips of the demo model and are not scaled. Clips of
//! other sizes are judged all the same, but sizes and motions then mean little.

mod attributes;
#[cfg(test)]
mod drawing;
mod foreground;
mod motion;
mod palette;
mod shape;

use serde::{Deserialize, Serialize};

use super::Clip;
use foreground::{BORDER_PX, Foreground};

pub use attributes::{Agreement, Attributes};
pub use motion::Motion;
pub use palette::{Background, Colour};
pub use shape::{Shape, Size};

/// A frame whose mask adds up to less than this shows nothing. Our choice: a quarter of the
/// smallest triangle of the demo model.
const MIN_AREA_PX: f64 = 8.0;

/// Part of the frames that must show something. Our choice: one bad frame of the 17 is forgiven.
const MIN_VISIBLE: f64 = 0.9;

/// What a clip shows; `None` is what cannot be named with confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// Colour of the shape.
    pub colour: Option<Colour>,
    /// Colour behind the shape.
    pub background: Option<Background>,
    /// The shape.
    pub shape: Option<Shape>,
    /// How large the shape is on average; `None` without a shape.
    pub size: Option<Size>,
    /// What the shape does.
    pub motion: Option<Motion>,
}

/// Where the shape is in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Blob {
    /// Sum of the soft mask.
    area_px: f64,
    /// Centroid, from the frame's left edge.
    x_px: f64,
    /// Centroid, from the frame's upper edge.
    y_px: f64,
}

impl Blob {
    fn of(mask: &[f64], width_px: usize) -> Self {
        let (mut area, mut x, mut y) = (0.0, 0.0, 0.0);
        for (index, weight) in mask.iter().enumerate() {
            area += weight;
            x += weight * ((index % width_px) as f64 + 0.5);
            y += weight * ((index / width_px) as f64 + 0.5);
        }
        // An empty mask has its centroid at 0, and nobody asks for it.
        let divisor = f64::max(area, 1e-6);
        Self { area_px: area, x_px: x / divisor, y_px: y / divisor }
    }
}

/// Names colour, background, shape, size and motion of a clip.
///
/// Nothing is named in a clip of fewer than two frames, or whose frames are all border (6 pixels or
/// fewer in width or height).
pub fn detect(clip: &Clip) -> Detection {
    let shortest_side = clip.width_px().min(clip.height_px());
    if clip.frames().len() < 2 || shortest_side <= 2 * BORDER_PX {
        return Detection::default();
    }
    let behind = foreground::border_colour(clip);
    let background = palette::nearest_background(behind);
    let mut seen = Detection { background, ..Detection::default() };
    let Some(Foreground { colour, masks }) = Foreground::find(clip, behind) else {
        return seen;
    };
    seen.colour = palette::nearest_colour(colour, background);

    let visible: Vec<(&[f64], Blob)> = masks
        .iter()
        .map(|mask| (mask.as_slice(), Blob::of(mask, clip.width_px())))
        .filter(|(_, blob)| blob.area_px >= MIN_AREA_PX)
        .collect();
    if (visible.len() as f64 / masks.len() as f64) < MIN_VISIBLE {
        return seen;
    }
    let blobs: Vec<Blob> = visible.iter().map(|(_, blob)| *blob).collect();
    seen.shape = shape::name_shape(&visible, clip.width_px());
    seen.size = seen.shape.map(|shape| shape::name_size(shape, &blobs));
    seen.motion = motion::name_motion(&blobs);
    seen
}

/// The mean, or 0 of no values.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::drawing::{Drawing, NUM_FRAMES};
    use super::*;

    const SIZES: [Size; 2] = [Size::Small, Size::Large];

    fn shown(drawing: Drawing) -> Detection {
        detect(&drawing.clip())
    }

    #[test]
    fn every_colour_is_named_on_every_background() {
        for colour in Colour::ALL {
            for background in Background::ALL {
                if colour.rgb() == background.rgb() {
                    continue;
                }
                let drawing = Drawing { colour, background, ..Drawing::default() };
                assert_eq!(shown(drawing), drawing.truth(), "{drawing:?}");
            }
        }
    }

    #[test]
    fn every_shape_size_and_motion_is_named() {
        for shape in Shape::ALL {
            for size in SIZES {
                for motion in Motion::ALL {
                    let drawing = Drawing { shape, size, motion, ..Drawing::default() };
                    assert_eq!(shown(drawing), drawing.truth(), "{drawing:?}");
                }
            }
        }
    }

    #[test]
    fn a_blank_clip_has_a_background_alone() {
        let blank = Clip::new(64, 64, vec![[128; 3].repeat(64 * 64); NUM_FRAMES]).unwrap();
        let background = Some(Background::Gray);
        assert_eq!(detect(&blank), Detection { background, ..Detection::default() });
    }

    #[test]
    fn two_things_at_once_are_no_shape() {
        let left = Drawing { motion: Motion::Up, ..Drawing::default() };
        let right = Drawing { motion: Motion::Down, ..left };
        let both = drawing::overlaid(&left.shifted(-18.0), &right.shifted(18.0));
        let seen = detect(&both);
        assert_eq!((seen.shape, seen.size, seen.motion), (None, None, Some(Motion::Still)));
        assert_eq!(seen.colour, Some(left.colour));
    }

    #[test]
    fn a_shape_that_vanishes_is_not_named() {
        let drawing = Drawing::default();
        let mut frames = drawing.clip().frames().to_vec();
        let empty = drawing.background.rgb().repeat(64 * 64);
        frames[16].clone_from(&empty);
        let once = Clip::new(64, 64, frames.clone()).unwrap();
        assert_eq!(detect(&once), drawing.truth(), "one empty frame is forgiven");
        frames[15] = empty;
        let twice = Clip::new(64, 64, frames).unwrap();
        let seen = detect(&twice);
        assert_eq!((seen.shape, seen.size, seen.motion), (None, None, None));
        assert_eq!(seen.colour, Some(drawing.colour));
    }

    #[test]
    fn odd_clips_show_nothing_and_do_no_harm() {
        let frame = |width: usize, height: usize| vec![200; width * height * 3];
        for (width, height, count) in
            [(0, 0, 0), (0, 9, 3), (9, 0, 3), (1, 1, 5), (6, 64, 5), (64, 64, 0), (64, 64, 1)]
        {
            let clip = Clip::new(width, height, vec![frame(width, height); count]).unwrap();
            assert_eq!(detect(&clip), Detection::default(), "{width}x{height}, {count} frames");
        }
        for (width, height) in [(7, 7), (7, 64), (65, 8)] {
            let noise: Vec<Vec<u8>> = (0..3u8)
                .map(|seed| {
                    let levels = frame(width, height).into_iter().enumerate();
                    levels
                        .map(|(at, _)| (at as u8).wrapping_mul(89).rotate_left(seed.into()))
                        .collect()
                })
                .collect();
            detect(&Clip::new(width, height, noise).unwrap());
        }
    }
}
