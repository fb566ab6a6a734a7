//! Recording without naming: each helper takes its handles once, so that recording is an atomic addition.

// The only place that may use the raw macros; everything else goes through these helpers.
#![allow(clippy::disallowed_macros)]

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::names;

/// Work, waits and items of one stage.
#[derive(Clone)]
pub struct StageMetrics {
    busy_seconds: Histogram,
    blocked_seconds: Histogram,
    items_in: Counter,
    items_out: Counter,
}

impl StageMetrics {
    /// Recorder for the stage of this name.
    pub fn new(stage: &str) -> Self {
        let labels = [(names::LABEL_STAGE, stage.to_string())];
        Self {
            busy_seconds: histogram!(names::STAGE_BUSY_SECONDS, &labels),
            blocked_seconds: histogram!(names::STAGE_BLOCKED_SECONDS, &labels),
            items_in: counter!(names::STAGE_ITEMS_IN, &labels),
            items_out: counter!(names::STAGE_ITEMS_OUT, &labels),
        }
    }

    /// The stage worked for this long.
    pub fn busy(&self, duration: Duration) {
        self.busy_seconds.record(duration.as_secs_f64());
    }

    /// The stage waited for this long to hand something on.
    pub fn blocked(&self, duration: Duration) {
        self.blocked_seconds.record(duration.as_secs_f64());
    }

    /// The stage took this many items in.
    pub fn items_in(&self, items: usize) {
        self.items_in.increment(items as u64);
    }

    /// The stage passed this many items on.
    pub fn items_out(&self, items: usize) {
        self.items_out.increment(items as u64);
    }
}

/// Depth and waits of one channel.
#[derive(Clone)]
pub struct ChannelMetrics {
    depth: Gauge,
    blocked_seconds: Histogram,
}

impl ChannelMetrics {
    /// Recorder for the channel of this name; its capacity never changes.
    pub fn new(channel: &str, capacity: usize) -> Self {
        let labels = [(names::LABEL_CHANNEL, channel.to_string())];
        gauge!(names::CHANNEL_CAPACITY_ITEMS, &labels).set(capacity as f64);
        Self {
            depth: gauge!(names::CHANNEL_DEPTH_ITEMS, &labels),
            blocked_seconds: histogram!(names::CHANNEL_BLOCKED_SECONDS, &labels),
        }
    }

    /// The channel holds this many items now.
    pub fn depth(&self, items: usize) {
        self.depth.set(items as f64);
    }

    /// A send waited this long for a free place.
    pub fn blocked(&self, duration: Duration) {
        self.blocked_seconds.record(duration.as_secs_f64());
    }
}

/// Denoising steps and their drift.
#[derive(Clone)]
pub struct DenoiseMetrics {
    steps_computed: Counter,
    steps_leapt: Counter,
    steps_coasted: Counter,
    drift_cosine: Histogram,
}

impl DenoiseMetrics {
    /// The recorder.
    pub fn new() -> Self {
        Self {
            steps_computed: counter!(names::DENOISE_STEPS_COMPUTED),
            steps_leapt: counter!(names::DENOISE_STEPS_LEAPT),
            steps_coasted: counter!(names::DENOISE_STEPS_COASTED),
            drift_cosine: histogram!(names::DENOISE_DRIFT_COSINE_RATIO),
        }
    }

    /// A step ran the model; `cosine` is the drift against the step before it, where it was measured.
    pub fn step_computed(&self, cosine: Option<f64>) {
        self.steps_computed.increment(1);
        if let Some(cosine) = cosine {
            self.drift_cosine.record(cosine);
        }
    }

    /// A leap made this many steps unnecessary.
    pub fn leapt_over(&self, steps: usize) {
        self.steps_leapt.increment(steps as u64);
    }

    /// This many steps were walked without the model.
    pub fn coasted_over(&self, steps: usize) {
        self.steps_coasted.increment(steps as u64);
    }
}

impl Default for DenoiseMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Blocks of one loader, and the waits for them.
#[derive(Clone)]
pub struct LoaderMetrics {
    loads: Counter,
    read_bytes: Counter,
    hits: Counter,
    load_seconds: Histogram,
    wait_seconds: Histogram,
}

impl LoaderMetrics {
    /// Recorder for the loader that serves the stage of this name.
    pub fn new(stage: &str) -> Self {
        let labels = [(names::LABEL_LOADER, stage.to_string())];
        Self {
            loads: counter!(names::BLOCK_LOADS, &labels),
            read_bytes: counter!(names::BLOCK_READ_BYTES, &labels),
            hits: counter!(names::BLOCK_HITS, &labels),
            load_seconds: histogram!(names::BLOCK_LOAD_SECONDS, &labels),
            wait_seconds: histogram!(names::BLOCK_WAIT_SECONDS, &labels),
        }
    }

    /// A block of so many stored bytes was read in this time.
    pub fn loaded(&self, stored_bytes: u64, duration: Duration) {
        self.loads.increment(1);
        self.read_bytes.increment(stored_bytes);
        self.load_seconds.record(duration.as_secs_f64());
    }

    /// A block was in memory already.
    pub fn found(&self) {
        self.hits.increment(1);
    }

    /// The stage waited this long for its next block.
    pub fn waited(&self, duration: Duration) {
        self.wait_seconds.record(duration.as_secs_f64());
    }
}

/// The budget of memory and what is held of it.
pub struct MemoryMetrics {
    budget: Gauge,
    used: Vec<Gauge>,
}

impl MemoryMetrics {
    /// Recorder for memory that is held for these uses.
    pub fn new<const N: usize>(uses: [&'static str; N]) -> Self {
        let used = uses.map(|name| gauge!(names::MEMORY_USED_BYTES, names::LABEL_USE => name));
        Self { budget: gauge!(names::MEMORY_BUDGET_BYTES), used: used.into() }
    }

    /// The budget is this many bytes now.
    pub fn budget(&self, bytes: u64) {
        self.budget.set(bytes as f64);
    }

    /// So many bytes are held now for the use at this place of the list.
    pub fn used(&self, purpose: usize, bytes: u64) {
        if let Some(gauge) = self.used.get(purpose) {
            gauge.set(bytes as f64);
        }
    }
}

/// What became of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptOutcome {
    /// Its video is complete.
    Finished,
    /// A stage failed it.
    Failed,
    /// Its sender gave up on it.
    Cancelled,
}

impl PromptOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Finished => names::OUTCOME_FINISHED,
            Self::Failed => names::OUTCOME_FAILED,
            Self::Cancelled => names::OUTCOME_CANCELLED,
        }
    }
}

/// A prompt is over, this long after it was submitted.
pub fn record_prompt(outcome: PromptOutcome, duration: Duration) {
    let labels = [(names::LABEL_OUTCOME, outcome.label())];
    counter!(names::PROMPTS, &labels).increment(1);
    histogram!(names::PROMPT_SECONDS, &labels).record(duration.as_secs_f64());
}

/// A prompt's first denoising step is done, this long after it was submitted.
pub fn record_first_step(duration: Duration) {
    histogram!(names::PROMPT_FIRST_STEP_SECONDS).record(duration.as_secs_f64());
}

/// The graph took a prompt in.
pub fn record_prompt_entered() {
    gauge!(names::GRAPH_PROMPTS).increment(1.0);
}

/// A prompt that the graph took in is over.
pub fn record_prompt_left() {
    gauge!(names::GRAPH_PROMPTS).decrement(1.0);
}

/// Begins to count prompts, each outcome from 0: whoever watches sees a count rise only from its second value on.
pub(crate) fn begin_counting_prompts() {
    let ends = [PromptOutcome::Finished, PromptOutcome::Failed, PromptOutcome::Cancelled];
    for outcome in ends.map(PromptOutcome::label).into_iter().chain([names::OUTCOME_REFUSED]) {
        counter!(names::PROMPTS, names::LABEL_OUTCOME => outcome).increment(0);
    }
}

/// A prompt was not accepted: the queue was full.
pub fn record_refusal() {
    counter!(names::PROMPTS, names::LABEL_OUTCOME => names::OUTCOME_REFUSED).increment(1);
}

/// A prompt skipped the text encoder: its embedding was in memory already.
pub fn record_embedding_hit() {
    counter!(names::EMBEDDING_HITS).increment(1);
}

/// This many accepted prompts wait.
pub fn record_queue_depth(prompts: usize) {
    gauge!(names::QUEUE_DEPTH_PROMPTS).set(prompts as f64);
}

/// What became of a wish for a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewOutcome {
    /// It was made.
    Finished,
    /// Its job ended first, or the one before had not been taken.
    Skipped,
    /// Making it failed.
    Failed,
}

/// A wish for a preview is over.
pub fn record_preview(outcome: PreviewOutcome) {
    let label = match outcome {
        PreviewOutcome::Finished => names::OUTCOME_FINISHED,
        PreviewOutcome::Skipped => names::OUTCOME_SKIPPED,
        PreviewOutcome::Failed => names::OUTCOME_FAILED,
    };
    counter!(names::PREVIEWS, names::LABEL_OUTCOME => label).increment(1);
}
