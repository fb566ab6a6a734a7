//! The thread that a runner owns: it loads the model and is home to the pipeline's actor.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use actix::System;
use candle_core::{DType, Device};
use sora_models::DeviceChoice;
use sora_models::bundle::GenerationConfig;
use sora_models::device_work::releasing;
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::sidecar::{Compute, ModelIdentity};
use sora_pipeline::{GraphLimits, PipelineHandle};
use tokio::sync::{oneshot, watch};

use crate::config::RunnerConfig;
use crate::error::RunnerError;
use crate::saved::JobStore;

/// The name of the folder of unfinished videos within the cache folder.
const JOBS_FOLDER: &str = "jobs";

/// A graph that runs, and what is known of its model.
pub(crate) struct Engine {
    pub(crate) pipeline: PipelineHandle,
    pub(crate) generation: GenerationConfig,
    pub(crate) model: ModelIdentity,
    pub(crate) compute: Compute,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) memory: ModelMemory,
    pub(crate) limits: GraphLimits,
    pub(crate) store: Arc<JobStore>,
    end: EngineEnd,
}

/// Ends the thread; so does dropping this.
struct EngineEnd {
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: watch::Receiver<bool>,
}

impl Engine {
    /// Loads the model on a new thread and starts the graph there.
    pub(crate) async fn start(config: RunnerConfig) -> Result<Self, RunnerError> {
        let (reply, answer) = oneshot::channel();
        let (ended_sender, ended) = watch::channel(false);
        let run = move || {
            // Whoever waits sees the channels close.
            let _ = catch_unwind(AssertUnwindSafe(|| run(&config, ended, reply)));
            ended_sender.send_replace(true);
        };
        let thread = thread::Builder::new().name("sora-runner".into()).spawn(run);
        thread.map_err(|cause| thread_refused(&cause))?;
        answer.await.unwrap_or_else(|_| {
            Err(RunnerError::System(
                "the runner's thread ended while it started (this is a bug, please report it)"
                    .into(),
            ))
        })
    }

    /// Stops everything; jobs that are under way are cancelled, and what was done for them stays saved.
    pub(crate) fn stop(&self) {
        drop(self.end.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Returns when the thread and all stages have ended.
    pub(crate) async fn ended(&self) {
        // A sender that is gone has ended.
        let _ = self.end.ended.clone().wait_for(|ended| *ended).await;
    }
}

fn run(
    config: &RunnerConfig,
    ended: watch::Receiver<bool>,
    reply: oneshot::Sender<Result<Engine, RunnerError>>,
) {
    System::new().block_on(async {
        let (stop, stopped) = oneshot::channel();
        let end = EngineEnd { stop: Mutex::new(Some(stop)), ended };
        match releasing(|| open(config, end)) {
            Ok(engine) => {
                let pipeline = engine.pipeline.clone();
                // Whoever does not wait any more drops the engine, which stops it.
                drop(reply.send(Ok(engine)));
                let _ = stopped.await;
                pipeline.stop().await;
            }
            Err(cause) => drop(reply.send(Err(cause))),
        }
    });
}

fn open(config: &RunnerConfig, end: EngineEnd) -> Result<Engine, RunnerError> {
    let limits = config.limits();
    limits.check()?;
    let bundle = config.open_model()?;
    let device = DeviceChoice::from(config.device.unwrap_or_default()).open()?;
    let dtype = DType::from(config.precision.unwrap_or_default());
    let (model, compute) = (ModelIdentity::of(&bundle)?, Compute::of(&device, dtype));
    let folder = Path::new(&config.cache_folder).join(JOBS_FOLDER);
    let store = JobStore::open(&folder, model.clone(), compute.clone())?;
    let memory = ModelMemory::of(&bundle, dtype, &device)?;
    let pipeline = PipelineHandle::open_sora(&bundle, memory.clone(), &device, &limits)?;
    let generation = bundle.generation().clone();
    Ok(Engine { pipeline, generation, model, compute, device, dtype, memory, limits, store, end })
}

/// Does work that takes long on a thread of its own.
///
/// # Errors
/// [`RunnerError::System`] when no thread can be started, or the work panicked.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunnerError> {
    let (reply, answer) = oneshot::channel();
    // Whoever does not wait any more does not want it.
    let work = move || drop(reply.send(releasing(work)));
    let thread = thread::Builder::new().name("sora-background".into()).spawn(work);
    thread.map_err(|cause| thread_refused(&cause))?;
    answer.await.map_err(|_| {
        RunnerError::System("a thread panicked (this is a bug, please report it)".into())
    })
}

pub(crate) fn thread_refused(cause: &io::Error) -> RunnerError {
    RunnerError::system("a thread cannot be started", cause)
}
