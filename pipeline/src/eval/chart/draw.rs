//! Where the parts of a chart go, and their drawing in order.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::look::Look;
use super::{Chart, Point, Series, TEXT_PX, text_size};

/// The picture's size in pixels when the legend fits one row. Our choice: the width of a page's text.
const WIDTH_PX: u32 = 720;
const HEIGHT_PX: u32 = 440;

/// Sizes below are our choice, by eye: nothing touches, and the plot has most of the picture.
const MARGIN_PX: i32 = 16;
const TITLE_PX: f64 = 16.0;
const LEGEND_TOP_PX: i32 = 40;
const LEGEND_ROW_PX: i32 = 20;

/// Length of the line before a name in the legend, and the space after it and after the name.
const SAMPLE_PX: i32 = 28;
const SAMPLE_GAP_PX: i32 = 6;
const ENTRY_GAP_PX: i32 = 18;

/// Room below the plot for ticks and the axis' name.
const X_LABELS_PX: i32 = 46;

/// Room left of the plot beside the ticks' own width.
const Y_LABELS_PX: i32 = 34;
const TICK_PX: i32 = 4;

/// Our choice: ticks of six letters do not touch, and values between two can be read off.
const MAX_X_TICKS: usize = 10;
const MAX_Y_TICKS: usize = 8;

/// Our choice: the data stand out before the text, and both before the grid.
const TEXT_COLOUR: RGBColor = RGBColor(50, 50, 50);
const GRID_COLOUR: RGBColor = RGBColor(225, 225, 225);

/// The backend divides a text's size by this; ours are multiplied by it to be those in the file.
const LINE_HEIGHT: f64 = 1.24;

pub(super) type DrawingError<DB> = DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>;

type Plot<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

/// The chart as the text of an SVG file.
pub(super) fn svg_of(chart: &Chart<'_>) -> Result<String, DrawingError<SVGBackend<'static>>> {
    let entries = legend_places(chart.series);
    let legend_bottom = entries.last().map_or(LEGEND_TOP_PX, |(_, y)| y + LEGEND_ROW_PX);
    // Further rows of the legend make the picture higher, not the plot smaller.
    let further_rows = (legend_bottom - LEGEND_TOP_PX - LEGEND_ROW_PX).max(0);
    let size = (WIDTH_PX, HEIGHT_PX + further_rows.unsigned_abs());

    let mut svg = String::new();
    {
        let picture = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        picture.fill(&WHITE)?;
        let title = ("sans-serif", TITLE_PX * LINE_HEIGHT, FontStyle::Bold);
        let title = TextStyle::from(title).color(&TEXT_COLOUR);
        picture.draw_text(chart.title, &title, (MARGIN_PX, MARGIN_PX))?;
        for (index, (series, place)) in chart.series.iter().zip(entries).enumerate() {
            legend_entry(&picture, Look::of(index), series, place)?;
        }
        let (_, body) = picture.split_vertically(legend_bottom);
        let plot = plot_on(&body, chart)?;
        for (index, series) in chart.series.iter().enumerate() {
            draw_series(&picture, &plot, Look::of(index), series)?;
        }
        picture.present()?;
    }
    Ok(svg)
}

fn text_style(h_pos: HPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", TEXT_PX * LINE_HEIGHT))
        .color(&TEXT_COLOUR)
        .pos(Pos::new(h_pos, VPos::Center))
}

/// The top left corner of every series' entry: in rows below the title, where no data are covered.
fn legend_places(series: &[Series]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (MARGIN_PX, LEGEND_TOP_PX);
    let places = series.iter().map(|series| {
        let width = SAMPLE_PX + SAMPLE_GAP_PX + text_size(&series.name).0;
        if x > MARGIN_PX && x + width > WIDTH_PX as i32 - MARGIN_PX {
            (x, y) = (MARGIN_PX, y + LEGEND_ROW_PX);
        }
        let place = (x, y);
        x += width + ENTRY_GAP_PX;
        place
    });
    places.collect()
}

fn legend_entry<DB: DrawingBackend>(
    picture: &DrawingArea<DB, Shift>,
    look: Look,
    series: &Series,
    (x, top): (i32, i32),
) -> Result<(), DrawingError<DB>> {
    let y = top + LEGEND_ROW_PX / 2;
    look.line(picture, &[(x, y), (x + SAMPLE_PX, y)])?;
    look.mark(picture, (x + SAMPLE_PX / 2, y))?;
    let text = (x + SAMPLE_PX + SAMPLE_GAP_PX, y);
    picture.draw_text(&series.name, &text_style(HPos::Left), text)
}

/// The empty plot with its axes.
fn plot_on<'a, DB: DrawingBackend>(
    body: &DrawingArea<DB, Shift>,
    chart: &Chart<'_>,
) -> Result<Plot<'a, DB>, DrawingError<DB>> {
    let points = || chart.series.iter().flat_map(Series::drawable);
    let x: Vec<f64> = points().map(|point| point.x).collect();
    let bounds = points().filter_map(Point::drawable_interval).flat_map(|(low, high)| [low, high]);
    let y: Vec<f64> = points().map(|point| point.y).chain(bounds).collect();
    let (x, y) = (Axis::of(&x, MAX_X_TICKS), Axis::of(&y, MAX_Y_TICKS));
    let widest = y.ticks().iter().map(|tick| text_size(&y.label(*tick)).0).max().unwrap_or(0);

    let mut plot = ChartBuilder::on(body)
        .margin(MARGIN_PX)
        .margin_top(MARGIN_PX / 2)
        .x_label_area_size(X_LABELS_PX)
        .y_label_area_size(Y_LABELS_PX + widest)
        .build_cartesian_2d(x, y)?;
    plot.configure_mesh()
        .bold_line_style(GRID_COLOUR)
        .axis_style(TEXT_COLOUR)
        .set_all_tick_mark_size(TICK_PX)
        .label_style(text_style(HPos::Center))
        .x_desc(chart.x_label)
        .y_desc(chart.y_label)
        .draw()?;
    Ok(plot)
}

fn draw_series<DB: DrawingBackend>(
    picture: &DrawingArea<DB, Shift>,
    plot: &Plot<'_, DB>,
    look: Look,
    series: &Series,
) -> Result<(), DrawingError<DB>> {
    for bar in series.drawable().filter_map(|point| error_bar(plot, point)) {
        look.error_bar(picture, bar)?;
    }
    for run in runs(plot, series) {
        look.line(picture, &run)?;
        run.into_iter().try_for_each(|pixel| look.mark(picture, pixel))?;
    }
    Ok(())
}

/// Both ends of a point's error bar.
fn error_bar<DB: DrawingBackend>(plot: &Plot<'_, DB>, point: &Point) -> Option<[(i32, i32); 2]> {
    let (low, high) = point.drawable_interval()?;
    Some([low, high].map(|y| plot.backend_coord(&(point.x, y))))
}

/// The pixels of the points between gaps.
fn runs<DB: DrawingBackend>(plot: &Plot<'_, DB>, series: &Series) -> Vec<Vec<(i32, i32)>> {
    let pixel = |point: &Point| plot.backend_coord(&(point.x, point.y));
    let runs = series.points.split(|point| !point.is_drawable()).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().map(pixel).collect()).collect()
}
