//! What commands that write model folders show.

use std::path::Path;
use std::time::Instant;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use crate::print::{note, result};

/// A bar that counts bytes; hidden where standard error is no terminal.
pub fn byte_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{decimal_bytes} of {decimal_total_bytes} {wide_bar} {decimal_bytes_per_sec}, {eta} left",
    );
    // Its length is not known yet, and without one nothing would be drawn.
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// How long a command has been writing.
pub struct Speed(Instant);

impl Speed {
    /// Starts the clock.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Prints the name of the finished folder, and beside it how much was `done` and how fast.
    pub fn tell(&self, done: &str, bytes: u64, folder: &Path) {
        let seconds = self.0.elapsed().as_secs_f64();
        let rate = bytes as f64 / 1e6 / seconds.max(f64::MIN_POSITIVE);
        note(&format!("{} {done} in {seconds:.1} s, {rate:.0} MB/s", DecimalBytes(bytes)));
        result(&folder.display().to_string());
    }
}
