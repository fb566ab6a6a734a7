//! Progress bars on a terminal: one line for each stage of a job, with steps and the time left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sora_actors::messages::JobEvent;

use super::{Failure, JobLabel, Report, STOPPING, cut_warnings, duration};
use crate::arguments::MetricsForm;
use crate::print::{note, result};

/// How often spinners turn and times advance.
const TICK: Duration = Duration::from_millis(100);

/// Characters of the prompt that name a job beside its bars, where there are several.
const PROMPT_NAME_CHARS: usize = 24;

/// Draws the bars of all jobs under each other.
pub struct BarReport {
    screen: MultiProgress,
    jobs: RefCell<BTreeMap<usize, JobBars>>,
    /// At the foot of the screen.
    metrics: RefCell<Option<ProgressBar>>,
}

/// The bar of a job's present stage. Those of its earlier stages stay on the screen when it is the only job.
#[derive(Default)]
struct JobBars {
    present: Option<ProgressBar>,
}

impl BarReport {
    /// An empty screen.
    pub fn new() -> Self {
        Self { screen: MultiProgress::new(), jobs: RefCell::default(), metrics: RefCell::default() }
    }

    fn with_bars(&self, job: &JobLabel, change: impl FnOnce(&mut JobBars)) {
        change(self.jobs.borrow_mut().entry(job.number).or_default());
    }

    /// Ends the stage before and begins the next, which has `length` parts, or takes as long as it takes.
    fn begin(&self, job: &JobLabel, stage: &str, length: Option<usize>) {
        let bar = match length {
            Some(length) => ProgressBar::new(length as u64),
            None => ProgressBar::new_spinner(),
        };
        let template = match length {
            Some(_) => "{prefix:>9} {bar:30.cyan/dim} {pos}/{len} {msg} {elapsed} {eta_left:.dim}",
            None => "{prefix:>9} {spinner:.cyan} {msg} {elapsed}",
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let left = |state: &indicatif::ProgressState, text: &mut dyn std::fmt::Write| {
            if !state.is_finished() && state.pos() > 0 {
                // Writing to a string does not fail.
                let _ = write!(text, "{} left", duration(state.eta().as_secs_f64()));
            }
        };
        let bar = bar.with_style(style.with_key("eta_left", left));
        let bar = match &*self.metrics.borrow() {
            Some(metrics) => self.screen.insert_before(metrics, bar),
            None => self.screen.add(bar),
        };
        bar.set_prefix(stage.to_string());
        bar.set_message(name(job));
        bar.enable_steady_tick(TICK);
        self.with_bars(job, |bars| {
            bars.end_stage(job.count > 1);
            bars.present = Some(bar);
        });
    }

    fn advance(&self, job: &JobLabel, parts: usize) {
        self.with_bars(job, |bars| {
            if let Some(bar) = &bars.present {
                bar.inc(parts as u64);
            }
        });
    }

    /// Takes a job's bars off the screen.
    fn clear(&self, job: &JobLabel) {
        self.with_bars(job, |bars| bars.end_stage(true));
    }

    /// The line at the foot of the screen.
    fn metrics_line(&self) -> ProgressBar {
        let mut metrics = self.metrics.borrow_mut();
        let line = metrics.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg:.dim}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            self.screen.add(ProgressBar::new_spinner().with_style(style))
        });
        line.clone()
    }

    fn say(&self, text: &str) {
        self.screen.suspend(|| note(text));
    }
}

impl JobBars {
    fn end_stage(&mut self, clear: bool) {
        if let Some(bar) = &self.present {
            if clear { bar.finish_and_clear() } else { bar.abandon() }
        }
    }
}

/// What to call a job among several.
fn name(job: &JobLabel) -> String {
    if job.count == 1 {
        return String::new();
    }
    let prompt: String = job.request.prompt.chars().take(PROMPT_NAME_CHARS).collect();
    format!("[{}/{}] {prompt}", job.number, job.count)
}

impl Report for BarReport {
    fn event(&self, job: &JobLabel, event: &JobEvent) {
        match event {
            JobEvent::Embedding => self.begin(job, "embed", None),
            JobEvent::Embedded { cut, negative, .. } => {
                for warning in cut_warnings(cut.as_deref(), negative.as_ref()) {
                    self.say(&warning);
                }
                self.begin(job, "denoise", Some(job.request.sampling.steps));
            }
            JobEvent::Resumed { done, steps } => {
                self.begin(job, "denoise", Some(*steps));
                self.with_bars(job, |bars| {
                    if let Some(bar) = &bars.present {
                        bar.set_position(*done as u64);
                        // The steps done before say nothing about the time that the others take.
                        bar.reset_eta();
                    }
                });
            }
            JobEvent::Step { leapt, coasted, .. } => {
                self.advance(job, 1 + coasted);
                if *leapt {
                    self.with_bars(job, |bars| {
                        if let Some(bar) = &bars.present {
                            bar.set_message(format!("{} leapt to the end", name(job)));
                        }
                    });
                }
            }
            JobEvent::Decoding => self.begin(job, "decode", Some(job.request.num_frames)),
            JobEvent::Chunk(chunk) => self.advance(job, chunk.frames.len()),
            JobEvent::Finished(_) => self.begin(job, "write", None),
            JobEvent::Cancelled => self.clear(job),
            JobEvent::Queued { .. } | JobEvent::Preview { .. } | JobEvent::Failed(_) => {}
        }
    }

    fn video_written(&self, job: &JobLabel, video: &Path, _sidecar: &Path, seconds: f64) {
        self.with_bars(job, |bars| bars.end_stage(job.count > 1));
        self.screen.suspend(|| {
            result(&video.display().to_string());
            if io::stdout().is_terminal() {
                note(&format!("{:>9} in {}", "finished", duration(seconds)));
            }
        });
    }

    fn metrics(&self, form: MetricsForm, line: &str) {
        match form {
            // Where standard output goes elsewhere, it gets the lines.
            MetricsForm::Stdout if io::stdout().is_terminal() => {
                self.metrics_line().set_message(line.to_string());
            }
            _ => self.screen.suspend(|| result(line)),
        }
    }

    fn last_metrics(&self, _form: MetricsForm, line: &str) {
        if let Some(bar) = self.metrics.take() {
            bar.finish_and_clear();
        }
        self.screen.suspend(|| result(line));
    }

    fn stopping(&self) {
        self.say(STOPPING);
    }

    fn failed(&self, job: &JobLabel, failure: &Failure) {
        self.clear(job);
        let name = name(job);
        let separator = if name.is_empty() { "" } else { ": " };
        self.say(&format!("error: {name}{separator}{}", failure.message));
    }
}
