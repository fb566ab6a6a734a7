//! A run that is saved after any step, and goes on elsewhere, gives the bits of a run that never stopped.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device};
use sora_actors::messages::{GenerationRequest, JobCheckpoint, JobEvent, JobSummary};
use sora_actors::{JobJournal, JobOrder, JournalError};
use sora_models::bundle::ModelBundle;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::{CoastRule, CosineOver, DynamicLeap, LeapRule, SamplingSettings};
use sora_models::stdit3::MergeSteps;
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::saved_job::{FileJournal, SavedJob};
use sora_pipeline::sidecar::{Compute, ModelIdentity};
use sora_pipeline::{GraphLimits, Job, PipelineHandle};

/// Saves to a file, and remembers every state as it is read from there again.
struct Witness {
    file: FileJournal,
    states: Mutex<Vec<JobCheckpoint>>,
}

impl JobJournal for Witness {
    fn is_due(&self) -> bool {
        true
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        self.file.save(checkpoint)?;
        let read = SavedJob::load(self.file.path()).map_err(JournalError::new)?;
        self.states.lock().unwrap().push(read.checkpoint);
        Ok(())
    }
}

fn witness(folder: &Path) -> Arc<Witness> {
    let model = ModelIdentity { name: "embedded".into(), fingerprint: "0".into() };
    let compute = Compute { device: "cpu".into(), dtype: "f32".into() };
    let file = FileJournal::new(folder.join("film.sora-job"), model, compute);
    Arc::new(Witness { file, states: Mutex::default() })
}

/// All that is the same however a video is made.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// For each step that was computed its drift cosine, which sees all bits of the velocities.
    steps: Vec<(usize, Option<f64>, bool)>,
    work: (usize, Option<usize>),
    pixels: Vec<u8>,
}

async fn outcome(job: &Job) -> Outcome {
    let (mut steps, mut pixels) = (Vec::new(), Vec::new());
    while let Ok(event) = job.events.recv_async().await {
        match event {
            JobEvent::Step { index, cosine, merged, .. } => steps.push((index, cosine, merged)),
            JobEvent::Chunk(chunk) => {
                pixels.extend(chunk.frames.into_iter().flat_map(|frame| frame.0));
            }
            JobEvent::Finished(JobSummary { steps_computed, leapt_at, .. }) => {
                return Outcome { steps, work: (steps_computed, leapt_at), pixels };
            }
            JobEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("the job was cancelled");
}

/// Requests of all kinds, with a guidance scale of more digits than plain JSON keeps.
fn requests() -> Vec<GenerationRequest> {
    let plain = SamplingSettings {
        steps: 5,
        guidance_scale: 1.0 + 7f64.sqrt(),
        ..SamplingSettings::default()
    };
    let dynamic =
        |over| LeapRule::Dynamic(DynamicLeap { from_step: 1, patience: 2, over, tolerance: 0.5 });
    let samplings = [
        SamplingSettings { merge: MergeSteps::First(2), ..plain.clone() },
        SamplingSettings { leap: dynamic(CosineOver::FirstFrame), ..plain.clone() },
        SamplingSettings { leap: dynamic(CosineOver::Whole), ..plain.clone() },
        SamplingSettings { coast: CoastRule::Evaluations(3), ..plain },
    ];
    let request = |(seed, sampling)| GenerationRequest {
        prompt: "a small green square".into(),
        // Some with a negative prompt, and some without.
        negative_prompt: (seed % 2 == 0).then(|| "a red circle moving left to right".into()),
        seed,
        width_px: 32,
        height_px: 24,
        num_frames: 22,
        fps: 8.0,
        sampling,
        scores: PromptScores { aesthetic: Some(f64::from(6.3f32)), ..PromptScores::default() },
    };
    (1..).zip(samplings).map(request).collect()
}

#[actix::test]
async fn a_resumed_run_gives_the_same_bits_from_every_step_on_any_number_of_workers() {
    let bundle = ModelBundle::embedded().unwrap();
    let start = |workers| {
        let limits = GraphLimits { workers, token_slots: 3, ..GraphLimits::default() };
        let memory = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
        PipelineHandle::open_sora(&bundle, memory, &Device::Cpu, &limits).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut pipelines = Vec::new();
    for workers in 1..=bundle.stdit3_config().blocks().min(3) {
        pipelines.push(start(workers));
    }
    for request in requests() {
        let name = format!("lpl {}, coast {}", request.sampling.leap, request.sampling.coast);
        let job = pipelines[0].submit(request.clone()).await.unwrap();
        let expected = outcome(&job).await;
        let witness = witness(folder.path());
        let order = JobOrder::from(request).journaled(witness.clone());
        let job = pipelines[0].submit(order).await.unwrap();
        assert!(outcome(&job).await == expected, "{name}: saving changes the video");
        let states = witness.states.lock().unwrap().clone();
        assert_eq!(states.len(), 1 + expected.steps.len(), "{name}");
        for (taken, state) in states.into_iter().enumerate() {
            // Every other worker count for every other state, which is each with each over all requests.
            let pipeline = &pipelines[taken % pipelines.len()];
            let job = pipeline.submit(JobOrder::resume(Arc::new(state))).await.unwrap();
            let resumed = outcome(&job).await;
            assert_eq!(resumed.steps, expected.steps[taken..], "{name} after {taken} steps");
            assert_eq!(resumed.work, expected.work, "{name} after {taken} steps");
            assert!(resumed.pixels == expected.pixels, "{name}: other bits after {taken} steps");
        }
    }
    for pipeline in &pipelines {
        pipeline.drain().await;
    }
}
