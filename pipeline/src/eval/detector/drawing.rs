//! Draws clips of the demo model's world for tests: one anti-aliased shape on a flat background.

use super::{Background, Colour, Detection, Motion, Shape, Size};
use crate::eval::Clip;

/// Frames of a clip of the demo model.
pub(super) const NUM_FRAMES: usize = 17;

const SIDE_PX: usize = 64;
const MIDDLE_PX: f64 = SIDE_PX as f64 / 2.0;

/// Space that a moving shape leaves at both ends of its way.
const MARGIN_PX: f64 = 3.0;

/// Both clips in one: the pixels of `upper` where they are not its background, those of `lower`
/// elsewhere.
pub(super) fn overlaid(lower: &Clip, upper: &Clip) -> Clip {
    let merged = |(lower, upper): (&Vec<u8>, &Vec<u8>)| {
        let corner = upper[..3].to_vec();
        let pixels = lower.chunks(3).zip(upper.chunks(3));
        pixels
            .flat_map(|(below, above)| if above == corner { below } else { above })
            .copied()
            .collect()
    };
    let frames = lower.frames().iter().zip(upper.frames()).map(merged).collect();
    Clip::new(SIDE_PX, SIDE_PX, frames).unwrap()
}

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawing {
    pub(super) colour: Colour,
    pub(super) background: Background,
    pub(super) shape: Shape,
    pub(super) size: Size,
    pub(super) motion: Motion,
}

impl Default for Drawing {
    fn default() -> Self {
        Self {
            colour: Colour::Red,
            background: Background::Gray,
            shape: Shape::Circle,
            size: Size::Small,
            motion: Motion::Right,
        }
    }
}

impl Drawing {
    /// What a perfect detector answers.
    pub(super) fn truth(&self) -> Detection {
        Detection {
            colour: Some(self.colour),
            background: Some(self.background),
            shape: Some(self.shape),
            size: Some(self.size),
            motion: Some(self.motion),
        }
    }

    /// The clip.
    pub(super) fn clip(&self) -> Clip {
        self.shifted(0.0)
    }

    /// The clip with its shape moved to the right.
    pub(super) fn shifted(&self, right_px: f64) -> Clip {
        let frames = (0..NUM_FRAMES)
            .map(|frame| self.frame(frame as f64 / (NUM_FRAMES - 1) as f64, right_px))
            .collect();
        Clip::new(SIDE_PX, SIDE_PX, frames).unwrap()
    }

    fn frame(&self, progress: f64, right_px: f64) -> Vec<u8> {
        let (x, y, radius) = self.place(progress);
        let mut frame = Vec::new();
        for index in 0..SIDE_PX * SIDE_PX {
            let dx = (index % SIDE_PX) as f64 + 0.5 - x - right_px;
            let dy = (index / SIDE_PX) as f64 + 0.5 - y;
            let coverage = (0.5 - self.distance(dx, dy, radius)).clamp(0.0, 1.0);
            for (colour, background) in self.colour.rgb().into_iter().zip(self.background.rgb()) {
                let (colour, background) = (f64::from(colour), f64::from(background));
                frame.push((background + coverage * (colour - background)).round() as u8);
            }
        }
        frame
    }

    /// Centre and radius.
    fn place(&self, progress: f64) -> (f64, f64, f64) {
        let radius = match self.size {
            Size::Small => 8.5,
            Size::Large => 14.0,
        };
        let near = radius + MARGIN_PX;
        let forth = near + (SIDE_PX as f64 - 2.0 * near) * progress;
        let back = SIDE_PX as f64 - forth;
        match self.motion {
            Motion::Right => (forth, MIDDLE_PX, radius),
            Motion::Left => (back, MIDDLE_PX, radius),
            Motion::Down => (MIDDLE_PX, forth, radius),
            Motion::Up => (MIDDLE_PX, back, radius),
            Motion::Grow => (MIDDLE_PX, MIDDLE_PX, radius * (0.5 + progress)),
            Motion::Shrink => (MIDDLE_PX, MIDDLE_PX, radius * (1.5 - progress)),
            Motion::Still => (MIDDLE_PX, MIDDLE_PX, radius),
        }
    }

    /// Signed distance to the outline of a shape with its centre at the origin.
    fn distance(&self, dx: f64, dy: f64, radius: f64) -> f64 {
        match self.shape {
            Shape::Circle => dx.hypot(dy) - radius,
            Shape::Square => dx.abs().max(dy.abs()) - 0.9 * radius,
            Shape::Triangle => {
                let side = (1.8 * dx.abs() - dy - radius) / f64::hypot(1.8, 1.0);
                side.max(dy - 0.8 * radius)
            }
        }
    }
}
