//! Line charts as SVG files: text that any browser shows, without fonts of our own.

mod axis;
mod draw;
mod look;

use std::io;
use std::path::{Path, PathBuf};

use crate::whole_file::replace;

/// Height of all text but the title. Our choice: a little smaller than a page's text.
const TEXT_PX: f64 = 12.0;

/// Mean width of a letter by the text's height. Our choice: the widest of the common sans-serif fonts, since the
/// viewer's font is not known here.
const LETTER_WIDTH: f64 = 0.6;

/// Values beyond this are left out like infinite ones, so that no distance between two overflows. Our choice: far
/// beyond anything measured.
const LARGEST_VALUE: f64 = 1e100;

/// A chart of 720x440 pixels, higher when the legend needs more than one row.
#[derive(Debug, Clone, Copy)]
pub struct Chart<'a> {
    /// What is shown; about 70 letters fit.
    pub title: &'a str,
    /// Name and unit of the horizontal axis.
    pub x_label: &'a str,
    /// Name and unit of the vertical axis.
    pub y_label: &'a str,
    /// In the order of the legend; later ones are drawn over earlier ones.
    pub series: &'a [Series],
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name in the legend; about 90 letters fit.
    pub name: String,
    /// In the order in which a line goes through them. One with a coordinate that is not a finite number, or
    /// is beyond 1e100, is left out, and is a gap in the line.
    pub points: Vec<Point>,
}

/// One value of a series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// The place on the horizontal axis, in its unit.
    pub x: f64,
    /// The place on the vertical axis, in its unit.
    pub y: f64,
    /// The ends of the error bar, as values of the vertical axis; left out when one is not a finite number.
    pub interval: Option<(f64, f64)>,
}

/// Why a chart could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// The drawing library refused.
    #[error("cannot draw {}: {reason}", target.display())]
    Drawing {
        /// The file asked for.
        target: PathBuf,
        /// The library's reason.
        reason: String,
    },

    /// The operating system refused to write.
    #[error("cannot write {}: {source}", target.display())]
    Io {
        /// The file asked for.
        target: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Chart<'_> {
    /// Draws the chart to the SVG file `path`, which is replaced as a whole. Without points there are only axes.
    ///
    /// # Errors
    /// The file cannot be written, or the drawing library refuses.
    pub fn draw_svg(&self, path: &Path) -> Result<(), ChartError> {
        let target = || path.to_path_buf();
        let svg = draw::svg_of(self)
            .map_err(|cause| ChartError::Drawing { target: target(), reason: cause.to_string() })?;
        replace(path, svg.as_bytes()).map_err(|source| ChartError::Io { target: target(), source })
    }
}

impl Series {
    fn drawable(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.is_drawable())
    }
}

impl Point {
    /// A point without an error bar or a text.
    pub fn at(x: f64, y: f64) -> Self {
        Self { x, y, ..Self::default() }
    }

    fn is_drawable(&self) -> bool {
        is_drawable(self.x) && is_drawable(self.y)
    }

    fn drawable_interval(&self) -> Option<(f64, f64)> {
        self.interval.filter(|(low, high)| is_drawable(*low) && is_drawable(*high))
    }
}

/// NaN compares as false.
fn is_drawable(value: f64) -> bool {
    value.abs() <= LARGEST_VALUE
}

/// About how wide and high a text is in pixels.
fn text_size(text: &str) -> (i32, i32) {
    let width = text.chars().count() as f64 * LETTER_WIDTH * TEXT_PX;
    (width.ceil() as i32, TEXT_PX as i32)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Colours of the first two series.
    const FIRST: &str = "#0072B2";
    const SECOND: &str = "#D55E00";

    fn series(name: &str, y: &[f64]) -> Series {
        let points = y.iter().enumerate().map(|(x, y)| Point::at(x as f64, *y)).collect();
        Series { name: name.to_owned(), points }
    }

    fn svg(series: &[Series]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        let chart = Chart { title: "A <&> \"B\"", x_label: "step", y_label: "cosine", series };
        chart.draw_svg(&path).unwrap();
        let svg = fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        svg
    }

    /// How often `tag` is drawn in `colour`; the legend draws each kind once, too.
    fn count(svg: &str, tag: &str, colour: &str) -> usize {
        let start = format!("<{tag} ");
        svg.lines().filter(|line| line.starts_with(&start) && line.contains(colour)).count()
    }

    /// The texts of the picture in order.
    fn texts(svg: &str) -> Vec<&str> {
        let parts = svg.split("<text ").skip(1);
        parts.filter_map(|part| part.split(['>', '<']).nth(1)).map(str::trim).collect()
    }

    #[test]
    fn a_series_is_a_line_with_marks() {
        let svg = svg(&[series("a", &[0.5, 0.7, 0.6])]);
        // The line and the marks, and one of each in the legend.
        assert_eq!((count(&svg, "polyline", FIRST), count(&svg, "circle", FIRST)), (2, 4));
    }

    #[test]
    fn series_differ_in_colour_and_shape() {
        let values = [0.5, 0.7];
        let svg = svg(&["a", "b"].map(|name| series(name, &values)));
        assert_eq!((count(&svg, "circle", FIRST), count(&svg, "polygon", SECOND)), (3, 3));
    }

    #[test]
    fn names_are_escaped() {
        let svg = svg(&[series("x < y & z", &[0.5, 0.7])]);
        let texts = texts(&svg);
        for text in ["A &lt;&amp;&gt; &quot;B&quot;", "x &lt; y &amp; z", "step", "cosine"] {
            assert!(texts.contains(&text), "{text} is not in {texts:?}");
        }
    }

    #[test]
    fn an_error_bar_is_a_line_with_two_ends() {
        let mut bars = series("a", &[0.5, 0.7, 0.6]);
        let without = count(&svg(&[bars.clone()]), "polyline", FIRST);
        bars.points[0].interval = Some((0.4, 0.9));
        bars.points[1].interval = Some((0.4, f64::NAN));
        assert_eq!(count(&svg(&[bars]), "polyline", FIRST), without + 3);
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let values = [0.1, 0.2, f64::NAN, 0.3, 0.4, f64::INFINITY, 0.5, 1e300];
        let svg = svg(&[series("a", &values)]);
        // Three runs, the last of one point, and the legend.
        assert_eq!((count(&svg, "polyline", FIRST), count(&svg, "circle", FIRST)), (4, 6));
    }

    #[test]
    fn charts_with_little_in_them_have_axes() {
        let nothing = [f64::NAN, f64::NEG_INFINITY];
        for values in [&[][..], &[0.5], &[0.5; 9], &[0.0; 2], &[5e-324], &[1e100, -1e100], &nothing]
        {
            let svg = svg(&[series("a", values)]);
            assert!(texts(&svg).len() >= 6, "{values:?}: {svg}");
        }
        assert!(texts(&svg(&[])).len() >= 10);
    }

    #[test]
    fn a_long_legend_makes_the_picture_higher() {
        let many: Vec<Series> =
            (0..12).map(|index| series(&format!("a long name {index}"), &[0.5, 0.7])).collect();
        assert!(svg(&many[..1]).contains("height=\"440\""));
        assert!(svg(&many).contains("height=\"480\""));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let chart = Chart { title: "", x_label: "", y_label: "", series: &[] };
        let error = chart.draw_svg(Path::new("not-there/chart.svg")).unwrap_err();
        assert!(matches!(error, ChartError::Io { .. }));
        assert!(error.to_string().contains("not-there"), "{error}");
    }
}
