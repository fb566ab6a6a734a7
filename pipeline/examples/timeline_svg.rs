//! Draws a timeline that `sora generate --trace` wrote as an SVG picture: a row a stage, time to the right.
//!
//! `cargo run --example timeline_svg -- run.json timeline.svg [FROM TO]`, from and to in seconds.

use std::collections::BTreeMap;
use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

/// A line of the file.
#[derive(Deserialize)]
struct Event {
    ph: String,
    tid: u64,
    name: String,
    /// Microseconds.
    ts: Option<f64>,
    #[serde(default)]
    args: BTreeMap<String, String>,
}

/// What a stage did, in seconds.
struct Span {
    row: String,
    name: String,
    begin: f64,
    end: f64,
}

impl Span {
    fn within(&self, (from, to): (f64, f64)) -> bool {
        self.end > from && self.begin < to
    }
}

/// Rows from top to bottom, each loader above the stage that it serves; others follow. Threads of the runtime write
/// videos.
const ROWS: [(&str, &str); 8] = [
    ("sora-block_loader_prompt_embedder", "T5 loader"),
    ("sora-prompt_embedder", "T5"),
    ("sora-denoise_controller", "controller"),
    ("sora-block_loader_stdit_worker_0", "STDiT3 loader"),
    ("sora-stdit_worker_0", "STDiT3"),
    ("sora-block_loader_vae_decoder", "VAE loader"),
    ("sora-vae_decoder", "VAE"),
    ("tokio-rt-worker", "writing"),
];

/// What is drawn, in which colour. Waits are left white.
const COLOURS: [(&str, RGBColor, &str); 7] = [
    ("load", RGBColor(230, 159, 0), "load"),
    ("compute", RGBColor(0, 114, 178), "compute"),
    ("begin", RGBColor(86, 180, 233), "before and after the blocks"),
    ("finish", RGBColor(86, 180, 233), ""),
    ("decode", RGBColor(200, 225, 215), "decode"),
    ("frames", RGBColor(0, 158, 115), "frames"),
    ("write", RGBColor(204, 121, 167), "write"),
];

const WIDTH_PX: i32 = 960;
const ROW_PX: i32 = 34;
const TOP_PX: i32 = 40;
const LEFT_PX: i32 = 110;
const MARGIN_PX: i32 = 16;
const TEXT: (&str, f64) = ("sans-serif", 14.0);
const GRID: RGBColor = RGBColor(225, 225, 225);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trace, picture, window @ ..] = arguments.as_slice() else {
        return Err("expected: timeline_svg TRACE PICTURE [FROM TO]".into());
    };
    let spans = read(&std::fs::read_to_string(trace)?)?;
    let window = match window {
        [from, to] => (from.parse()?, to.parse()?),
        _ => (0.0, spans.iter().map(|span| span.end).fold(0.0, f64::max)),
    };
    let drawn = |row: &str| spans.iter().any(|span| span.row == row && span.within(window));
    let rows: Vec<_> = ROWS.into_iter().filter(|(row, _)| drawn(row)).collect();
    let height = TOP_PX + rows.len() as i32 * ROW_PX + 40;
    let picture = SVGBackend::new(picture, (WIDTH_PX as u32, height as u32)).into_drawing_area();
    draw(&picture, &rows, &spans, window)?;
    picture.present()?;
    Ok(())
}

/// The spans in the order in which they begin, so that inner ones are drawn over outer ones.
fn read(text: &str) -> Result<Vec<Span>, Box<dyn Error>> {
    // A run that was killed leaves a file without its end.
    let whole =
        text.trim_end().trim_end_matches(']').trim_end_matches([',', '\n']).to_string() + "]";
    let (mut rows, mut open) = (BTreeMap::new(), BTreeMap::<u64, Vec<Span>>::new());
    let mut spans = Vec::new();
    for event in serde_json::from_str::<Vec<Event>>(&whole)? {
        let seconds = event.ts.unwrap_or(0.0) / 1e6;
        match event.ph.as_str() {
            "M" => {
                drop(rows.insert(event.tid, event.args.get("name").cloned().unwrap_or_default()))
            }
            "B" => open.entry(event.tid).or_default().push(Span {
                row: rows.get(&event.tid).cloned().unwrap_or_default(),
                name: event.name,
                begin: seconds,
                end: seconds,
            }),
            _ => {
                if let Some(span) = open.entry(event.tid).or_default().pop() {
                    spans.push(Span { end: seconds, ..span });
                }
            }
        }
    }
    spans.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    Ok(spans)
}

fn draw<DB: DrawingBackend>(
    picture: &DrawingArea<DB, Shift>,
    rows: &[(&str, &str)],
    spans: &[Span],
    (from, to): (f64, f64),
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    picture.fill(&WHITE)?;
    let text = |h_pos| TextStyle::from(TEXT).pos(Pos::new(h_pos, VPos::Center));
    let scale = f64::from(WIDTH_PX - LEFT_PX - MARGIN_PX) / (to - from);
    let x = |seconds: f64| LEFT_PX + ((seconds.clamp(from, to) - from) * scale).round() as i32;
    let bottom = TOP_PX + rows.len() as i32 * ROW_PX;

    // Ten ticks or so, at round seconds.
    let step = 10f64.powf(((to - from) / 10.0).log10().ceil());
    let step = if (to - from) / step < 4.0 { step / 4.0 } else { step };
    let digits =
        (-step.log10()).ceil().max(0.0) as usize + usize::from(step.log10().fract() != 0.0);
    for tick in 0..=((to - from) / step) as usize {
        let at = x(from + tick as f64 * step);
        picture.draw(&PathElement::new([(at, TOP_PX), (at, bottom + 5)], GRID))?;
        let label = format!("{:.digits$} s", tick as f64 * step);
        picture.draw_text(&label, &text(HPos::Center), (at, bottom + 18))?;
    }
    let mut legend = LEFT_PX;
    for (_, colour, meaning) in COLOURS.iter().filter(|(_, _, meaning)| !meaning.is_empty()) {
        let sample = [(legend, MARGIN_PX - 6), (legend + 14, MARGIN_PX + 6)];
        picture.draw(&Rectangle::new(sample, colour.filled()))?;
        picture.draw_text(meaning, &text(HPos::Left), (legend + 20, MARGIN_PX))?;
        legend += 44 + 7 * meaning.len() as i32;
    }
    for (index, (row, label)) in rows.iter().enumerate() {
        let top = TOP_PX + index as i32 * ROW_PX;
        picture.draw_text(label, &text(HPos::Right), (LEFT_PX - 10, top + ROW_PX / 2))?;
        let within = |span: &&Span| span.row == *row && span.within((from, to));
        for span in spans.iter().filter(within) {
            let Some((_, colour, _)) = COLOURS.iter().find(|(name, ..)| *name == span.name) else {
                continue;
            };
            let (left, right) = (x(span.begin), x(span.end));
            // A gap between spans that follow each other at once.
            let right = if right - left > 3 { right - 1 } else { right.max(left + 1) };
            let corners = [(left, top + 4), (right, top + ROW_PX - 4)];
            picture.draw(&Rectangle::new(corners, colour.filled()))?;
        }
    }
    Ok(())
}
