//! Making one run and taking its measure.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use sora_actors::StageError;
use sora_actors::messages::JobEvent;
use sora_models::ModelError;
use sora_models::bundle::ModelBundle;

use super::denoising_only::denoising_only;
use super::machine::peak_resident_bytes;
use super::measurement::{Measurement, StageFigures, median};
use super::task::{BenchStages, BenchTask};
use crate::error::{PipelineError, SubmitError};
use crate::handle::PipelineHandle;
use crate::open_sora;
use crate::pipeline_actor::Job;
use crate::plan::ModelMemory;
use crate::snapshot::PipelineSnapshot;

/// Why a run could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The pipeline does not start.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// It does not take the prompts.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// A job failed.
    #[error(transparent)]
    Failed(Arc<StageError>),
    /// A part of the model cannot be built or run.
    #[error(transparent)]
    Part(#[from] ModelError),
    /// A job ended without saying how.
    #[error("the pipeline ended before the run did")]
    Ended,
}

/// Makes a run and takes its measure; frames are thrown away. Call it within an actix system. The peak of memory is the
/// process's, so that each run whose peak is of interest needs a process of its own.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(
    bundle: &ModelBundle,
    dtype: DType,
    device: &Device,
    task: &BenchTask,
) -> Result<Measurement, BenchError> {
    let limits = task.limits();
    let memory = ModelMemory::of(bundle, dtype, device).map_err(PipelineError::from)?;
    let pipeline = match task.stages {
        BenchStages::All => PipelineHandle::open_sora(bundle, memory, device, &limits)?,
        BenchStages::Denoising => {
            let compute = open_sora::load(bundle, &memory, device, &limits)?;
            let compute = denoising_only(compute, bundle.t5_config().d_model);
            PipelineHandle::launch(compute, &limits, Box::new(|request| Ok(request.check()?)))?
        }
    };
    let started = Instant::now();
    let mut following = Vec::new();
    for request in task.requests() {
        let job = pipeline.submit(request).await?;
        // One job's steps tell the pace of all: they go through the blocks together.
        let observed = following.is_empty().then(|| pipeline.clone());
        following.push(actix::spawn(follow(job, observed)));
    }
    let mut jobs = Vec::new();
    for job in following {
        jobs.push(job.await.map_err(|_| BenchError::Ended)??);
    }
    let seconds = started.elapsed().as_secs_f64();
    pipeline.drain().await;
    let last = pipeline.observe().await.ok_or(BenchError::Ended)?;
    let phase = |seconds, stages: &[&str]| figures_of(&last, stages).lasting(seconds);
    Ok(Measurement {
        seconds,
        embed: phase(between(&jobs, |job| job.embedding, |job| job.embedded), EMBEDDING),
        denoise: phase(between(&jobs, |job| job.embedded, |job| job.denoised), DENOISING),
        decode: phase(between(&jobs, |job| job.decoding, |job| job.finished), DECODING),
        step: jobs.first().map(|job| step_figures(&job.steps)).unwrap_or_default(),
        evaluations: jobs.iter().map(|job| job.evaluations).max().unwrap_or(0),
        peak_process_bytes: peak_resident_bytes(),
        peak_ledger_bytes: last.memory.peak_bytes,
    })
}

/// The beginnings of the names of the stages that do each part of the work, and of what their loaders serve.
const EMBEDDING: &[&str] = &["prompt_embedder"];
const DENOISING: &[&str] = &["denoise_controller", "stdit_worker"];
const DECODING: &[&str] = &["vae_decoder"];

/// When a job was where.
#[derive(Default)]
struct JobTimes {
    embedding: Option<Instant>,
    embedded: Option<Instant>,
    denoised: Option<Instant>,
    decoding: Option<Instant>,
    finished: Option<Instant>,
    evaluations: usize,
    steps: Vec<StepEnd>,
}

/// How far denoising was when a step ended.
struct StepEnd {
    at: Instant,
    /// All that was done until then.
    figures: StageFigures,
    /// Read for sweeps that were over.
    swept_bytes: u64,
}

async fn follow(job: Job, observed: Option<PipelineHandle>) -> Result<JobTimes, BenchError> {
    let mut times = JobTimes::default();
    loop {
        let event = job.events.recv_async().await.map_err(|_| BenchError::Ended)?;
        let now = Instant::now();
        match event {
            JobEvent::Embedding => times.embedding = Some(now),
            JobEvent::Embedded { .. } => times.embedded = Some(now),
            JobEvent::Step { .. } => {
                times.denoised = Some(now);
                if let Some(pipeline) = &observed {
                    let snapshot = pipeline.observe().await.ok_or(BenchError::Ended)?;
                    times.steps.push(StepEnd {
                        at: now,
                        figures: figures_of(&snapshot, DENOISING),
                        swept_bytes: swept_bytes(&snapshot, DENOISING),
                    });
                }
            }
            JobEvent::Decoding => times.decoding = Some(now),
            JobEvent::Finished(summary) => {
                times.finished = Some(now);
                times.evaluations = summary.steps_computed;
                return Ok(times);
            }
            JobEvent::Failed(cause) => return Err(BenchError::Failed(cause)),
            JobEvent::Cancelled => return Err(BenchError::Ended),
            JobEvent::Queued { .. }
            | JobEvent::Resumed { .. }
            | JobEvent::Preview { .. }
            | JobEvent::Chunk(_) => {}
        }
    }
}

/// Seconds from when the first job began until the last one ended.
fn between(
    jobs: &[JobTimes],
    begin: fn(&JobTimes) -> Option<Instant>,
    end: fn(&JobTimes) -> Option<Instant>,
) -> f64 {
    let first = jobs.iter().filter_map(begin).min();
    let last = jobs.iter().filter_map(end).max();
    first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64())
}

/// What some stages and their loaders had done at that moment.
fn figures_of(snapshot: &PipelineSnapshot, stages: &[&str]) -> StageFigures {
    let named = |name: &str| is_of(name, stages);
    let mut figures = StageFigures::default();
    for stage in snapshot.stages.iter().filter(|stage| named(&stage.name)) {
        figures.compute_seconds += stage.busy_seconds;
    }
    for loader in snapshot.loaders.iter().filter(|loader| named(&loader.stage)) {
        figures.load_seconds += loader.load_seconds;
        figures.wait_seconds += loader.wait_seconds;
        figures.read_bytes += loader.read_bytes;
        // The decoder waits for its networks in the midst of its work.
        if named("vae_decoder") {
            figures.compute_seconds -= loader.wait_seconds;
        }
    }
    figures
}

fn is_of(name: &str, stages: &[&str]) -> bool {
    stages.iter().any(|stage| name.starts_with(stage))
}

/// What those stages' loaders had read for sweeps that were over.
fn swept_bytes(snapshot: &PipelineSnapshot, stages: &[&str]) -> u64 {
    let loaders = snapshot.loaders.iter().filter(|loader| is_of(&loader.stage, stages));
    loaders.map(|loader| loader.swept_bytes).sum()
}

/// What a step takes, from the end of the first one on: medians of its times, and the mean of its bytes, by whole sweeps: when
/// a step ends, the loader is reading for the next one already.
fn step_figures(steps: &[StepEnd]) -> StageFigures {
    let later: Vec<_> = steps.windows(2).map(|pair| (&pair[0], &pair[1])).collect();
    let middle = |of: fn(&StageFigures) -> f64| {
        median(&later, |(before, after)| of(&after.figures) - of(&before.figures)).unwrap_or(0.0)
    };
    let [first, .., last] = steps else { return StageFigures::default() };
    StageFigures {
        seconds: median(&later, |(before, after)| (after.at - before.at).as_secs_f64())
            .unwrap_or(0.0),
        compute_seconds: middle(|of| of.compute_seconds),
        load_seconds: middle(|of| of.load_seconds),
        wait_seconds: middle(|of| of.wait_seconds),
        read_bytes: (last.swept_bytes - first.swept_bytes) / later.len() as u64,
    }
}

impl StageFigures {
    fn lasting(self, seconds: f64) -> Self {
        Self { seconds, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_is_the_middle_of_those_after_the_first() {
        let start = Instant::now();
        let end = |at: u64, compute_seconds: f64, swept_bytes: u64| StepEnd {
            at: start + Duration::from_secs(at),
            figures: StageFigures { compute_seconds, ..StageFigures::default() },
            swept_bytes,
        };
        let steps = [end(9, 8.0, 300), end(11, 9.0, 500), end(15, 12.0, 700)];
        let step = step_figures(&steps);
        assert_eq!((step.seconds, step.compute_seconds, step.read_bytes), (3.0, 2.0, 200));
        assert_eq!(step_figures(&steps[..1]), StageFigures::default());
        assert_eq!(step_figures(&[]), StageFigures::default());
    }

    #[test]
    fn a_phase_lasts_from_the_first_job_s_beginning_to_the_last_one_s_end() {
        let start = Instant::now();
        let job = |embedding: u64, embedded: u64| JobTimes {
            embedding: Some(start + Duration::from_secs(embedding)),
            embedded: Some(start + Duration::from_secs(embedded)),
            ..JobTimes::default()
        };
        let jobs = [job(3, 4), job(1, 2), JobTimes::default()];
        assert_eq!(between(&jobs, |job| job.embedding, |job| job.embedded), 3.0);
        assert_eq!(between(&jobs, |job| job.decoding, |job| job.finished), 0.0);
    }
}
