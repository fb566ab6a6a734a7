//! Lines on standard output and standard error.
//!
//! A reader that went away (`| head`, a closed terminal) is no reason to stop making videos, and nobody is left to be
//! told: what cannot be written is dropped, where `println!` would panic.

use std::io::{self, Write};

/// A line on standard output: something that was asked for.
pub fn result(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error: what the user should know.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
