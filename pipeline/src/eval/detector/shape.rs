//! Which shape a mask is, and how large.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{Blob, mean};

/// Mean overlap (intersection over union) with the ideal shape below which no shape is named. Our
/// choice: even a circle and a square of equal area overlap by 0.83, so blurred shapes pass, and
/// what has no shape or is two things does not.
const MIN_OVERLAP: f64 = 0.75;

/// Mean radius that divides small from large. The demo model was taught radii of 8.5 and 14.
const SMALL_BELOW_PX: f64 = 11.5;

/// Half the side of a square, in radii, so that all shapes look equally large.
const SQUARE_HALF_SIDE: f64 = 0.9;
/// The base of a triangle lies this many radii below its centre; the apex lies one above.
const TRIANGLE_BASE: f64 = 0.8;
/// Height of a triangle over half its base, which is one radius.
const TRIANGLE_SLOPE: f64 = 1.0 + TRIANGLE_BASE;
/// A triangle's centroid lies two thirds down from the apex: this many radii below its centre.
const TRIANGLE_CENTROID: f64 = TRIANGLE_SLOPE * 2.0 / 3.0 - 1.0;

/// A shape of the demo model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A filled circle.
    Circle,
    /// An upright square.
    Square,
    /// A triangle with its apex above, as high as 0.9 of its base.
    Triangle,
}

/// How large a shape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// A mean radius below 11.5 pixels.
    Small,
    /// A mean radius of 11.5 pixels or more.
    Large,
}

impl Shape {
    /// All shapes; of two that fit equally well, the first one is named.
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Triangle];

    /// Radius of a shape of this area.
    fn radius_px(self, area_px: f64) -> f64 {
        let area_over_squared_radius = match self {
            Self::Circle => PI,
            Self::Square => (2.0 * SQUARE_HALF_SIDE).powi(2),
            Self::Triangle => TRIANGLE_SLOPE,
        };
        (area_px / area_over_squared_radius).sqrt()
    }

    /// Distance in pixels from the outline of a shape with its centroid at the origin to a point;
    /// negative inside.
    fn outside_px(self, dx: f64, dy: f64, radius_px: f64) -> f64 {
        match self {
            Self::Circle => dx.hypot(dy) - radius_px,
            Self::Square => dx.abs().max(dy.abs()) - SQUARE_HALF_SIDE * radius_px,
            Self::Triangle => {
                let below_centre = dy + TRIANGLE_CENTROID * radius_px;
                let side = (TRIANGLE_SLOPE * dx.abs() - below_centre - radius_px)
                    / TRIANGLE_SLOPE.hypot(1.0);
                side.max(below_centre - TRIANGLE_BASE * radius_px)
            }
        }
    }

    /// Intersection over union of a soft mask and the ideal shape with its area and centroid.
    fn overlap(self, mask: &[f64], blob: Blob, width_px: usize) -> f64 {
        let radius = self.radius_px(blob.area_px);
        let (mut shared, mut covered) = (0.0, 0.0);
        for (index, &value) in mask.iter().enumerate() {
            let dx = (index % width_px) as f64 + 0.5 - blob.x_px;
            let dy = (index / width_px) as f64 + 0.5 - blob.y_px;
            let ideal = (0.5 - self.outside_px(dx, dy, radius)).clamp(0.0, 1.0);
            shared += value.min(ideal);
            covered += value.max(ideal);
        }
        shared / covered
    }
}

/// The shape that overlaps best with the masks, if one overlaps well. The blobs are not empty.
pub(super) fn name_shape(visible: &[(&[f64], Blob)], width_px: usize) -> Option<Shape> {
    let overlap = |shape: Shape| {
        mean(visible.iter().map(|&(mask, blob)| shape.overlap(mask, blob, width_px)))
    };
    let scored = Shape::ALL.into_iter().map(|shape| (shape, overlap(shape)));
    let (best, overlap) = scored.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    (overlap >= MIN_OVERLAP).then_some(best)
}

/// The size of a shape, from its mean radius.
pub(super) fn name_size(shape: Shape, blobs: &[Blob]) -> Size {
    let radius = mean(blobs.iter().map(|blob| shape.radius_px(blob.area_px)));
    if radius < SMALL_BELOW_PX { Size::Small } else { Size::Large }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE_PX: usize = 64;

    fn ideal_mask(shape: Shape, radius: f64, x: f64, y: f64) -> Vec<f64> {
        let at = |index: usize| {
            let (dx, dy) = ((index % SIDE_PX) as f64 + 0.5 - x, (index / SIDE_PX) as f64 + 0.5 - y);
            (0.5 - shape.outside_px(dx, dy, radius)).clamp(0.0, 1.0)
        };
        (0..SIDE_PX * SIDE_PX).map(at).collect()
    }

    #[test]
    fn area_radius_and_centroid_of_a_shape_agree() {
        for shape in Shape::ALL {
            let blob = Blob::of(&ideal_mask(shape, 12.0, 30.3, 33.8), SIDE_PX);
            assert!((shape.radius_px(blob.area_px) - 12.0).abs() < 0.1, "{shape:?}: {blob:?}");
            assert!((blob.x_px - 30.3).abs() < 0.1, "{shape:?}: {blob:?}");
            assert!((blob.y_px - 33.8).abs() < 0.1, "{shape:?}: {blob:?}");
        }
    }

    #[test]
    fn an_ideal_mask_overlaps_best_with_its_own_shape() {
        for shape in Shape::ALL {
            let mask = ideal_mask(shape, 10.0, 25.0, 40.0);
            let blob = Blob::of(&mask, SIDE_PX);
            assert!(shape.overlap(&mask, blob, SIDE_PX) > 0.97, "{shape:?}");
            assert_eq!(name_shape(&[(&mask, blob)], SIDE_PX), Some(shape));
        }
        let (circle, square) = (Shape::Circle, Shape::Square);
        let mask = ideal_mask(circle, 14.0, 32.0, 32.0);
        let other = square.overlap(&mask, Blob::of(&mask, SIDE_PX), SIDE_PX);
        assert!((other - 0.83).abs() < 0.01, "{other}");
    }

    #[test]
    fn a_bar_is_no_shape() {
        let bar: Vec<f64> = (0..SIDE_PX * SIDE_PX)
            .map(|index| f64::from(u8::from((30..34).contains(&(index / SIDE_PX)))))
            .collect();
        let blob = Blob::of(&bar, SIDE_PX);
        assert_eq!(name_shape(&[(&bar, blob)], SIDE_PX), None);
    }

    #[test]
    fn sizes_divide_at_a_radius() {
        let blob = |radius: f64| Blob { area_px: PI * radius * radius, x_px: 32.0, y_px: 32.0 };
        let sizes = [11.4, 11.6].map(|radius| name_size(Shape::Circle, &[blob(radius)]));
        assert_eq!(sizes, [Size::Small, Size::Large]);
        assert_eq!(name_size(Shape::Circle, &[blob(8.0), blob(14.0)]), Size::Small, "the mean");
    }
}
