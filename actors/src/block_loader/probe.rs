//! What a loader has done so far, for observers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sora_telemetry::LoaderMetrics;

use crate::error::LoaderOf;

/// Observes a loader from outside.
#[derive(Clone)]
pub struct LoaderProbe {
    shared: Arc<Counts>,
}

struct Counts {
    owner: LoaderOf,
    loads: AtomicU64,
    read_bytes: AtomicU64,
    /// Of the sweep under way.
    sweep_read_bytes: AtomicU64,
    swept_bytes: AtomicU64,
    hits: AtomicU64,
    load_nanoseconds: AtomicU64,
    wait_nanoseconds: AtomicU64,
    metrics: LoaderMetrics,
}

/// What a loader had done at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoaderSnapshot {
    /// The stage that it serves.
    pub stage: String,
    /// Blocks that were read.
    pub loads: u64,
    /// Bytes of them, as stored.
    pub read_bytes: u64,
    /// Of those, what belongs to sweeps that were delivered to their last block: nothing read ahead for the next one.
    pub swept_bytes: u64,
    /// Blocks that were in memory already.
    pub hits: u64,
    /// Time spent reading.
    pub load_seconds: f64,
    /// Time that the stage waited for blocks.
    pub wait_seconds: f64,
}

impl LoaderProbe {
    pub(super) fn new(owner: LoaderOf) -> Self {
        let metrics = LoaderMetrics::new(&owner.to_string());
        let zero = AtomicU64::default;
        Self {
            shared: Arc::new(Counts {
                owner,
                loads: zero(),
                read_bytes: zero(),
                sweep_read_bytes: zero(),
                swept_bytes: zero(),
                hits: zero(),
                load_nanoseconds: zero(),
                wait_nanoseconds: zero(),
                metrics,
            }),
        }
    }

    /// What the loader has done so far.
    pub fn observe(&self) -> LoaderSnapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let seconds = |nanoseconds| Duration::from_nanos(count(nanoseconds)).as_secs_f64();
        let counts = &self.shared;
        LoaderSnapshot {
            stage: counts.owner.to_string(),
            loads: count(&counts.loads),
            read_bytes: count(&counts.read_bytes),
            swept_bytes: count(&counts.swept_bytes),
            hits: count(&counts.hits),
            load_seconds: seconds(&counts.load_nanoseconds),
            wait_seconds: seconds(&counts.wait_nanoseconds),
        }
    }

    pub(super) fn sweep_begins(&self) {
        self.shared.sweep_read_bytes.store(0, Ordering::Relaxed);
    }

    pub(super) fn sweep_is_read(&self) {
        let read = self.shared.sweep_read_bytes.load(Ordering::Relaxed);
        self.shared.swept_bytes.fetch_add(read, Ordering::Relaxed);
    }

    pub(super) fn loaded(&self, stored_bytes: u64, duration: Duration) {
        self.shared.loads.fetch_add(1, Ordering::Relaxed);
        self.shared.read_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
        self.shared.sweep_read_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
        add(&self.shared.load_nanoseconds, duration);
        self.shared.metrics.loaded(stored_bytes, duration);
    }

    pub(super) fn found(&self) {
        self.shared.hits.fetch_add(1, Ordering::Relaxed);
        self.shared.metrics.found();
    }

    pub(super) fn waited(&self, duration: Duration) {
        add(&self.shared.wait_nanoseconds, duration);
        self.shared.metrics.waited(duration);
    }
}

fn add(total: &AtomicU64, duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    total.fetch_add(nanoseconds, Ordering::Relaxed);
}
