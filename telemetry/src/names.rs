//! Names of all metrics and labels, with their kinds, units and meaning.
//!
//! Names start with `sora_` and end in their base unit; counters end in `_total`. What every program has (memory, CPU)
//! starts with `process_` and is named as the other clients of Prometheus name it. Labels take few values, known in
//! advance: a stage, a channel, an outcome; never a prompt or a job.

/// Label: which stage of the graph.
pub const LABEL_STAGE: &str = "stage";
/// Label: which channel between two stages.
pub const LABEL_CHANNEL: &str = "channel";
/// Label: what became of a prompt.
pub const LABEL_OUTCOME: &str = "outcome";
/// Label: which stage a block loader serves.
pub const LABEL_LOADER: &str = "loader";
/// Label: what memory is held for.
pub const LABEL_USE: &str = "use";
/// Label: the version of the program.
pub const LABEL_VERSION: &str = "version";
/// Label: the pattern of a path that the server knows, such as `/v1/videos/{id}`; never the path itself.
pub const LABEL_ROUTE: &str = "route";
/// Label: the method of an HTTP request.
pub const LABEL_METHOD: &str = "method";
/// Label: the status of an HTTP answer.
pub const LABEL_STATUS: &str = "status";
/// Outcome: the video, or the preview, is complete.
pub const OUTCOME_FINISHED: &str = "finished";
/// Outcome: a stage failed.
pub const OUTCOME_FAILED: &str = "failed";
/// Outcome: whoever asked gave up.
pub const OUTCOME_CANCELLED: &str = "cancelled";
/// Outcome: the queue was full.
pub const OUTCOME_REFUSED: &str = "refused";
/// Outcome: a preview was left out, since it would have delayed other work.
pub const OUTCOME_SKIPPED: &str = "skipped";

/// How a metric is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over these bucket bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric, as exporters describe it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it is recorded.
    pub kind: Kind,
    /// The labels that each of its series has.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// From one block of a small model to a long video on a phone. Our choice: two bounds a decade.
const SECONDS: &[f64] =
    &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

/// Drift cosines of a useful model lie close under 1, where a leap is decided. Our choice.
const COSINES: &[f64] = &[0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0];

const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;
const TIMES: Kind = Kind::Histogram(SECONDS);

/// Declares each metric once: its documentation is what exporters say of it, too.
macro_rules! metrics {
    ($(#[doc = $help:literal] $constant:ident = $name:literal: $kind:expr, [$($label:ident),*];)+) => {
        $(#[doc = $help] pub const $constant: &str = $name;)+

        /// All metrics.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help.trim_ascii() }),+
        ];
    };
}

metrics! {
    /// Seconds of each piece of work of a stage; the sum is its busy time.
    STAGE_BUSY_SECONDS = "sora_stage_busy_seconds": TIMES, [LABEL_STAGE];
    /// Seconds of each wait of a stage, for the stage after it or for memory; the sum is its blocked time.
    STAGE_BLOCKED_SECONDS = "sora_stage_blocked_seconds": TIMES, [LABEL_STAGE];
    /// Items that a stage took in.
    STAGE_ITEMS_IN = "sora_stage_items_in_total": COUNTER, [LABEL_STAGE];
    /// Items that a stage passed on.
    STAGE_ITEMS_OUT = "sora_stage_items_out_total": COUNTER, [LABEL_STAGE];

    /// Items that wait in a channel between two stages.
    CHANNEL_DEPTH_ITEMS = "sora_channel_depth_items": GAUGE, [LABEL_CHANNEL];
    /// Items that a channel between two stages can hold.
    CHANNEL_CAPACITY_ITEMS = "sora_channel_capacity_items": GAUGE, [LABEL_CHANNEL];
    /// Seconds of each send that waited for a free place in a channel; the sum is the time blocked.
    CHANNEL_BLOCKED_SECONDS = "sora_channel_blocked_seconds": TIMES, [LABEL_CHANNEL];

    /// Denoising steps that ran the model.
    DENOISE_STEPS_COMPUTED = "sora_denoise_steps_computed_total": COUNTER, [];
    /// Denoising steps that a leap made unnecessary.
    DENOISE_STEPS_LEAPT = "sora_denoise_steps_leapt_total": COUNTER, [];
    /// Denoising steps that were walked without the model.
    DENOISE_STEPS_COASTED = "sora_denoise_steps_coasted_total": COUNTER, [];
    /// Cosine between the velocities of consecutive evaluations.
    DENOISE_DRIFT_COSINE_RATIO = "sora_denoise_drift_cosine_ratio": Kind::Histogram(COSINES), [];

    /// Blocks of weights that were read.
    BLOCK_LOADS = "sora_block_loads_total": COUNTER, [LABEL_LOADER];
    /// Bytes of weights that were read, as stored.
    BLOCK_READ_BYTES = "sora_block_read_bytes_total": COUNTER, [LABEL_LOADER];
    /// Blocks of weights that were in memory already.
    BLOCK_HITS = "sora_block_hits_total": COUNTER, [LABEL_LOADER];
    /// Seconds of each read of a block; the sum is the time spent loading.
    BLOCK_LOAD_SECONDS = "sora_block_load_seconds": TIMES, [LABEL_LOADER];
    /// Seconds of each wait of a stage for its next block; the sum is what loading cost.
    BLOCK_WAIT_SECONDS = "sora_block_wait_seconds": TIMES, [LABEL_LOADER];
    /// Prompts whose embedding was in memory already.
    EMBEDDING_HITS = "sora_embedding_hits_total": COUNTER, [];

    /// Bytes that models and videos may take.
    MEMORY_BUDGET_BYTES = "sora_memory_budget_bytes": GAUGE, [];
    /// Bytes that are held, by use.
    MEMORY_USED_BYTES = "sora_memory_used_bytes": GAUGE, [LABEL_USE];

    /// Prompts that are over, by outcome.
    PROMPTS = "sora_prompts_total": COUNTER, [LABEL_OUTCOME];
    /// Seconds from when a prompt was accepted to its end, by outcome.
    PROMPT_SECONDS = "sora_prompt_seconds": TIMES, [LABEL_OUTCOME];
    /// Seconds from when a prompt was accepted to the end of its first denoising step.
    PROMPT_FIRST_STEP_SECONDS = "sora_prompt_first_step_seconds": TIMES, [];
    /// Accepted prompts that wait for the prompt embedder.
    QUEUE_DEPTH_PROMPTS = "sora_queue_depth_prompts": GAUGE, [];
    /// Prompts in the graph: taken in, and not over.
    GRAPH_PROMPTS = "sora_graph_prompts": GAUGE, [];
    /// Previews of unfinished videos, by outcome.
    PREVIEWS = "sora_previews_total": COUNTER, [LABEL_OUTCOME];

    /// HTTP requests that were answered.
    HTTP_REQUESTS = "sora_http_requests_total": COUNTER, [LABEL_ROUTE, LABEL_METHOD, LABEL_STATUS];
    /// Seconds from an HTTP request to the head of its answer.
    HTTP_REQUEST_SECONDS = "sora_http_request_seconds": TIMES, [LABEL_ROUTE, LABEL_METHOD];
    /// Prompts that the server has on disk and that wait for their turn.
    SERVER_QUEUE_PROMPTS = "sora_server_queue_prompts": GAUGE, [];
    /// 1 while the server can make no video for want of its disk, its weights or its device, else 0.
    SERVER_TROUBLE = "sora_server_trouble": GAUGE, [];

    /// 1, labelled with the version that runs.
    BUILD_INFO = "sora_build_info": GAUGE, [LABEL_VERSION];
    /// Seconds of CPU time that this process has used, whole ones.
    PROCESS_CPU_SECONDS = "process_cpu_seconds_total": COUNTER, [];
    /// Bytes of this process that are in memory, as the operating system counts them.
    PROCESS_RESIDENT_BYTES = "process_resident_memory_bytes": GAUGE, [];
    /// Bytes of addresses that this process has mapped.
    PROCESS_VIRTUAL_BYTES = "process_virtual_memory_bytes": GAUGE, [];
    /// When this process started, in seconds since 1970.
    PROCESS_START_SECONDS = "process_start_time_seconds": GAUGE, [];
}

/// The metric that a name in a query means: histograms are asked for by their parts.
pub fn metric_of_series(series: &str) -> Option<&'static Metric> {
    let named = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    named(series).or_else(|| {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| series.strip_suffix(part))?;
        named(whole).filter(|metric| matches!(metric.kind, Kind::Histogram(_)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Base units, and what is counted or is 0 or 1 instead where there is no unit.
    const UNITS: &[&str] =
        &["_seconds", "_bytes", "_ratio", "_items", "_prompts", "_info", "_trouble"];

    #[test]
    fn names_follow_the_grammar() {
        let letters = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("sora_") || name.starts_with("process_"), "{name}: prefix");
            assert!(letters(name), "{name}: letters");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}: _total");
            let has_unit = UNITS.iter().any(|unit| name.ends_with(unit));
            assert!(has_unit || metric.kind == Kind::Counter, "{name}: unit");
            assert!(metric.help.ends_with('.') && !metric.help.starts_with(' '), "{name}: help");
            assert!(metric.labels.iter().all(|label| letters(label)), "{name}: labels");
        }
    }

    #[test]
    fn names_are_distinct_and_buckets_rise() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
            }
        }
    }

    #[test]
    fn a_part_of_a_histogram_means_the_histogram() {
        assert_eq!(metric_of_series("sora_prompt_seconds_sum").unwrap().name, PROMPT_SECONDS);
        assert_eq!(metric_of_series("sora_prompts_total").unwrap().name, PROMPTS);
        assert!(metric_of_series("sora_prompts_total_sum").is_none());
        assert!(metric_of_series("sora_prompt").is_none());
    }
}
