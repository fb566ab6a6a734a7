//! How far the runs are.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts runs and names the one that is under way.
pub fn run_bar(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    let style =
        ProgressStyle::with_template("{pos} of {len} runs {wide_bar} {elapsed}, now: {msg}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
