//! Plain lines on standard error, where there is no terminal for bars; finished videos on standard output.

use std::path::Path;

use sora_actors::messages::JobEvent;
use sora_pipeline::plan::MemoryPlan;

use super::{Failure, JobLabel, Report, cut_warnings, duration};
use crate::print::{note, result};

/// A line at each of so many parts of the steps.
const LINES_FOR_STEPS: usize = 10;

/// Writes lines; when quiet, only warnings, failures and finished videos.
pub struct LineReport {
    quiet: bool,
}

impl LineReport {
    /// Tells what happens.
    pub fn new() -> Self {
        Self { quiet: false }
    }

    /// Tells only what matters afterwards.
    pub fn quiet() -> Self {
        Self { quiet: true }
    }

    fn say(&self, job: &JobLabel, text: &str) {
        if !self.quiet {
            note(&format!("{}{text}", prefix(job)));
        }
    }
}

/// Names the job where there are several.
fn prefix(job: &JobLabel) -> String {
    if job.count > 1 { format!("[{}/{}] ", job.number, job.count) } else { String::new() }
}

impl Report for LineReport {
    fn plan(&self, plan: &MemoryPlan) {
        if !self.quiet {
            note(&plan.summary());
        }
    }

    fn event(&self, job: &JobLabel, event: &JobEvent) {
        match event {
            JobEvent::Embedding => self.say(job, &format!("embedding \"{}\"", job.request.prompt)),
            JobEvent::Embedded { tokens, cut, negative, seconds, .. } => {
                for warning in cut_warnings(cut.as_deref(), negative.as_ref()) {
                    note(&format!("{}{warning}", prefix(job)));
                }
                self.say(job, &format!("embedded {tokens} tokens in {}", duration(*seconds)));
            }
            JobEvent::Resumed { done, steps } => {
                self.say(job, &format!("going on after {done} of {steps} steps"));
            }
            JobEvent::Step { index, steps, leapt, coasted, .. } => {
                let done = index + 1 + coasted;
                let part = |step: usize| step * LINES_FOR_STEPS / steps.max(&1);
                if *leapt {
                    self.say(
                        job,
                        &format!("denoised {done} of {steps} steps, and leapt to the end"),
                    );
                } else if part(done) != part(*index) {
                    self.say(job, &format!("denoised {done} of {steps} steps"));
                }
            }
            JobEvent::Decoding => self.say(job, "decoding"),
            JobEvent::Queued { .. }
            | JobEvent::Preview { .. }
            | JobEvent::Chunk(_)
            | JobEvent::Finished(_)
            | JobEvent::Failed(_)
            | JobEvent::Cancelled => {}
        }
    }

    fn video_written(&self, job: &JobLabel, video: &Path, _sidecar: &Path, seconds: f64) {
        self.say(job, &format!("finished in {}", duration(seconds)));
        result(&video.display().to_string());
    }

    fn failed(&self, job: &JobLabel, failure: &Failure) {
        note(&format!("{}error: {}", prefix(job), failure.message));
    }
}
