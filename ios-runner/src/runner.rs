//! The object that an app holds.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sora_actors::{JobOrder, Load};
use sora_models::checkpoint_tools::Preset;
use sora_telemetry::{MetricsPage, PushAddress, Pusher};

use crate::config::{RunnerConfig, ThermalLevel, seconds};
use crate::delivery::Delivery;
use crate::engine::{Engine, in_background, thread_refused};
use crate::error::RunnerError;
use crate::job::SoraJob;
use crate::listener::JobListener;
use crate::memory::{MemoryState, VideoPlan};
use crate::metrics;
use crate::model::ModelDescription;
use crate::request::VideoRequest;
use crate::saved::{KeptJob, UnfinishedVideo};
use crate::self_check::{BlockTiming, GoldenCase, benchmark_bytes, golden_cases, time_parts};
use crate::telemetry_file::TelemetryLines;

/// A model and the graph that makes videos with it.
///
/// Methods are called from any thread, and none waits for a video. When the last reference is dropped, jobs under way are
/// cancelled and everything ends by itself; [`SoraRunner::close`] does so and returns when it has.
#[derive(uniffi::Object)]
pub struct SoraRunner {
    engine: Engine,
    page: MetricsPage,
    lines: Mutex<Option<TelemetryLines>>,
    pusher: Mutex<Option<Pusher>>,
}

/// The runner at one moment.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RunnerStatus {
    /// Whether videos are taken.
    pub accepting: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Videos that are not over.
    pub jobs: u32,
    /// Stages that died, with the reason: the runner must be opened anew.
    pub deaths: Vec<String>,
    /// The account of memory.
    pub memory: MemoryState,
}

#[uniffi::export]
impl SoraRunner {
    /// Loads a model, on a thread of its own, and starts a graph over it.
    ///
    /// # Errors
    /// The model, the device or the budget cannot be used, a folder cannot be written, or telemetry cannot go where it shall.
    #[uniffi::constructor]
    pub async fn open(config: RunnerConfig) -> Result<Arc<Self>, RunnerError> {
        let telemetry = config.telemetry.clone();
        let scrape = telemetry.as_ref().map(|telemetry| telemetry.scrape_address()).transpose()?;
        // Stages take their recorders when they start.
        let page = metrics::page(scrape.flatten())?;
        let lines = match telemetry
            .as_ref()
            .and_then(|telemetry| Some((telemetry, telemetry.file.as_ref()?)))
        {
            Some((telemetry, file)) => {
                let interval = telemetry.interval()?;
                Some(TelemetryLines::start(&PathBuf::from(file), page.clone(), interval)?)
            }
            None => None,
        };
        let engine = Engine::start(config).await?;
        let (lines, pusher) = (Mutex::new(lines), Mutex::default());
        Ok(Arc::new(Self { engine, page, lines, pusher }))
    }

    /// What is known of the model.
    pub fn model(&self) -> ModelDescription {
        (&self.engine).into()
    }

    /// What a video takes of memory under the present budget.
    ///
    /// # Errors
    /// [`RunnerError::BadInput`] when no model could make it; [`RunnerError::Closed`].
    pub async fn plan(&self, request: VideoRequest) -> Result<VideoPlan, RunnerError> {
        let budget_bytes = self.memory().await?.budget_bytes;
        let request = request.resolve(&self.engine.generation)?;
        Ok(self.engine.plan((&request).into(), budget_bytes)?.into())
    }

    /// Hands in a video. From here on until it is finished or cancelled it is among the unfinished ones, should the app end.
    ///
    /// # Errors
    /// The request cannot be fulfilled, the budget is too small for it, the queue is full, the device is being checked, the
    /// runner is closed, or nothing can be saved.
    pub async fn submit(
        &self,
        request: VideoRequest,
        listener: Arc<dyn JobListener>,
    ) -> Result<Arc<SoraJob>, RunnerError> {
        let request = request.resolve(&self.engine.generation)?;
        let store = self.engine.store.clone();
        let begun = in_background(move || store.begin(&request).map(|kept| (kept, request)));
        let (kept, request) = begun.await??;
        let kept = Arc::new(kept);
        match self.hand_in(JobOrder::from(request), kept.clone(), listener).await {
            Ok(job) => Ok(job),
            Err(refused) => {
                // What was refused was never begun. Where not even a thread can be started, it stays among the unfinished ones.
                let _ = in_background(move || kept.discard()).await;
                Err(refused)
            }
        }
    }

    /// Videos that were begun and are neither finished nor under way, in the order in which they were begun.
    ///
    /// # Errors
    /// [`RunnerError::System`] when the folder cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<UnfinishedVideo>, RunnerError> {
        let store = self.engine.store.clone();
        in_background(move || store.unfinished()).await?
    }

    /// Goes on with an unfinished video, after the last step that was saved; the bytes are those of a video that was never
    /// interrupted.
    ///
    /// # Errors
    /// Nothing is saved under this key, what is saved cannot be used here, the video is under way, or as for
    /// [`SoraRunner::submit`].
    pub async fn continue_job(
        &self,
        key: String,
        listener: Arc<dyn JobListener>,
    ) -> Result<Arc<SoraJob>, RunnerError> {
        let store = self.engine.store.clone();
        let (kept, request, checkpoint) = in_background(move || store.claim(&key)).await??;
        let order = match checkpoint {
            Some(checkpoint) => JobOrder::resume(Arc::new(checkpoint)),
            None => request.into(),
        };
        self.hand_in(order, Arc::new(kept), listener).await
    }

    /// Deletes what was done for an unfinished video.
    ///
    /// # Errors
    /// Nothing is saved under this key, the video is under way, or the files cannot be deleted.
    pub async fn forget(&self, key: String) -> Result<(), RunnerError> {
        let store = self.engine.store.clone();
        in_background(move || store.forget(&key)).await?
    }

    /// The system warns: from now on the program may take no more than `bytes`. Blocks that are only kept go at once; work
    /// under way goes on, to the same bytes. Less than the videos under way need is not set, since it would fail them; the answer
    /// says what is.
    ///
    /// # Errors
    /// [`RunnerError::Closed`].
    pub async fn memory_warning(&self, bytes: u64) -> Result<MemoryState, RunnerError> {
        let now = self.memory().await?.budget_bytes;
        self.set_budget(bytes.min(now)).await
    }

    /// Changes the budget in either direction, as when a warning is over. As for [`SoraRunner::memory_warning`], what the
    /// videos under way need is the least.
    ///
    /// # Errors
    /// [`RunnerError::Closed`].
    pub async fn set_memory_budget(&self, bytes: u64) -> Result<MemoryState, RunnerError> {
        self.set_budget(bytes).await
    }

    /// How hot the device is: the stages rest between blocks, half of the time when it is serious and four fifths when it is
    /// critical. No bit of any video depends on it.
    pub fn thermal_state(&self, level: ThermalLevel) {
        self.engine.pipeline.pace().set_load(Load::from(level));
    }

    /// The app leaves the foreground, where a GPU may not be used: begins no further block, and returns when the device has
    /// done those that were under way. Of each job the last step that was done is saved by then, or the one before, where
    /// saving takes long beside a step; what was done of the step under way is kept in memory only, as all that jobs hold.
    ///
    /// # Errors
    /// [`RunnerError::System`] when no thread can be started to wait; the pause takes effect all the same.
    pub async fn pause(&self) -> Result<(), RunnerError> {
        let pace = self.engine.pipeline.pace().clone();
        pace.pause();
        in_background(move || pace.wait_until_still()).await.map(drop)
    }

    /// Goes on after [`SoraRunner::pause`]; and listens for a Prometheus again, since the system takes ports from an app that is away.
    pub fn resume(&self) {
        self.page.listen_again();
        self.engine.pipeline.pace().resume();
    }

    /// The runner at this moment.
    ///
    /// # Errors
    /// [`RunnerError::Closed`].
    pub async fn status(&self) -> Result<RunnerStatus, RunnerError> {
        let snapshot = self.engine.pipeline.observe().await.ok_or_else(RunnerError::closed)?;
        let deaths = snapshot.stages.into_iter();
        let deaths = deaths.filter_map(|stage| Some(format!("{}: {}", stage.name, stage.death?)));
        Ok(RunnerStatus {
            accepting: snapshot.accepting,
            paused: self.engine.pipeline.pace().is_paused(),
            jobs: snapshot.jobs.len() as u32,
            deaths: deaths.collect(),
            memory: snapshot.memory.into(),
        })
    }

    /// The metrics of this process in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        self.page.render()
    }

    /// Pushes metrics to a Prometheus Pushgateway from now on, and once more when it stops. Trouble with the gateway is logged and
    /// changes nothing else.
    ///
    /// # Errors
    /// [`RunnerError::Telemetry`] when the address or the interval cannot be used.
    pub async fn push_metrics(
        &self,
        url: String,
        interval_seconds: f64,
    ) -> Result<(), RunnerError> {
        let (address, interval) = (PushAddress::parse(&url)?, seconds(interval_seconds)?);
        let trouble = |text: &str| tracing::warn!(text, "metrics cannot be pushed");
        let pusher = Pusher::start(self.page.clone(), address, interval, trouble)?;
        let before = self.pusher.lock().unwrap_or_else(PoisonError::into_inner).replace(pusher);
        in_background(move || drop(before)).await
    }

    /// Pushes once more, and then no more.
    ///
    /// # Errors
    /// [`RunnerError::System`] when no thread can be started.
    pub async fn stop_pushing(&self) -> Result<(), RunnerError> {
        let pusher = self.pusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        in_background(move || drop(pusher)).await
    }

    /// The system's figure of what the program takes, for the metrics: a phone tells its apps, and tells nobody else.
    pub fn report_footprint(&self, bytes: u64) {
        sora_telemetry::record_resident_bytes(bytes);
    }

    /// Computes the golden cases of a folder on the runner's device, and compares the results with the reference's. The cases are
    /// small; each is a turn like a block's, so that a pause holds the next one, and heat slows them down.
    ///
    /// # Errors
    /// [`RunnerError::Busy`] while videos are under way or another check is; [`RunnerError::BadModel`] when there are no cases.
    pub async fn run_golden_cases(&self, folder: String) -> Result<Vec<GoldenCase>, RunnerError> {
        let check = self.engine.store.check_device()?;
        let (device, pace) = (self.engine.device.clone(), self.engine.pipeline.pace().clone());
        in_background(move || {
            let _check = check;
            golden_cases(&PathBuf::from(folder), &device, &pace)
        })
        .await?
    }

    /// Times the heavy parts of Open-Sora v1.2 in full size, or of the same architecture in small, with random weights. In full
    /// size it takes about a gigabyte of the budget.
    ///
    /// # Errors
    /// [`RunnerError::Busy`] while videos are under way or another check is; [`RunnerError::OverBudget`].
    pub async fn benchmark_blocks(
        &self,
        full_size: bool,
        iterations: u32,
    ) -> Result<Vec<BlockTiming>, RunnerError> {
        let check = self.engine.store.check_device()?;
        let preset = if full_size { Preset::OpenSoraV12 } else { Preset::Tiny };
        let permit = self.engine.reserve(benchmark_bytes(preset))?;
        let iterations = NonZeroUsize::new(iterations as usize).unwrap_or(NonZeroUsize::MIN);
        let (device, dtype) = (self.engine.device.clone(), self.engine.dtype);
        let pace = self.engine.pipeline.pace().clone();
        in_background(move || {
            let _held = (check, permit);
            time_parts(preset, dtype, &device, iterations, &pace)
        })
        .await
    }

    /// Cancels all jobs, whose work stays saved, pushes metrics once more if they are pushed, and returns when all stages have
    /// ended. Listeners hear the last of their jobs on the jobs' own threads, perhaps a moment later.
    pub async fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.engine.stop();
        self.engine.ended().await;
        // Trouble with a gateway is logged, and a thread that cannot be started leaves the push out.
        let _ = self.stop_pushing().await;
    }
}

impl SoraRunner {
    /// Submits a job and begins to tell its listener of it.
    async fn hand_in(
        &self,
        order: JobOrder,
        kept: Arc<KeptJob>,
        listener: Arc<dyn JobListener>,
    ) -> Result<Arc<SoraJob>, RunnerError> {
        let job = self.engine.pipeline.submit(order.journaled(kept.journal())).await?;
        let over = Arc::<AtomicBool>::default();
        let (canceller, previews) = (job.events.canceller(), job.events.preview_requester());
        let handle = SoraJob { canceller, previews, kept: kept.clone(), over: over.clone() };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let delivery = Delivery { id: job.id, events: job.events, listener, kept, lines, over };
        delivery.start().map_err(|cause| thread_refused(&cause))?;
        Ok(Arc::new(handle))
    }

    async fn memory(&self) -> Result<MemoryState, RunnerError> {
        Ok(self.status().await?.memory)
    }

    async fn set_budget(&self, bytes: u64) -> Result<MemoryState, RunnerError> {
        let bytes = bytes.max(self.engine.smallest_bytes());
        self.engine.pipeline.set_memory(bytes).await;
        self.memory().await
    }
}

impl Drop for SoraRunner {
    fn drop(&mut self) {
        self.engine.stop();
        // The last push may take some seconds, which nobody shall wait for.
        if let Some(pusher) = self.pusher.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread::Builder::new().spawn(move || drop(pusher));
        }
    }
}
