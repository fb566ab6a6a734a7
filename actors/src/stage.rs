//! How a stage runs: on a thread of its own, with panics caught, and with a health that others can see.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sora_models::device_work::releasing;
use sora_telemetry::{StageMetrics, timeline};

use crate::compute::Computed;
use crate::error::{StageFailure, StageName};
use crate::memory::{MemoryLedger, MemoryPermit, MemoryUse, OverBudget};
use crate::pace::{Pace, Turn};

/// What every stage has: its name, its metrics and its health.
pub struct StageCore {
    name: StageName,
    metrics: StageMetrics,
    health: StageHealth,
    pace: OnceLock<Pace>,
}

impl StageCore {
    /// The core of a healthy stage.
    pub fn new(name: StageName) -> Self {
        let metrics = StageMetrics::new(&name.to_string());
        let health = StageHealth { name, death: Arc::default(), busy_nanoseconds: Arc::default() };
        Self { name, metrics, health, pace: OnceLock::new() }
    }

    /// The stage's name.
    pub fn name(&self) -> StageName {
        self.name
    }

    /// Where the stage counts.
    pub fn metrics(&self) -> &StageMetrics {
        &self.metrics
    }

    /// The stage's health, to be watched from outside.
    pub fn health(&self) -> &StageHealth {
        &self.health
    }

    /// Keeps the pace of its graph from now on; a stage that was told none goes as fast as it can.
    pub fn keep_pace(&self, pace: &Pace) {
        // The first graph that a stage is part of is its only one.
        let _ = self.pace.set(pace.clone());
    }

    /// Begins a turn, waiting while the graph is paused. Whoever has one must not begin another.
    pub fn turn(&self) -> Turn {
        self.pace.get_or_init(Pace::default).turn()
    }

    /// Takes the memory that a piece of work needs, waiting for it, and counts the wait.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub fn reserve(&self, ledger: &MemoryLedger, bytes: u64) -> Result<MemoryPermit, OverBudget> {
        let _waiting = timeline::wait_for_memory(bytes);
        let started = Instant::now();
        let reserved = ledger.reserve(MemoryUse::Working, bytes);
        self.metrics.blocked(started.elapsed());
        reserved
    }

    /// Does a piece of work and counts its time. A panic becomes a failure; a dead stage refuses.
    ///
    /// # Errors
    /// The work's own failure, [`StageFailure::Panicked`] or [`StageFailure::StageDied`]; shared, since one cause can
    /// fail several jobs.
    pub fn compute<T>(&self, work: impl FnOnce() -> Computed<T>) -> Result<T, Arc<StageFailure>> {
        let started = Instant::now();
        let outcome = self.guard(work);
        self.worked(started.elapsed());
        outcome
    }

    /// Counts time of work that was done by [`StageCore::guard`].
    pub fn worked(&self, duration: Duration) {
        self.metrics.busy(duration);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.health.busy_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Like [`StageCore::compute`], for work whose time is counted elsewhere.
    ///
    /// # Errors
    /// As [`StageCore::compute`].
    pub fn guard<T>(&self, work: impl FnOnce() -> Computed<T>) -> Result<T, Arc<StageFailure>> {
        if let Some(reason) = self.health.death() {
            return Err(Arc::new(StageFailure::StageDied { reason: reason.to_string() }));
        }
        // What a panic may leave half done is the job's own activation, which is thrown away: models compute
        // behind shared references.
        let outcome = catch_unwind(AssertUnwindSafe(|| releasing(work))).unwrap_or_else(|panic| {
            Err(StageFailure::Panicked { message: panic_message(panic.as_ref()) })
        });
        outcome.map_err(|cause| {
            if let StageFailure::StageDied { reason } = &cause {
                self.health.die(reason);
            }
            Arc::new(cause)
        })
    }
}

/// Whether a stage can still work, and how long it has worked.
#[derive(Clone)]
pub struct StageHealth {
    name: StageName,
    death: Arc<OnceLock<String>>,
    busy_nanoseconds: Arc<AtomicU64>,
}

impl StageHealth {
    /// Whose health it is.
    pub fn name(&self) -> StageName {
        self.name
    }

    /// Why the stage died; `None` while it lives.
    pub fn death(&self) -> Option<&str> {
        self.death.get().map(String::as_str)
    }

    /// How long the stage has computed so far, waits left out.
    pub fn busy_seconds(&self) -> f64 {
        Duration::from_nanos(self.busy_nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }

    fn die(&self, reason: &str) {
        tracing::error!(stage = %self.name, reason, "a stage died");
        // The first death is the cause; what follows from it is not told.
        let _ = self.death.set(reason.to_string());
    }
}

/// A stage's loop.
pub trait Stage: Send {
    /// The stage's core.
    fn core(&self) -> &StageCore;

    /// Works until the input is closed and empty.
    ///
    /// Failures of jobs are no concern of the caller's. Should the stage's own logic panic, the stage is dead, and
    /// this is entered once more, to fail what is left and what still comes.
    fn run(&mut self);
}

impl<S: Stage + ?Sized> Stage for Box<S> {
    fn core(&self) -> &StageCore {
        (**self).core()
    }

    fn run(&mut self) {
        (**self).run();
    }
}

/// A running stage.
pub struct StageThread {
    health: StageHealth,
    thread: JoinHandle<()>,
}

impl StageThread {
    /// Starts `stage` on a thread that bears its name.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub fn spawn(stage: impl Stage + 'static) -> std::io::Result<Self> {
        let health = stage.core().health().clone();
        let name = format!("sora-{}", health.name());
        let run = move || releasing(|| run_to_end(stage));
        let thread = std::thread::Builder::new().name(name).spawn(run)?;
        Ok(Self { health, thread })
    }

    /// The stage's health.
    pub fn health(&self) -> &StageHealth {
        &self.health
    }

    /// Waits for the stage to end, which it does when its input is closed.
    pub fn join(self) {
        // A panic of the thread is in the stage's health already.
        let _ = self.thread.join();
    }
}

fn run_to_end(mut stage: impl Stage) {
    for _ in 0..2 {
        match catch_unwind(AssertUnwindSafe(|| stage.run())) {
            Ok(()) => return,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                stage.core().health().die(&format!("its own logic panicked: {message}"));
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct Failing {
        core: StageCore,
        runs: Arc<std::sync::atomic::AtomicUsize>,
    }

    impl Stage for Failing {
        fn core(&self) -> &StageCore {
            &self.core
        }

        fn run(&mut self) {
            if self.runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                panic!("deliberate");
            }
            assert!(self.core.guard(|| Ok(())).is_err(), "a dead stage computes");
        }
    }

    #[test]
    fn a_stage_whose_logic_panics_is_dead_and_entered_once_more() {
        let runs = Arc::default();
        let core = StageCore::new(StageName::VaeDecoder);
        let stage = StageThread::spawn(Failing { core, runs: Arc::clone(&runs) }).unwrap();
        let health = stage.health().clone();
        stage.join();
        assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 2);
        assert!(health.death().unwrap().contains("deliberate"));
    }

    #[test]
    fn a_panic_in_computation_leaves_the_stage_alive() {
        let core = StageCore::new(StageName::PromptEmbedder);
        let failure = core.compute(|| -> Computed<()> { panic!("deliberate {}", 7) }).unwrap_err();
        assert!(
            matches!(&*failure, StageFailure::Panicked { message } if message == "deliberate 7")
        );
        assert_eq!(core.compute(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn a_death_keeps_its_first_cause() {
        let core = StageCore::new(StageName::PromptEmbedder);
        let died = |reason: &str| Err(StageFailure::StageDied { reason: reason.into() });
        assert!(core.compute(|| -> Computed<()> { died("device lost") }).is_err());
        let failure = core.compute(|| Ok(())).unwrap_err();
        assert!(matches!(&*failure, StageFailure::StageDied { reason } if reason == "device lost"));
    }
}
