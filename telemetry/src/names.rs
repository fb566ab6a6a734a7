//! Names of all metrics and labels, with their kinds, units and meaning.
//!
//! Names start with `sora_` and end in their base unit; counters end in `_total`. Labels take few values, known in
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
/// Outcome: the video is complete.
pub const OUTCOME_FINISHED: &str = "finished";
/// Outcome: a stage failed.
pub const OUTCOME_FAILED: &str = "failed";
/// Outcome: whoever asked gave up.
pub const OUTCOME_CANCELLED: &str = "cancelled";
/// Outcome: the queue was full.
pub const OUTCOME_REFUSED: &str = "refused";

/// Seconds of each piece of work that a stage did; the sum is its busy time.
pub const STAGE_BUSY_SECONDS: &str = "sora_stage_busy_seconds";
/// Seconds of each wait of a stage for the one after it; the sum is its blocked time.
pub const STAGE_BLOCKED_SECONDS: &str = "sora_stage_blocked_seconds";
/// Items that a stage took in.
pub const STAGE_ITEMS_IN: &str = "sora_stage_items_in_total";
/// Items that a stage passed on.
pub const STAGE_ITEMS_OUT: &str = "sora_stage_items_out_total";

/// Items that wait in a channel.
pub const CHANNEL_DEPTH_ITEMS: &str = "sora_channel_depth_items";
/// Items that a channel can hold.
pub const CHANNEL_CAPACITY_ITEMS: &str = "sora_channel_capacity_items";
/// Seconds of each send that had to wait for a free place; the sum is the time blocked.
pub const CHANNEL_BLOCKED_SECONDS: &str = "sora_channel_blocked_seconds";

/// Denoising steps that ran the model.
pub const DENOISE_STEPS_COMPUTED: &str = "sora_denoise_steps_computed_total";
/// Denoising steps that a leap made unnecessary.
pub const DENOISE_STEPS_LEAPT: &str = "sora_denoise_steps_leapt_total";
/// Denoising steps that were walked without the model.
pub const DENOISE_STEPS_COASTED: &str = "sora_denoise_steps_coasted_total";
/// Cosine between the velocities of consecutive evaluations.
pub const DENOISE_DRIFT_COSINE_RATIO: &str = "sora_denoise_drift_cosine_ratio";

/// Blocks of weights that were read.
pub const BLOCK_LOADS: &str = "sora_block_loads_total";
/// Bytes of weights that were read, as stored.
pub const BLOCK_READ_BYTES: &str = "sora_block_read_bytes_total";
/// Blocks of weights that were in memory already.
pub const BLOCK_HITS: &str = "sora_block_hits_total";
/// Seconds of each read of a block; the sum is the time spent loading.
pub const BLOCK_LOAD_SECONDS: &str = "sora_block_load_seconds";
/// Seconds of each wait of a stage for its next block; the sum is what loading cost.
pub const BLOCK_WAIT_SECONDS: &str = "sora_block_wait_seconds";

/// Prompts whose embedding was in memory already.
pub const EMBEDDING_HITS: &str = "sora_embedding_hits_total";

/// Bytes that the models and videos may take.
pub const MEMORY_BUDGET_BYTES: &str = "sora_memory_budget_bytes";
/// Bytes that are held, by use.
pub const MEMORY_USED_BYTES: &str = "sora_memory_used_bytes";

/// Prompts that are over, by outcome.
pub const PROMPTS: &str = "sora_prompts_total";
/// From submission of a prompt to its end, by outcome.
pub const PROMPT_SECONDS: &str = "sora_prompt_seconds";
/// Accepted prompts that wait for the prompt embedder.
pub const QUEUE_DEPTH_PROMPTS: &str = "sora_queue_depth_prompts";

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

/// One metric, as exporters describe it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it is recorded.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

/// From one block of a small model to a long video on a phone. Our choice: two bounds a decade.
const SECONDS: &[f64] =
    &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

/// Drift cosines of a useful model lie close under 1, where a leap is decided. Our choice.
const COSINES: &[f64] = &[0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0];

/// All metrics.
pub const METRICS: &[Metric] = &[
    Metric {
        name: STAGE_BUSY_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds of each piece of work of a stage",
    },
    Metric {
        name: STAGE_BLOCKED_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds of each wait of a stage for the stage after it",
    },
    Metric { name: STAGE_ITEMS_IN, kind: Kind::Counter, help: "Items that a stage took in" },
    Metric { name: STAGE_ITEMS_OUT, kind: Kind::Counter, help: "Items that a stage passed on" },
    Metric {
        name: CHANNEL_DEPTH_ITEMS,
        kind: Kind::Gauge,
        help: "Items that wait in a channel between two stages",
    },
    Metric {
        name: CHANNEL_CAPACITY_ITEMS,
        kind: Kind::Gauge,
        help: "Items that a channel between two stages can hold",
    },
    Metric {
        name: CHANNEL_BLOCKED_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds of each send that waited for a free place in a channel",
    },
    Metric {
        name: DENOISE_STEPS_COMPUTED,
        kind: Kind::Counter,
        help: "Denoising steps that ran the model",
    },
    Metric {
        name: DENOISE_STEPS_LEAPT,
        kind: Kind::Counter,
        help: "Denoising steps that a leap made unnecessary",
    },
    Metric {
        name: DENOISE_STEPS_COASTED,
        kind: Kind::Counter,
        help: "Denoising steps that were walked without the model",
    },
    Metric {
        name: DENOISE_DRIFT_COSINE_RATIO,
        kind: Kind::Histogram(COSINES),
        help: "Cosine between the velocities of consecutive evaluations",
    },
    Metric { name: BLOCK_LOADS, kind: Kind::Counter, help: "Blocks of weights that were read" },
    Metric {
        name: BLOCK_READ_BYTES,
        kind: Kind::Counter,
        help: "Bytes of weights that were read, as stored",
    },
    Metric {
        name: BLOCK_HITS,
        kind: Kind::Counter,
        help: "Blocks of weights that were in memory already",
    },
    Metric {
        name: BLOCK_LOAD_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds of each read of a block",
    },
    Metric {
        name: BLOCK_WAIT_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds of each wait of a stage for its next block",
    },
    Metric {
        name: EMBEDDING_HITS,
        kind: Kind::Counter,
        help: "Prompts whose embedding was in memory already",
    },
    Metric {
        name: MEMORY_BUDGET_BYTES,
        kind: Kind::Gauge,
        help: "Bytes that models and videos may take",
    },
    Metric { name: MEMORY_USED_BYTES, kind: Kind::Gauge, help: "Bytes that are held, by use" },
    Metric { name: PROMPTS, kind: Kind::Counter, help: "Prompts that are over, by outcome" },
    Metric {
        name: PROMPT_SECONDS,
        kind: Kind::Histogram(SECONDS),
        help: "Seconds from submission of a prompt to its end, by outcome",
    },
    Metric {
        name: QUEUE_DEPTH_PROMPTS,
        kind: Kind::Gauge,
        help: "Accepted prompts that wait for the prompt embedder",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Base units, and what is counted instead where there is no unit.
    const UNITS: &[&str] = &["_seconds", "_bytes", "_ratio", "_items", "_prompts"];

    #[test]
    fn names_follow_the_grammar() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("sora_"), "{name}: prefix");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}: letters");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}: _total");
            let has_unit = UNITS.iter().any(|unit| name.ends_with(unit));
            assert!(has_unit || metric.kind == Kind::Counter, "{name}: unit");
            assert!(!metric.help.is_empty(), "{name}: help");
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
}
