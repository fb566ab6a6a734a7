//! Every metric and label name of On-device Sora in one place ([`names`]), helpers that record them without naming
//! them, and where they go: a page in Prometheus' format ([`install`], [`install_with_listener`]), a gateway ([`Pusher`]),
//! lines for those who watch ([`Reporter`]).
//!
//! Recorders take their handles when they are made: install an exporter before the pipeline starts.

mod exporter;
mod http;
mod live_line;
pub mod names;
mod process;
mod pusher;
mod recorders;
mod reporter;
pub mod samples;
mod scrape_port;
pub mod timeline;

pub use exporter::{MetricsPage, TelemetryError, install, install_with_listener};
pub use http::{record_http_request, record_server_queue, record_server_trouble};
pub use process::record_resident_bytes;
pub use pusher::{PushAddress, Pusher};
pub use recorders::{
    ChannelMetrics, DenoiseMetrics, LoaderMetrics, MemoryMetrics, PreviewOutcome, PromptOutcome,
    StageMetrics, record_embedding_hit, record_first_step, record_preview, record_prompt,
    record_prompt_entered, record_prompt_left, record_queue_depth, record_refusal,
};
pub use reporter::{ReportForm, Reporter};
