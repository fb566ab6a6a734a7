//! The streaming text-to-video pipeline: the graph's topology and the actor that controls it.

mod aligned;
pub mod bench;
pub mod config;
pub mod error;
pub mod eval;
mod handle;
mod hexadecimal;
pub mod open_sora;
pub mod output;
mod pipeline_actor;
pub mod plan;
pub mod request_settings;
pub mod saved_job;
#[cfg(feature = "serve")]
pub mod server;
pub mod sidecar;
pub mod sinks;
pub mod snapshot;
pub mod topology;
pub mod whole_file;

pub use config::{GraphLimits, MemoryLimits};
pub use error::{PipelineError, SubmitError};
pub use handle::PipelineHandle;
pub use pipeline_actor::{Job, RequestCheck};
pub use snapshot::PipelineSnapshot;
