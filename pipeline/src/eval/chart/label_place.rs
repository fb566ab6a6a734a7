//! Where a text beside a point goes: the first place around it that covers least.

use super::text_size;

/// Space between a mark or an error bar and its text.
const DISTANCE_PX: i32 = 2;

/// How much worse a pixel outside the plot is than one that covers something. Our choice: large enough that texts
/// rather overlap than are cut.
const OUTSIDE_WEIGHT: i64 = 100;

/// An area of the picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

impl Area {
    /// The square that reaches `reach` pixels from a point.
    pub(super) fn around((x, y): (i32, i32), reach: i32) -> Self {
        Self { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach }
    }

    /// The smallest area with both in it.
    pub(super) fn joined(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Pixels in both areas.
    fn shared(&self, other: &Self) -> i64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        i64::from(width.max(0)) * i64::from(height.max(0))
    }
}

/// The place for `text` beside the point whose mark and error bar cover `of`, the mark's middle at height `y`: inside
/// `plot` if it can be, and away from what is `taken`.
pub(super) fn place(text: &str, y: i32, of: Area, plot: Area, taken: &[Area]) -> Area {
    let (width, height) = text_size(text);
    let (middle_x, middle_y) = ((of.left + of.right - width) / 2, y - height / 2);
    let (right, left) = (of.right + DISTANCE_PX, of.left - DISTANCE_PX - width);
    let (above, below) = (of.top - DISTANCE_PX - height, of.bottom + DISTANCE_PX);
    let corners = [
        (right, middle_y),
        (middle_x, above),
        (middle_x, below),
        (left, middle_y),
        (right, middle_y - height),
        (right, middle_y + height),
        (left, middle_y - height),
        (left, middle_y + height),
    ];
    let areas =
        corners.map(|(left, top)| Area { left, top, right: left + width, bottom: top + height });
    let cost = |area: &Area| {
        let outside = area.shared(area) - area.shared(&plot);
        taken.iter().map(|other| area.shared(other)).sum::<i64>() + outside * OUTSIDE_WEIGHT
    };
    let [first, ..] = areas;
    areas.into_iter().min_by_key(cost).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLOT: Area = Area { left: 0, top: 0, right: 300, bottom: 200 };

    fn beside(point: (i32, i32), taken: &[Area]) -> Area {
        place("n = 15", point.1, Area::around(point, 5), PLOT, taken)
    }

    #[test]
    fn a_free_point_has_its_text_on_the_right() {
        let area = beside((100, 100), &[Area::around((100, 100), 5)]);
        assert!(area.left > 105 && area.top < 100 && area.bottom > 100, "{area:?}");
    }

    #[test]
    fn texts_stay_inside_the_plot() {
        for point in [(0, 0), (299, 0), (0, 199), (299, 199), (299, 100)] {
            let area = beside(point, &[]);
            assert_eq!(area.shared(&area), area.shared(&PLOT), "{point:?}: {area:?}");
        }
    }

    #[test]
    fn texts_of_near_points_do_not_cover_each_other() {
        let mut taken: Vec<Area> = Vec::new();
        for point in [(100, 100), (108, 104), (116, 100)] {
            let area = beside(point, &taken);
            assert!(taken.iter().all(|other| area.shared(other) == 0), "{point:?}: {taken:?}");
            taken.push(area);
        }
    }

    #[test]
    fn a_text_without_room_beside_its_point_goes_beyond_the_error_bar() {
        let bar = Area::around((100, 100), 5).joined(Area::around((100, 130), 3));
        let others = [(60, 100), (140, 100), (100, 80)].map(|point| Area::around(point, 25));
        let area = place("n = 15", 100, bar, PLOT, &others);
        assert!(area.top > bar.bottom, "{area:?}");
    }
}
