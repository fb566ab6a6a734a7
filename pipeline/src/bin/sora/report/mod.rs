//! What the user sees while videos are made.

mod bars;
mod json;
mod lines;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::rc::Rc;

use sora_actors::messages::{Caption, GenerationRequest, JobEvent};

use sora_pipeline::plan::MemoryPlan;

pub use json::Failure;

use crate::arguments::MetricsForm;
use crate::print::{note, result};

/// Where a video stands among all that were asked for.
#[derive(Debug, Clone)]
pub struct JobLabel {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// What was asked for.
    pub request: GenerationRequest,
}

/// Shows events as they come. Everything runs on one thread, so methods take `&self` and implementations use cells.
pub trait Report {
    /// What the videos will take of memory; told once, before any work.
    fn plan(&self, plan: &MemoryPlan) {
        note(&plan.summary());
    }

    /// An event of the graph.
    fn event(&self, job: &JobLabel, event: &JobEvent);

    /// The video is in place.
    fn video_written(&self, job: &JobLabel, video: &Path, sidecar: &Path, seconds: f64);

    /// There will be no video.
    fn failed(&self, job: &JobLabel, failure: &Failure);

    /// A line of metrics; the next one takes its place where lines can be taken back.
    fn metrics(&self, _form: MetricsForm, line: &str) {
        result(line);
    }

    /// The last line of metrics, which stays.
    fn last_metrics(&self, form: MetricsForm, line: &str) {
        self.metrics(form, line);
    }

    /// The user asked to stop, and what is under way is being given up.
    fn stopping(&self) {
        note(STOPPING);
    }
}

/// What the user is told after asking to stop.
const STOPPING: &str = "stopping; press Ctrl-C again to end at once";

/// The way of reporting that fits: lines of JSON when asked for, bars on a terminal, else plain lines.
pub fn choose(json: bool, quiet: bool) -> Rc<dyn Report> {
    if json {
        Rc::new(json::JsonReport)
    } else if quiet {
        Rc::new(lines::LineReport::quiet())
    } else if io::stderr().is_terminal() {
        Rc::new(bars::BarReport::new())
    } else {
        Rc::new(lines::LineReport::new())
    }
}

/// Warnings about texts that are too long for the model: what was `cut` off the prompt, and the negative prompt.
fn cut_warnings<'a>(
    cut: Option<&'a str>,
    negative: Option<&'a Caption>,
) -> impl Iterator<Item = String> + 'a {
    let negative = negative.and_then(|caption| caption.cut.as_deref());
    let texts = [("prompt", cut), ("negative prompt", negative)].into_iter();
    texts.filter_map(|(text, cut)| {
        let cut = cut?;
        Some(format!(
            "warning: the {text} is too long for the model, which did not see the end: \"{cut}\""
        ))
    })
}

/// Seconds as people read them.
fn duration(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s"),
        ..3600.0 => format!("{} min {:02.0} s", (seconds / 60.0) as u64, seconds % 60.0),
        _ => format!("{} h {:02} min", (seconds / 3600.0) as u64, (seconds % 3600.0 / 60.0) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(4.26), "4.3 s");
        assert_eq!(duration(95.0), "1 min 35 s");
        assert_eq!(duration(7380.0), "2 h 03 min");
    }
}
