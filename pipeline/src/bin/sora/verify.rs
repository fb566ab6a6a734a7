//! `sora verify`: this build on this device against recorded cases, or quantised weights against the original.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use candle_core::Device;
use serde::Serialize;
use sora_models::verify::{CaseReport, find_cases, run_case};

use crate::arguments::VerifyArguments;
use crate::exit::Outcome;
use crate::verify_quantised;

/// Compares two models if they are given; otherwise runs every case and prints a line for each, then how many passed.
///
/// # Errors
/// There are no cases, the device cannot be used, or the lines cannot be written. A reader that has seen enough
/// (`| head`) is no error: the remaining cases are not run.
pub fn run(arguments: &VerifyArguments) -> anyhow::Result<Outcome> {
    let device = arguments.device.open()?;
    if let (Some(model), Some(against)) = (&arguments.model, &arguments.against) {
        return verify_quantised::run(model, against, &device, arguments.json);
    }
    // The command line's definition lets nothing else through.
    let folder = arguments.folder.as_deref().context("a folder of cases is needed")?;
    let cases = find_cases(folder)?;
    match run_all(&cases, &device, arguments.json) {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(Outcome::Interrupted),
        outcome => outcome.context("cannot write to standard output"),
    }
}

fn run_all(cases: &[PathBuf], device: &Device, json: bool) -> io::Result<Outcome> {
    let mut output = io::stdout();
    let (mut passed, mut failed) = (0, 0);
    for case in cases {
        let report = run_case(case, device);
        let line = Line::of(&report);
        if json {
            writeln!(output, "{}", serde_json::to_string(&line)?)?;
        } else {
            writeln!(output, "{}", line.text())?;
        }
        if line.passed { passed += 1 } else { failed += 1 }
    }
    if json {
        writeln!(output, "{}", serde_json::json!({"passed": passed, "failed": failed}))?;
    } else {
        writeln!(output, "{passed} passed, {failed} failed")?;
    }
    Ok(if failed == 0 { Outcome::Done } else { Outcome::SomeFailed })
}

/// What is told of one case.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: &'a str,
    passed: bool,
    worst_absolute: Option<f64>,
    worst_relative: Option<f64>,
    atol: f64,
    rtol: f64,
    /// The first tensor, in order of computation, that is out of tolerance.
    first_failure: Option<&'a str>,
    /// What is wrong with it, or why the case could not be run.
    reason: Option<String>,
    seconds: f64,
}

impl<'a> Line<'a> {
    fn of(report: &'a CaseReport) -> Self {
        let check = Some(&report.check).filter(|check| !check.deviations().is_empty());
        let failure = report.check.first_failure();
        let wrong = failure.and_then(|deviation| deviation.failure.clone());
        let cause = report.outcome.as_ref().err().map(|cause| cause.to_string());
        let reasons: Vec<_> = wrong.into_iter().chain(cause).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; then "));
        Self {
            name: &report.name,
            kind: &report.kind,
            passed: report.passed(),
            worst_absolute: check.map(|check| check.worst_absolute()),
            worst_relative: check.map(|check| check.worst_relative()),
            atol: report.tolerance.atol,
            rtol: report.tolerance.rtol,
            first_failure: failure.map(|deviation| deviation.tensor.as_str()),
            reason,
            seconds: report.seconds,
        }
    }

    fn text(&self) -> String {
        let Self { name, kind, atol, rtol, .. } = self;
        let head = format!("{name:<28} {kind:<20}");
        let verdict = if self.passed { "pass" } else { "FAIL" };
        let figures = match (self.worst_absolute, self.worst_relative) {
            (Some(absolute), Some(relative)) => format!(
                " abs {absolute:<9.2e} rel {relative:<9.2e} tolerance {atol:.1e} + {rtol:.1e} |x|"
            ),
            _ => String::new(),
        };
        let reason = match (self.first_failure, &self.reason) {
            (Some(tensor), Some(reason)) => format!("  first wrong: {tensor}: {reason}"),
            (None, Some(reason)) => format!(" {reason}"),
            _ => String::new(),
        };
        format!("{head}{figures}{reason}  {verdict}")
    }
}
