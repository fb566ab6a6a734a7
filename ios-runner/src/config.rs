//! How a runner is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use candle_core::DType;
use sora_actors::Load;
use sora_models::bundle::ModelBundle;
use sora_models::{DeviceChoice, Result as ModelResult};
use sora_pipeline::{GraphLimits, MemoryLimits};

use crate::error::RunnerError;

/// How a runner is set up.
#[derive(Debug, Clone, uniffi::Record)]
pub struct RunnerConfig {
    /// The model's folder, with `t5`, `stdit3` and `vae` in it; none for the small model that is part of the program.
    #[uniffi(default = None)]
    pub model_folder: Option<String>,
    /// Where to compute; on the GPU, where there is one, if nothing is said.
    #[uniffi(default = None)]
    pub device: Option<ComputeDevice>,
    /// Number format of weights and activations in memory; 32 bits if nothing is said.
    #[uniffi(default = None)]
    pub precision: Option<ComputePrecision>,
    /// Bytes that the whole program may take; none for no limit.
    #[uniffi(default = None)]
    pub memory_budget_bytes: Option<u64>,
    /// Where unfinished videos are kept until they are finished; made if it is not there. It must outlive the app: the
    /// system empties its own cache folders.
    pub cache_folder: String,
    /// Videos that may wait; one more is refused.
    #[uniffi(default = 16)]
    pub queue_capacity: u32,
    /// Where telemetry goes by itself.
    #[uniffi(default = None)]
    pub telemetry: Option<TelemetryConfig>,
}

/// Where telemetry goes by itself; metrics can always be asked for.
#[derive(Debug, Clone, uniffi::Record)]
pub struct TelemetryConfig {
    /// A file that lines of JSON are added to: metrics, and what becomes of jobs, without their prompts.
    #[uniffi(default = None)]
    pub file: Option<String>,
    /// Seconds between two lines of metrics.
    #[uniffi(default = 10.0)]
    pub interval_seconds: f64,
    /// Serves metrics to Prometheus at this address, such as `0.0.0.0:9090`, for as long as the process runs.
    #[uniffi(default = None)]
    pub scrape_address: Option<String>,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, uniffi::Enum)]
pub enum ComputeDevice {
    /// The GPU, where there is one.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The Apple GPU.
    Metal,
}

/// Number format of weights and activations in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, uniffi::Enum)]
pub enum ComputePrecision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE.
    F16,
    /// 16 bits with the range of 32.
    Bf16,
}

/// How hot the device is, as its system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum ThermalLevel {
    /// As it should be.
    Nominal,
    /// Warm.
    Fair,
    /// Hot: the system slows down.
    Serious,
    /// Too hot.
    Critical,
}

impl From<ThermalLevel> for Load {
    /// Our choice: a warm phone goes on, a hot one works half of the time, and one that is too hot a fifth, so that it can
    /// cool down without losing the video.
    fn from(level: ThermalLevel) -> Self {
        match level {
            ThermalLevel::Nominal | ThermalLevel::Fair => Self::Full,
            ThermalLevel::Serious => Self::Half,
            ThermalLevel::Critical => Self::Fifth,
        }
    }
}

impl From<ComputeDevice> for DeviceChoice {
    fn from(device: ComputeDevice) -> Self {
        match device {
            ComputeDevice::Auto => Self::Auto,
            ComputeDevice::Cpu => Self::Cpu,
            ComputeDevice::Metal => Self::Metal,
        }
    }
}

impl From<ComputePrecision> for DType {
    fn from(precision: ComputePrecision) -> Self {
        match precision {
            ComputePrecision::F32 => Self::F32,
            ComputePrecision::F16 => Self::F16,
            ComputePrecision::Bf16 => Self::BF16,
        }
    }
}

impl RunnerConfig {
    pub(crate) fn open_model(&self) -> ModelResult<ModelBundle> {
        match &self.model_folder {
            Some(folder) => ModelBundle::open(&PathBuf::from(folder)),
            None => ModelBundle::embedded(),
        }
    }

    /// The graph's limits. A listener that blocks harms nobody but itself, so it is never given up: an app that was
    /// suspended for an hour finds its video going on.
    pub(crate) fn limits(&self) -> GraphLimits {
        let mut limits = GraphLimits {
            queue_capacity: self.queue_capacity as usize,
            memory: MemoryLimits {
                budget_bytes: self.memory_budget_bytes.unwrap_or(u64::MAX),
                ..MemoryLimits::default()
            },
            ..GraphLimits::default()
        };
        limits.consumer.patience = Duration::MAX;
        limits
    }
}

impl TelemetryConfig {
    pub(crate) fn interval(&self) -> Result<Duration, RunnerError> {
        seconds(self.interval_seconds)
    }

    pub(crate) fn scrape_address(&self) -> Result<Option<SocketAddr>, RunnerError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                RunnerError::Telemetry(format!(
                    "{text} is no address: expected one such as 0.0.0.0:9090"
                ))
            })
        };
        self.scrape_address.as_ref().map(parse).transpose()
    }
}

/// An interval that a thread can wait for.
pub(crate) fn seconds(seconds: f64) -> Result<Duration, RunnerError> {
    let interval = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds >= 0.1);
    interval.ok_or_else(|| {
        RunnerError::Telemetry(format!("an interval of {seconds} seconds: expected 0.1 or more"))
    })
}
