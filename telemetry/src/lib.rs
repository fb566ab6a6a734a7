//! Every metric and label name of On-device Sora in one place ([`names`]), helpers that record them without naming
//! them, and where they go ([`install`], [`install_with_listener`]).
//!
//! Recorders take their handles when they are made: install an exporter before the pipeline starts.

mod exporter;
pub mod names;
mod recorders;
pub mod timeline;

pub use exporter::{MetricsPage, TelemetryError, install, install_with_listener};
pub use recorders::{
    ChannelMetrics, DenoiseMetrics, LoaderMetrics, MemoryMetrics, PromptOutcome, StageMetrics,
    record_embedding_hit, record_prompt, record_queue_depth, record_refusal,
};
