//! The whole graph on fake computation: flow, backpressure, failures, cancellation, shutdown.

#![allow(clippy::unwrap_used)]

mod backpressure;
mod cancellation;
mod failures;
mod fakes;
mod flow;
mod pace;
mod previews;
mod resumption;
mod shutdown;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fakes::{Stagecraft, fake_compute};
use sora_actors::messages::{GenerationRequest, JobEvent};
use sora_actors::{ConsumerLimits, StageError};
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;
use sora_pipeline::{GraphLimits, Job, MemoryLimits, PipelineHandle};

/// Longer than anything here takes on a busy machine: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits(workers: usize) -> GraphLimits {
    GraphLimits {
        workers,
        queue_capacity: 8,
        sweep_limit: 4,
        token_slots: 3,
        consumer: ConsumerLimits { chunk_backlog: 2, patience: PATIENCE },
        memory: MemoryLimits::default(),
    }
}

fn start(stagecraft: &Arc<Stagecraft>, limits: &GraphLimits) -> PipelineHandle {
    let compute = fake_compute(stagecraft, limits.workers);
    PipelineHandle::launch(compute, limits, Box::new(|_| Ok(()))).unwrap()
}

fn request(prompt: &str, seed: u64) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.to_string(),
        negative_prompt: None,
        seed,
        width_px: 1,
        height_px: 1,
        num_frames: 5,
        fps: 8.0,
        sampling: SamplingSettings { steps: 4, ..Default::default() },
        scores: PromptScores::default(),
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits until something becomes true.
async fn until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// All events of a job up to its last.
async fn events(job: &Job) -> Vec<JobEvent> {
    let mut events = Vec::new();
    while let Ok(event) = in_time(job.events.recv_async()).await {
        events.push(event);
    }
    events
}

/// How a job ended.
#[derive(Debug)]
enum End {
    Finished,
    Failed(Arc<StageError>),
    Cancelled,
}

async fn end(job: &Job) -> End {
    match events(job).await.pop() {
        Some(JobEvent::Finished(_)) => End::Finished,
        Some(JobEvent::Failed(error)) => End::Failed(error),
        Some(JobEvent::Cancelled) => End::Cancelled,
        other => panic!("a job ended with {other:?}"),
    }
}
