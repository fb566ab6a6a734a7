//! Where metrics go: the Prometheus text format, as a string or on a port.

// Descriptions are registered from the table of names with the raw macros.
#![allow(clippy::disallowed_macros)]

use std::net::SocketAddr;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::names::{Kind, METRICS};

/// Why metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process already exports its metrics.
    #[error("metrics are exported already; install one exporter for each process")]
    AlreadyInstalled,
    /// The exporter could not be built, or its address could not be bound.
    #[error("metrics cannot be exported: {0}")]
    Exporter(BuildError),
}

impl From<BuildError> for TelemetryError {
    fn from(cause: BuildError) -> Self {
        match cause {
            BuildError::FailedToSetGlobalRecorder(_) => Self::AlreadyInstalled,
            other => Self::Exporter(other),
        }
    }
}

/// The metrics of this process as a page of text.
#[derive(Clone)]
pub struct MetricsPage {
    handle: PrometheusHandle,
}

impl MetricsPage {
    /// Everything recorded so far, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

/// Starts collecting the metrics of this process, to be rendered on demand.
///
/// # Errors
/// An exporter is installed already.
pub fn install() -> Result<MetricsPage, TelemetryError> {
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::AlreadyInstalled)?;
    describe();
    Ok(MetricsPage { handle })
}

/// Starts collecting the metrics of this process and serves them over HTTP at `address`.
///
/// # Errors
/// An exporter is installed already, or the address cannot be bound.
pub fn install_with_listener(address: SocketAddr) -> Result<(), TelemetryError> {
    builder()?.with_http_listener(address).install()?;
    describe();
    Ok(())
}

fn builder() -> Result<PrometheusBuilder, TelemetryError> {
    METRICS.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(bounds) => {
            Ok(builder.set_buckets_for_metric(Matcher::Full(metric.name.to_string()), bounds)?)
        }
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::{
        ChannelMetrics, DenoiseMetrics, LoaderMetrics, MemoryMetrics, PromptOutcome, StageMetrics,
    };

    /// One test, since a process has one recorder.
    #[test]
    fn what_is_recorded_is_rendered_under_the_declared_names_only() {
        let page = install().unwrap();
        assert!(matches!(install(), Err(TelemetryError::AlreadyInstalled)));
        let stage = StageMetrics::new("vae_decoder");
        stage.busy(Duration::from_millis(250));
        stage.blocked(Duration::from_millis(50));
        stage.items_in(2);
        stage.items_out(1);
        let channel = ChannelMetrics::new("latents", 3);
        channel.depth(2);
        channel.blocked(Duration::from_secs(1));
        let denoise = DenoiseMetrics::new();
        denoise.step_computed(Some(0.97));
        denoise.leapt_over(12);
        denoise.coasted_over(3);
        let loader = LoaderMetrics::new("vae_decoder");
        loader.loaded(4096, Duration::from_millis(20));
        loader.found();
        loader.waited(Duration::from_millis(10));
        let memory = MemoryMetrics::new(["working", "retained"]);
        memory.budget(3_300_000_000);
        memory.used(1, 85);
        crate::record_embedding_hit();
        crate::record_prompt(PromptOutcome::Finished, Duration::from_secs(5));
        crate::record_queue_depth(4);

        let text = page.render();
        for expected in [
            "sora_stage_busy_seconds_sum{stage=\"vae_decoder\"} 0.25",
            "sora_stage_items_in_total{stage=\"vae_decoder\"} 2",
            "sora_channel_capacity_items{channel=\"latents\"} 3",
            "sora_channel_depth_items{channel=\"latents\"} 2",
            "sora_denoise_steps_leapt_total 12",
            "sora_denoise_steps_coasted_total 3",
            "sora_denoise_drift_cosine_ratio_bucket{le=\"0.98\"} 1",
            "sora_block_read_bytes_total{loader=\"vae_decoder\"} 4096",
            "sora_memory_used_bytes{use=\"retained\"} 85",
            "sora_memory_budget_bytes 3300000000",
            "sora_prompts_total{outcome=\"finished\"} 1",
            "sora_queue_depth_prompts 4",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for line in series {
            let known = METRICS.iter().any(|metric| line.starts_with(metric.name));
            assert!(known, "{line} is not declared");
        }
        for metric in METRICS {
            assert!(text.contains(metric.name), "{} was never recorded", metric.name);
        }
    }
}
