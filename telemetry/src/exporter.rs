//! Where metrics go: the Prometheus text format, as a string or on a port.

// Descriptions are registered from the table of names with the raw macros.
#![allow(clippy::disallowed_macros)]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::Notify;

use crate::names::{Kind, METRICS};
use crate::process::ProcessProbe;
use crate::recorders::begin_counting_prompts;
use crate::scrape_port::ScrapePort;

/// How often the process is looked at, and times that were recorded are sorted into their buckets. Our choice: more often
/// than anybody scrapes; a look takes well under a thousandth of it.
const UPKEEP: Duration = Duration::from_secs(1);

/// Why metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process already exports its metrics.
    #[error("metrics are exported already; install one exporter for each process")]
    AlreadyInstalled,
    /// The exporter could not be built.
    #[error("metrics cannot be exported: {0}")]
    Exporter(BuildError),
    /// The address cannot be listened at.
    #[error("metrics cannot be served at {address}: {cause}; free it, or choose another one")]
    Address {
        /// What was given.
        address: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The operating system gave no thread, or nothing to wait with.
    #[error("metrics cannot be exported: the system gives no thread, or nothing to wait with: {0}")]
    Thread(#[from] io::Error),
    /// Metrics cannot be pushed to this address.
    #[error("metrics cannot be pushed to {url}: {reason}")]
    PushAddress {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<BuildError> for TelemetryError {
    fn from(cause: BuildError) -> Self {
        match cause {
            BuildError::FailedToSetGlobalRecorder(_) => Self::AlreadyInstalled,
            other => Self::Exporter(other),
        }
    }
}

/// The metrics of this process as a page of text. Clones show the same.
#[derive(Clone)]
pub struct MetricsPage {
    handle: PrometheusHandle,
    process: Arc<Mutex<ProcessProbe>>,
    /// Where the page is served, to be listened at anew.
    port: Option<Arc<Notify>>,
}

impl MetricsPage {
    /// Everything recorded so far, in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.look_at_process();
        self.handle.render()
    }

    /// Closes the port that the page is served at, if it is, and opens it again: a phone takes it from an app that it suspends, and
    /// tells nobody. Where it was well, a scrape that comes just then fails.
    pub fn listen_again(&self) {
        if let Some(port) = &self.port {
            port.notify_one();
        }
    }

    fn look_at_process(&self) {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).record();
    }

    /// A page of its own with one metric, whatever the process records.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::gauge!("sora_test").set(1.0));
        let process = Arc::new(Mutex::new(ProcessProbe::new()));
        Self { handle: recorder.handle(), process, port: None }
    }

    /// Looks after the page for as long as the process runs.
    fn keep_up(self) -> io::Result<()> {
        let upkeep = move || loop {
            thread::sleep(UPKEEP);
            self.look_at_process();
            self.handle.run_upkeep();
        };
        thread::Builder::new().name("sora-metrics".into()).spawn(upkeep).map(drop)
    }
}

/// Starts collecting the metrics of this process, to be rendered on demand.
///
/// # Errors
/// An exporter is installed already, or no thread can be started.
pub fn install() -> Result<MetricsPage, TelemetryError> {
    begin(None)
}

/// Starts collecting the metrics of this process and serves them over HTTP at `address`, whatever the path, for as long as the
/// process runs. If the address is lost, it is taken again as soon as it can be.
///
/// # Errors
/// An exporter is installed already, the address cannot be bound, or the system gives no thread, or nothing to wait with.
pub fn install_with_listener(address: SocketAddr) -> Result<MetricsPage, TelemetryError> {
    let port = ScrapePort::bind(address)?;
    let page = begin(Some(port.renewal()))?;
    port.serve(page.clone())?;
    Ok(page)
}

fn begin(port: Option<Arc<Notify>>) -> Result<MetricsPage, TelemetryError> {
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::AlreadyInstalled)?;
    describe();
    begin_counting_prompts();
    let page = MetricsPage { handle, process: Arc::new(Mutex::new(ProcessProbe::new())), port };
    page.look_at_process();
    page.clone().keep_up()?;
    Ok(page)
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

    use std::collections::BTreeSet;

    use super::*;
    use crate::names::metric_of_series;
    use crate::samples::samples;
    use crate::{
        ChannelMetrics, DenoiseMetrics, LoaderMetrics, MemoryMetrics, PreviewOutcome,
        PromptOutcome, StageMetrics,
    };

    /// Records every metric there is.
    fn record_all() {
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
        crate::record_first_step(Duration::from_secs(2));
        crate::record_queue_depth(4);
        crate::record_prompt_entered();
        crate::record_prompt_entered();
        crate::record_prompt_left();
        crate::record_preview(PreviewOutcome::Skipped);
        crate::record_server_queue(7);
        crate::record_server_trouble(true);
        let route = "/v1/videos/{id}";
        crate::record_http_request(route, "GET", 404, Duration::from_millis(2));
    }

    /// One test, since a process has one recorder.
    #[test]
    fn what_is_recorded_is_rendered_under_the_declared_names_only() {
        let page = install().unwrap();
        assert!(matches!(install(), Err(TelemetryError::AlreadyInstalled)));
        record_all();
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
            "sora_prompt_first_step_seconds_sum 2",
            "sora_queue_depth_prompts 4",
            "sora_graph_prompts 1",
            "sora_server_trouble 1",
            // Nothing was refused, and that is told, too.
            "sora_prompts_total{outcome=\"refused\"} 0",
            "sora_http_requests_total{route=\"/v1/videos/{id}\",method=\"GET\",status=\"404\"} 1",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let mut recorded = BTreeSet::new();
        for sample in samples(&text) {
            let metric = metric_of_series(sample.name).unwrap_or_else(|| panic!("{sample:?}"));
            let labels = sample.labels.iter().map(|(name, _)| *name);
            let labels: BTreeSet<_> = labels.filter(|name| *name != "le").collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
            recorded.insert(metric.name);
        }
        for metric in METRICS {
            assert!(recorded.contains(metric.name), "{} was never recorded", metric.name);
            let (name, kind) = (metric.name, metric.kind.as_str());
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
            assert!(text.contains(&format!("# HELP {name} {}\n", metric.help)), "{name}: help");
        }
        let resident = samples(&text).find(|s| s.name == crate::names::PROCESS_RESIDENT_BYTES);
        assert!(resident.unwrap().value > 1e6);
    }
}
