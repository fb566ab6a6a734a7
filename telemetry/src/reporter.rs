//! Metrics for those who watch without Prometheus: a line for people, or a line of JSON, as often as they like.

use std::time::Instant;

use serde::Serialize;

use crate::MetricsPage;
use crate::live_line::{Moment, live_line};
use crate::samples::samples;

/// How metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportForm {
    /// A line for people: what happened since the line before.
    Line,
    /// A line of JSON with all that is counted, but for the buckets of histograms.
    Json,
}

/// Tells what the metrics are, line by line. Who calls it decides when, and where the lines go.
pub struct Reporter {
    page: MetricsPage,
    form: ReportForm,
    started: Instant,
    before: Moment,
}

impl Reporter {
    /// Tells of this page's metrics from now on.
    pub fn new(page: MetricsPage, form: ReportForm) -> Self {
        let before = Moment::of(&page.render(), 0.0);
        Self { page, form, started: Instant::now(), before }
    }

    /// The metrics as they are now, in one line without its end.
    pub fn next_line(&mut self) -> String {
        let text = self.page.render();
        let seconds = self.started.elapsed().as_secs_f64();
        match self.form {
            ReportForm::Line => {
                let now = Moment::of(&text, seconds);
                let line = live_line(&self.before, &now);
                self.before = now;
                line
            }
            ReportForm::Json => json_line(&text, seconds),
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    event: &'static str,
    /// Since the reporter began.
    seconds: f64,
    samples: Vec<JsonSample<'a>>,
}

#[derive(Serialize)]
struct JsonSample<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    labels: serde_json::Map<String, serde_json::Value>,
    value: f64,
}

fn json_line(page: &str, seconds: f64) -> String {
    let whole = samples(page).filter(|sample| !sample.name.ends_with("_bucket"));
    let samples = whole.map(|sample| JsonSample {
        name: sample.name,
        value: sample.value,
        labels: sample.labels.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
    });
    let line = JsonLine { event: "metrics", seconds, samples: samples.collect() };
    // Texts and numbers only, so there is nothing to fail on.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_of_json_has_all_samples_but_buckets() {
        let page = "a_total 3\nb_seconds_bucket{le=\"1\"} 1\nb_seconds_sum{stage=\"x\"} 0.5\n";
        let line = json_line(page, 2.0);
        let expected = serde_json::json!({
            "event": "metrics",
            "seconds": 2.0,
            "samples": [
                { "name": "a_total", "value": 3.0 },
                { "name": "b_seconds_sum", "labels": { "stage": "x" }, "value": 0.5 },
            ],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
        assert!(!line.contains('\n'));
    }
}
