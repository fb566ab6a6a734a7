//! Blocks that come and go: the same bits whatever stays in memory, and only the job concerned fails when something is
//! wrong with its weights.

#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use candle_core::{DType, Device};
use sora_actors::messages::{GenerationRequest, JobEvent};
use sora_actors::{StageError, StageErrorKind, StageName};
use sora_models::bundle::ModelBundle;
use sora_models::checkpoint_tools::{Packing, Quantization, QuantizedType, StorageDtype};
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::{LeapRule, SamplingSettings};
use sora_models::stdit3::MergeSteps;
use sora_pipeline::plan::{MemoryPlan, ModelMemory, PlannedGraph};
use sora_pipeline::{GraphLimits, Job, MemoryLimits, PipelineHandle, SubmitError};

const STEPS: usize = 4;

fn request(prompt: &str, seed: u64) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.into(),
        negative_prompt: None,
        seed,
        width_px: 32,
        height_px: 24,
        num_frames: 5,
        fps: 8.0,
        sampling: SamplingSettings { steps: STEPS, ..SamplingSettings::default() },
        scores: PromptScores::default(),
    }
}

/// Four jobs that differ in everything that travels with them.
fn requests() -> Vec<GenerationRequest> {
    let mut requests: Vec<_> = ["a red circle", "a green square rising", "a ball", "a red circle"]
        .iter()
        .zip(1..)
        .map(|(prompt, seed)| request(prompt, seed))
        .collect();
    requests[1].num_frames = 22;
    requests[1].sampling.merge = MergeSteps::First(2);
    requests[2].sampling.leap = LeapRule::Fixed(2);
    requests[3].negative_prompt = Some("a blue square moving left to right".into());
    requests
}

fn start(bundle: &ModelBundle, workers: usize, memory: MemoryLimits) -> PipelineHandle {
    let limits = GraphLimits { workers, token_slots: 4, memory, ..GraphLimits::default() };
    let memory = ModelMemory::of(bundle, DType::F32, &Device::Cpu).unwrap();
    PipelineHandle::open_sora(bundle, memory, &Device::Cpu, &limits).unwrap()
}

async fn next(job: &Job) -> JobEvent {
    // A hang shall fail; the time is for a busy machine.
    let event = tokio::time::timeout(Duration::from_secs(300), job.events.recv_async()).await;
    event.expect("it hangs").unwrap()
}

async fn pixels(job: &Job) -> Result<Vec<u8>, std::sync::Arc<StageError>> {
    let mut pixels = Vec::new();
    loop {
        match next(job).await {
            JobEvent::Chunk(chunk) => pixels.extend(chunk.frames.into_iter().flat_map(|f| f.0)),
            JobEvent::Finished(_) => return Ok(pixels),
            JobEvent::Failed(error) => return Err(error),
            JobEvent::Cancelled => panic!("it was cancelled"),
            _ => {}
        }
    }
}

async fn all_pixels(pipeline: &PipelineHandle, requests: &[GenerationRequest]) -> Vec<Vec<u8>> {
    let mut jobs = Vec::new();
    for request in requests {
        jobs.push(pipeline.submit(request.clone()).await.unwrap());
    }
    let collecting = jobs.into_iter().map(|job| actix::spawn(async move { pixels(&job).await }));
    let mut all = Vec::new();
    for job in collecting.collect::<Vec<_>>() {
        all.push(job.await.unwrap().unwrap());
    }
    all
}

/// The smallest budget that every request can be made with, and what the whole model takes.
fn budgets(bundle: &ModelBundle, workers: usize) -> (u64, u64) {
    let memory = ModelMemory::of(bundle, DType::F32, &Device::Cpu).unwrap();
    let graph = PlannedGraph { workers, videos: 1 };
    let smallest = requests().into_iter().map(|request| {
        let limits = MemoryLimits::default();
        MemoryPlan::new(&memory, &request, graph, &limits).unwrap().smallest_bytes()
    });
    let networks = [memory.t5, memory.stdit3, memory.decoder].map(|n| n.resident_bytes);
    (smallest.max().unwrap(), networks.iter().sum())
}

async fn held_after_the_end(pipeline: &PipelineHandle) -> u64 {
    pipeline.drain().await;
    let memory = pipeline.observe().await.unwrap().memory;
    memory.total_bytes() - memory.of(sora_actors::memory::MemoryUse::Base)
}

#[test]
fn a_negative_prompt_is_counted_and_a_blank_one_is_not() {
    let bundle = ModelBundle::embedded().unwrap();
    let memory = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
    let graph = PlannedGraph { workers: 1, videos: 1 };
    let bytes = |negative_prompt: Option<&str>| {
        let negative_prompt = negative_prompt.map(String::from);
        let request = GenerationRequest { negative_prompt, ..request("a ball", 1) };
        let plan = MemoryPlan::new(&memory, &request, graph, &MemoryLimits::default()).unwrap();
        [plan.embedding_bytes, plan.one_denoising_bytes]
    };
    let ([embedding, denoising], with) = (bytes(None), bytes(Some("a square")));
    assert!(with[0] > embedding && with[1] > denoising);
    assert_eq!(bytes(Some(" ")), [embedding, denoising]);
}

#[actix::test]
async fn bits_do_not_depend_on_what_stays_in_memory() {
    let bundle = ModelBundle::embedded().unwrap();
    let requests = requests();
    let resident = start(&bundle, 1, MemoryLimits::default());
    let expected = all_pixels(&resident, &requests).await;
    assert_eq!(held_after_the_end(&resident).await, 0);
    for workers in 1..=3 {
        let (smallest, model) = budgets(&bundle, workers);
        let limits = |budget_bytes, read_ahead, retain| MemoryLimits {
            budget_bytes,
            read_ahead,
            retain,
            read_limit: None,
        };
        for memory in [
            limits(u64::MAX, 0, false),
            limits(u64::MAX, 1, false),
            limits(smallest, 1, true),
            limits(smallest + model / 3, 2, true),
        ] {
            let case = format!("{workers} workers, {memory:?}");
            let budget = memory.budget_bytes;
            let pipeline = start(&bundle, workers, memory);
            assert!(all_pixels(&pipeline, &requests).await == expected, "{case}");
            let peak = pipeline.observe().await.unwrap().memory.peak_bytes;
            assert!(peak <= budget, "{case}: {peak}");
            assert_eq!(held_after_the_end(&pipeline).await, 0, "{case}");
        }
    }
}

#[actix::test]
async fn quantised_weights_stream_to_the_bits_of_the_same_weights_dense_and_resident() {
    let folder = tempfile::tempdir().unwrap();
    let (quantised, dense) = (folder.path().join("quantised"), folder.path().join("dense"));
    let quantization = Quantization {
        quantized_type: QuantizedType::Q8_0,
        parts: Quantization::PARTS.to_vec(),
        replace: false,
    };
    let embedded = ModelBundle::embedded().unwrap();
    quantization.write(&embedded, &quantised, &mut |_, _| {}).unwrap();
    let packing = Packing { dtype: Some(StorageDtype::F32), replace: false };
    packing.write(&quantised, &dense, &mut |_, _| {}).unwrap();

    let (bundle, requests) = (ModelBundle::open(&quantised).unwrap(), requests());
    let dense = ModelBundle::open(&dense).unwrap();
    let expected = all_pixels(&start(&dense, 1, MemoryLimits::default()), &requests).await;
    let original = all_pixels(&start(&embedded, 1, MemoryLimits::default()), &requests).await;
    assert!(expected != original, "nothing was quantised");
    for (workers, retain) in [(1, true), (1, false), (2, false)] {
        let memory = MemoryLimits { retain, ..MemoryLimits::default() };
        let pipeline = start(&bundle, workers, memory);
        assert!(all_pixels(&pipeline, &requests).await == expected, "{workers} {retain}");
        assert_eq!(held_after_the_end(&pipeline).await, 0);
    }
    // What is read is what is stored: 34 bytes for 32 weights, beside norms and biases in f16.
    let bytes =
        |bundle: &ModelBundle| ModelMemory::of(bundle, DType::F32, &Device::Cpu).unwrap().stdit3;
    let (few, many) = (bytes(&bundle), bytes(&embedded));
    assert_eq!(few.resident_bytes, many.resident_bytes);
    let share = few.stored_bytes as f64 / many.stored_bytes as f64;
    assert!((0.53..0.54).contains(&share), "{share}");
}

#[actix::test]
async fn a_budget_that_shrinks_to_the_minimum_on_the_way_changes_no_bit() {
    let bundle = ModelBundle::embedded().unwrap();
    let requests = requests();
    let expected = all_pixels(&start(&bundle, 1, MemoryLimits::default()), &requests).await;
    let (smallest, _) = budgets(&bundle, 1);
    let pipeline = start(&bundle, 1, MemoryLimits::default());
    let first = pipeline.submit(requests[0].clone()).await.unwrap();
    while !matches!(next(&first).await, JobEvent::Step { index: 1, .. }) {}
    pipeline.set_memory(smallest).await;
    let retained = pipeline.observe().await.unwrap().memory;
    let kept = retained.of(sora_actors::memory::MemoryUse::Retained);
    assert!(kept <= smallest, "{kept} of {smallest} bytes are kept");
    assert!(pixels(&first).await.unwrap() == expected[0]);
    assert!(all_pixels(&pipeline, &requests[1..]).await == expected[1..]);
    // Below the minimum, a job fails with what it would take, and the next one finds its memory again.
    pipeline.set_memory(smallest / 2).await;
    let refused = pipeline.submit(requests[0].clone()).await;
    let Err(SubmitError::OverBudget(plan)) = refused else { panic!("it was taken") };
    assert!(plan.to_string().contains("at least"), "{plan}");
    pipeline.set_memory(u64::MAX).await;
    assert!(all_pixels(&pipeline, &requests).await == expected);
    assert_eq!(held_after_the_end(&pipeline).await, 0);
}

#[actix::test]
async fn a_budget_that_shrinks_below_a_job_fails_it_and_no_other() {
    let bundle = ModelBundle::embedded().unwrap();
    let (smallest, _) = budgets(&bundle, 1);
    let pipeline = start(&bundle, 1, MemoryLimits::default());
    let large = GenerationRequest { width_px: 64, height_px: 64, ..request("a ball", 1) };
    let large = GenerationRequest { num_frames: 68, ..large };
    let job = pipeline.submit(large).await.unwrap();
    while !matches!(next(&job).await, JobEvent::Step { index: 0, .. }) {}
    pipeline.set_memory(smallest).await;
    let small = pipeline.submit(request("a red circle", 2)).await.unwrap();
    let error = pixels(&job).await.unwrap_err();
    assert_eq!((error.kind(), error.stage), (StageErrorKind::OverBudget, StageName::VaeDecoder));
    assert!(error.to_string().contains("MB beside"), "{error}");
    assert!(pixels(&small).await.is_ok());
    assert_eq!(held_after_the_end(&pipeline).await, 0);
}

/// A copy of the embedded model on disk.
fn copied(folder: &Path) -> ModelBundle {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/weights");
    for part in ["t5", "stdit3", "vae"] {
        fs::create_dir(folder.join(part)).unwrap();
        for file in fs::read_dir(from.join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join(part).join(file.file_name())).unwrap();
        }
    }
    fs::copy(from.join("generation_config.json"), folder.join("generation_config.json")).unwrap();
    ModelBundle::open(folder).unwrap()
}

#[actix::test]
async fn weights_that_are_cut_short_on_the_way_fail_their_jobs_and_work_again_when_they_are_whole()
{
    let folder = tempfile::tempdir().unwrap();
    let bundle = copied(folder.path());
    let weights = folder.path().join("stdit3/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    let streaming = MemoryLimits { retain: false, ..MemoryLimits::default() };
    let pipeline = start(&bundle, 1, streaming);
    let expected = pixels(&pipeline.submit(request("a ball", 1)).await.unwrap()).await.unwrap();

    // So many steps that it cannot be done before the file is cut.
    let mut long = request("a ball", 1);
    long.sampling.steps = 500;
    let job = pipeline.submit(long).await.unwrap();
    while !matches!(next(&job).await, JobEvent::Step { index: 0, .. }) {}
    OpenOptions::new().write(true).open(&weights).unwrap().set_len(1000).unwrap();
    let error = pixels(&job).await.unwrap_err();
    assert_eq!((error.kind(), error.stage), (StageErrorKind::BadModel, StageName::StditWorker(0)));
    assert!(error.to_string().contains("cut short"), "{error}");

    fs::write(&weights, &whole).unwrap();
    let job = pipeline.submit(request("a ball", 1)).await.unwrap();
    assert!(pixels(&job).await.unwrap() == expected);
    assert_eq!(held_after_the_end(&pipeline).await, 0);
}

#[actix::test]
async fn files_that_vanish_on_the_way_are_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = copied(folder.path());
    let streaming = MemoryLimits { retain: false, ..MemoryLimits::default() };
    let pipeline = start(&bundle, 1, streaming);
    let expected = pixels(&pipeline.submit(request("a ball", 1)).await.unwrap()).await.unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    let job = pipeline.submit(request("a ball", 1)).await.unwrap();
    assert!(pixels(&job).await.unwrap() == expected);
}

#[actix::test]
async fn a_cancel_at_any_moment_leaks_nothing() {
    let bundle = ModelBundle::embedded().unwrap();
    let (smallest, model) = budgets(&bundle, 2);
    let memory = MemoryLimits { budget_bytes: smallest + model / 3, ..MemoryLimits::default() };
    let pipeline = start(&bundle, 2, memory);
    let expected = pixels(&pipeline.submit(request("a ball", 1)).await.unwrap()).await.unwrap();
    for events in 0..STEPS + 5 {
        let cancelled = pipeline.submit(request("a red circle", 2)).await.unwrap();
        let other = pipeline.submit(request("a ball", 1)).await.unwrap();
        for _ in 0..events {
            next(&cancelled).await;
        }
        pipeline.cancel(cancelled.id).await;
        assert!(pixels(&other).await.unwrap() == expected, "after {events} events");
    }
    assert_eq!(held_after_the_end(&pipeline).await, 0);
}

#[actix::test]
async fn a_budget_below_the_model_s_ends_is_refused_at_once() {
    let bundle = ModelBundle::embedded().unwrap();
    let memory = MemoryLimits { budget_bytes: 1 << 20, ..MemoryLimits::default() };
    let limits = GraphLimits { memory, ..GraphLimits::default() };
    let model = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
    let refused = PipelineHandle::open_sora(&bundle, model, &Device::Cpu, &limits);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("budget"), "{error}");
}

#[actix::test]
async fn a_prompt_seen_before_skips_the_text_encoder_and_gives_the_same_bits() {
    let bundle = ModelBundle::embedded().unwrap();
    let streaming = MemoryLimits { retain: false, ..MemoryLimits::default() };
    let pipeline = start(&bundle, 1, streaming);
    let embedder_loads = async || {
        let loaders = pipeline.observe().await.unwrap().loaders;
        loaders.iter().find(|loader| loader.stage == "prompt_embedder").unwrap().loads
    };
    let expected = all_pixels(&pipeline, &[request("a ball", 1)]).await;
    let loads = embedder_loads().await;
    assert!(loads > 0);
    assert!(all_pixels(&pipeline, &[request("a ball", 1)]).await == expected);
    assert_ne!(all_pixels(&pipeline, &[request("A ball ", 2)]).await, expected);
    assert_eq!(embedder_loads().await, loads);
    all_pixels(&pipeline, &[request("a green ball", 1)]).await;
    assert_eq!(embedder_loads().await, 2 * loads);
    assert_eq!(held_after_the_end(&pipeline).await, 0);
}
