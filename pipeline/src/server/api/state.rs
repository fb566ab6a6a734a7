//! What all handlers share.

use std::sync::Arc;

use sora_models::bundle::GenerationConfig;
use sora_telemetry::MetricsPage;

use super::streams::StreamPlaces;
use crate::PipelineHandle;
use crate::server::auth::ApiKeys;
use crate::server::dispatcher::Retention;
use crate::server::folder::DataFolder;
use crate::server::limits::RequestLimits;
use crate::server::live::LiveVideos;
use crate::server::store::Store;

/// What all handlers share.
pub struct ApiState {
    /// The record of all videos.
    pub store: Store,
    /// What is going on right now.
    pub live: Arc<LiveVideos>,
    /// Where files are.
    pub folder: Arc<DataFolder>,
    /// The graph, to be asked what it can do.
    pub pipeline: PipelineHandle,
    /// The model's own defaults.
    pub defaults: GenerationConfig,
    /// Names that the model answers to; the first is its own.
    pub model_names: Vec<String>,
    /// Weights, device and dtype, as the record names them.
    pub fingerprint: String,
    /// When the server was started, in seconds of Unix time.
    pub started_at: i64,
    /// Who may use it.
    pub keys: ApiKeys,
    /// What may be asked for.
    pub limits: RequestLimits,
    /// How long videos are kept.
    pub retention: Retention,
    /// Places for streams of events.
    pub event_streams: StreamPlaces,
    /// The metrics of this process.
    pub metrics: MetricsPage,
    /// Whether prompts go to the log.
    pub log_prompts: bool,
}
