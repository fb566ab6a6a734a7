//! Events as lines of JSON on standard output, for scripts.
//!
//! The first line is the `plan` of memory. Each further line has `job` (from 1) and `event`. Events of the graph are `queued`, `embedding`, `embedded` (or `resumed`),
//! `step`, `decoding`, `chunk`, `finished`, `failed` and `cancelled`; a job ends with `written`, `failed` or `cancelled`.

use std::path::Path;

use serde::Serialize;
use sora_actors::messages::JobEvent;
use sora_pipeline::plan::MemoryPlan;

use super::{JobLabel, Report};
use crate::print::result;

/// Why a video was not made, apart from what the graph tells itself.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Where it failed: a stage of the graph, `submit` or `write`.
    pub stage: String,
    /// A short name of the kind of failure.
    pub kind: String,
    /// The whole story.
    pub message: String,
}

/// Writes JSON lines.
pub struct JsonReport;

#[derive(Serialize)]
struct Line<'a, T> {
    job: usize,
    #[serde(flatten)]
    event: &'a T,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum OwnEvent<'a> {
    Written { video: &'a Path, sidecar: &'a Path, seconds: f64 },
    Failed(&'a Failure),
}

impl JsonReport {
    fn print<T: Serialize>(job: &JobLabel, event: &T) {
        let Ok(line) = serde_json::to_string(&Line { job: job.number, event }) else { return };
        result(&line);
    }
}

impl Report for JsonReport {
    fn plan(&self, plan: &MemoryPlan) {
        let line = serde_json::json!({ "event": "plan", "memory": plan.report() });
        result(&line.to_string());
    }

    fn event(&self, job: &JobLabel, event: &JobEvent) {
        // Failures of the graph and of writing are told alike, by `failed`.
        if !matches!(event, JobEvent::Failed(_)) {
            Self::print(job, event);
        }
    }

    fn video_written(&self, job: &JobLabel, video: &Path, sidecar: &Path, seconds: f64) {
        Self::print(job, &OwnEvent::Written { video, sidecar, seconds });
    }

    fn failed(&self, job: &JobLabel, failure: &Failure) {
        Self::print(job, &OwnEvent::Failed(failure));
    }
}
