//! What tells one series from another: a colour and a shape of its marks.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::draw::DrawingError;

/// Colours that people with any common colour blindness can tell apart.
///
/// # Source
/// Okabe and Ito, "Color Universal Design", 2008, without the yellow, which is too light on white; the order is ours.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// As many shapes as have no factor in common with the number of colours, so that series differ when one of the two
/// begins anew.
const SHAPES: [Shape; 5] = [
    Shape::Circle,
    Shape::Polygon(&[(-4, -4), (4, -4), (4, 4), (-4, 4)]),
    Shape::Polygon(&[(0, -6), (5, 4), (-5, 4)]),
    Shape::Polygon(&[(0, -6), (6, 0), (0, 6), (-6, 0)]),
    Shape::Polygon(&[(0, 6), (5, -4), (-5, -4)]),
];

/// Radius of a round mark; its area is about that of the others.
const RADIUS_PX: i32 = 4;

/// Our choice: thicker than the grid and the error bars, thinner than the marks.
const LINE_PX: u32 = 2;

/// Half the width of the ends of an error bar, in pixels. Our choice: no wider than a mark.
const CAP_PX: i32 = 4;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Circle,
    /// Corners in pixels from the point.
    Polygon(&'static [(i32, i32)]),
}

/// Draws one series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    colour: RGBColor,
    shape: Shape,
}

impl Look {
    /// The look of the series with this index.
    pub(super) fn of(series: usize) -> Self {
        Self { colour: COLOURS[series % COLOURS.len()], shape: SHAPES[series % SHAPES.len()] }
    }

    /// A line through pixels.
    pub(super) fn line<DB: DrawingBackend>(
        self,
        area: &DrawingArea<DB, Shift>,
        pixels: &[(i32, i32)],
    ) -> Result<(), DrawingError<DB>> {
        area.draw(&PathElement::new(pixels, self.colour.stroke_width(LINE_PX)))
    }

    /// A mark at a pixel.
    pub(super) fn mark<DB: DrawingBackend>(
        self,
        area: &DrawingArea<DB, Shift>,
        (x, y): (i32, i32),
    ) -> Result<(), DrawingError<DB>> {
        let style = self.colour.filled();
        match self.shape {
            Shape::Circle => area.draw(&Circle::new((x, y), RADIUS_PX, style)),
            Shape::Polygon(corners) => {
                let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
                area.draw(&Polygon::new(corners, style))
            }
        }
    }

    /// An error bar between two pixels, one above the other.
    pub(super) fn error_bar<DB: DrawingBackend>(
        self,
        area: &DrawingArea<DB, Shift>,
        ends: [(i32, i32); 2],
    ) -> Result<(), DrawingError<DB>> {
        let style = self.colour.stroke_width(1);
        area.draw(&PathElement::new(ends, style))?;
        for (x, y) in ends {
            area.draw(&PathElement::new([(x - CAP_PX, y), (x + CAP_PX, y)], style))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn many_series_look_different() {
        let looks: HashSet<_> = (0..35).map(|series| format!("{:?}", Look::of(series))).collect();
        assert_eq!(looks.len(), 35);
    }

    #[test]
    fn no_mark_is_larger_than_it_claims() {
        for shape in SHAPES {
            if let Shape::Polygon(corners) = shape {
                assert!(corners.iter().all(|(x, y)| x.abs().max(y.abs()) <= 6));
            }
        }
    }
}
