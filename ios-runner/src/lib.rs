//! The streaming text-to-video graph for apps on phones.
//!
//! A [`SoraRunner`] owns a graph and the thread that controls it. [`SoraRunner::submit`] hands in a video and gives back a
//! [`SoraJob`]; what becomes of it is told to a [`JobListener`], which the app implements. Swift and Python see the same
//! objects through UniFFI.
//!
//! # What holds at this boundary
//! - No panic crosses it: what can fail returns a [`RunnerError`], and a listener that throws ends its own job alone.
//! - Nobody is waited for: listeners are called on a thread of each job, so one that blocks holds up its own video only.
//! - Whatever the app drops, and when, ends: a job that is dropped is cancelled, a runner that is dropped stops.
//! - What was done is not lost: jobs are saved as they go, and [`SoraRunner::unfinished`] finds them after a crash.

mod config;
mod delivery;
mod engine;
mod error;
mod frame;
mod job;
mod listener;
mod memory;
mod metrics;
mod model;
mod request;
mod runner;
mod saved;
mod self_check;
mod telemetry_file;

pub use config::{ComputeDevice, ComputePrecision, RunnerConfig, TelemetryConfig, ThermalLevel};
pub use error::{FailureKind, JobFailure, ListenerError, RunnerError};
pub use frame::SoraFrame;
pub use job::SoraJob;
pub use listener::{JobListener, ProgressEvent, VideoSummary};
pub use memory::{MemoryState, VideoPlan};
pub use model::{ModelDescription, embedded_prompts, runner_version};
pub use request::{LeapSetting, MergeSetting, VideoRequest};
pub use runner::{RunnerStatus, SoraRunner};
pub use saved::UnfinishedVideo;
pub use self_check::{BlockTiming, GoldenCase};

uniffi::setup_scaffolding!();
