//! The graph gives the same bits as the plainest way of running, whatever its shape and whoever else is in it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use sora_actors::messages::{GenerationRequest, JobEvent};
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::generation::{PlainInput, PlainPath, PlainText};
use sora_models::guiding_texts::GuidingTexts;
use sora_models::probe::NoProbe;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::{LeapRule, SamplingSettings};
use sora_models::stdit3::{MergeSteps, Stdit3};
use sora_models::t5::{CaptionCleaning, TokenBatch};
use sora_models::vae::{VideoVae, to_rgb8};
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::{GraphLimits, Job, PipelineHandle};

/// What can be compared exactly: every drift cosine, which sees all bits of the velocities, and every byte.
#[derive(Debug, PartialEq)]
struct Outcome {
    cosines: Vec<Option<f64>>,
    leapt_at: Option<usize>,
    pixels: Vec<u8>,
}

fn requests() -> Vec<GenerationRequest> {
    let sampling = SamplingSettings { steps: 5, ..SamplingSettings::default() };
    let plain = GenerationRequest {
        prompt: "a red circle moving left to right on a blue background".into(),
        negative_prompt: None,
        seed: 1,
        width_px: 32,
        height_px: 24,
        num_frames: 17,
        fps: 8.0,
        sampling: sampling.clone(),
        scores: PromptScores::default(),
    };
    let leaping = SamplingSettings {
        leap: LeapRule::Fixed(2),
        merge: MergeSteps::First(2),
        ..sampling.clone()
    };
    let picture = GenerationRequest { num_frames: 1, seed: 3, ..plain.clone() };
    vec![
        GenerationRequest {
            prompt: "a small green square".into(),
            seed: 2,
            num_frames: 22,
            // A longer text than the prompt.
            negative_prompt: Some("A large RED circle moving down on a white background".into()),
            sampling: leaping,
            scores: PromptScores { aesthetic: Some(6.5), ..PromptScores::default() },
            ..plain.clone()
        },
        plain,
        picture,
    ]
}

fn run_plainly(bundle: &ModelBundle, request: &GenerationRequest) -> Outcome {
    let (dtype, device) = (DType::F32, Device::Cpu);
    let weights = |part| bundle.part(part).weights(dtype, &device);
    let config = bundle.stdit3_config();
    let transformer = Stdit3::load(&weights(PartName::Stdit3), config).unwrap();
    let vae = VideoVae::load(&weights(PartName::Vae), bundle.vae_config()).unwrap();
    let text_encoder = bundle.text_encoder(dtype, &device);

    let tokenizer = bundle.tokenizer(config.model_max_length).unwrap();
    let caption = request.scores.append_to(&request.prompt);
    let texts = GuidingTexts { prompt: caption, negative: request.negative_prompt.clone() };
    let texts = texts.map(|text| {
        let cleaned = CaptionCleaning::OpenSora.apply(&text).unwrap();
        let ids = tokenizer.tokenize(&cleaned).unwrap().ids;
        let mask = Tensor::ones((1, ids.len()), DType::U8, &device).unwrap();
        PlainText { tokens: TokenBatch::unpadded(&ids), mask }
    });
    let settings = request.video_settings();
    let input = PlainInput {
        texts,
        noise: &settings.noise(request.seed, transformer.ends()).unwrap(),
        settings,
    };
    let path = PlainPath { text_encoder: &text_encoder, transformer: &transformer, vae: &vae };
    let output = path.generate(&input, &mut NoProbe).unwrap();
    let frames = to_rgb8(&output.video.squeeze(0).unwrap()).unwrap();
    Outcome {
        cosines: output.steps.iter().map(|step| step.cosine).collect(),
        leapt_at: output.steps.iter().find(|step| step.leapt).map(|step| step.step),
        pixels: frames.flatten_all().unwrap().to_vec1().unwrap(),
    }
}

async fn outcome(job: &Job) -> Outcome {
    outcome_with_previews(job, &mut Vec::new(), false).await
}

/// As [`outcome`]; `previews` gets the steps that were done for each, and its pixels.
async fn outcome_with_previews(
    job: &Job,
    previews: &mut Vec<(usize, Vec<u8>)>,
    wished: bool,
) -> Outcome {
    let mut outcome = Outcome { cosines: Vec::new(), leapt_at: None, pixels: Vec::new() };
    loop {
        if wished {
            job.events.request_preview();
        }
        // A hang shall fail; the time is for a busy machine.
        let event = tokio::time::timeout(Duration::from_secs(300), job.events.recv_async()).await;
        match event.unwrap().unwrap() {
            JobEvent::Step { cosine, .. } => outcome.cosines.push(cosine),
            JobEvent::Chunk(chunk) => {
                outcome.pixels.extend(chunk.frames.into_iter().flat_map(|frame| frame.0));
            }
            JobEvent::Finished(summary) => {
                assert_eq!(summary.steps_computed, outcome.cosines.len());
                outcome.leapt_at = summary.leapt_at;
                return outcome;
            }
            JobEvent::Preview { done, mut picture } => {
                assert_eq!((picture.first_frame, picture.frames.len()), (0, 1));
                previews.push((done, picture.frames.remove(0).0));
            }
            JobEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

#[actix::test]
async fn any_graph_gives_the_bits_of_the_plain_path() {
    let bundle = ModelBundle::embedded().unwrap();
    let requests = requests();
    let expected: Vec<_> = requests.iter().map(|request| run_plainly(&bundle, request)).collect();
    assert_eq!(expected[0].leapt_at, Some(2));
    assert_ne!(expected[0].pixels, expected[1].pixels);

    let blocks = bundle.stdit3_config().blocks();
    for workers in [1, 2, 3].into_iter().filter(|workers| *workers <= blocks) {
        let limits = GraphLimits { workers, token_slots: 3, ..GraphLimits::default() };
        let memory = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
        let pipeline = PipelineHandle::open_sora(&bundle, memory, &Device::Cpu, &limits).unwrap();
        // Alone,
        let job = pipeline.submit(requests[0].clone()).await.unwrap();
        assert!(outcome(&job).await == expected[0], "alone, {workers} workers");
        // and together.
        let mut jobs = Vec::new();
        for request in &requests {
            jobs.push(pipeline.submit(request.clone()).await.unwrap());
        }
        let (first, second, third) =
            tokio::join!(outcome(&jobs[0]), outcome(&jobs[1]), outcome(&jobs[2]));
        for (index, actual) in [first, second, third].iter().enumerate() {
            assert!(*actual == expected[index], "request {index}, {workers} workers");
        }
        pipeline.drain().await;
    }
}

#[actix::test]
async fn a_negative_prompt_changes_the_video_and_a_blank_one_changes_nothing() {
    let bundle = ModelBundle::embedded().unwrap();
    let memory = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
    let limits = GraphLimits::default();
    let pipeline = PipelineHandle::open_sora(&bundle, memory, &Device::Cpu, &limits).unwrap();
    let plain = requests().remove(1);
    let expected = run_plainly(&bundle, &plain);
    let avoiding =
        |text: &str| GenerationRequest { negative_prompt: Some(text.into()), ..plain.clone() };
    // The second round finds the embeddings of the first, each text by itself.
    for round in 0..2 {
        for (request, is_plain) in
            [(avoiding("a blue square"), false), (avoiding(" "), true), (plain.clone(), true)]
        {
            let job = pipeline.submit(request).await.unwrap();
            assert_eq!(outcome(&job).await == expected, is_plain, "round {round}");
        }
    }
    // A prompt to show and one to avoid are embedded alike.
    let swapped = GenerationRequest { prompt: "a blue square".into(), ..avoiding(&plain.prompt) };
    let expected = run_plainly(&bundle, &swapped);
    let job = pipeline.submit(swapped).await.unwrap();
    assert!(outcome(&job).await == expected, "out of the cache");
    pipeline.drain().await;
}

#[actix::test]
async fn previews_show_where_a_leap_would_come_to_and_leave_every_bit_as_it_is() {
    let bundle = ModelBundle::embedded().unwrap();
    let memory = ModelMemory::of(&bundle, DType::F32, &Device::Cpu).unwrap();
    let limits = GraphLimits::default();
    let pipeline = PipelineHandle::open_sora(&bundle, memory, &Device::Cpu, &limits).unwrap();
    for request in &requests() {
        let job = pipeline.submit(request.clone()).await.unwrap();
        let expected = outcome(&job).await;
        let job = pipeline.submit(request.clone()).await.unwrap();
        let mut previews = Vec::new();
        let previewed = outcome_with_previews(&job, &mut previews, true).await;
        assert!(previewed == expected, "previews changed {request:?}");
        assert!(!previews.is_empty(), "no preview of {request:?}");
        for (done, pixels) in previews {
            // A picture's only frame is decoded as its preview is.
            if request.num_frames > 1 {
                continue;
            }
            let mut leaping = request.clone();
            leaping.sampling.leap = LeapRule::Fixed(done - 1);
            let job = pipeline.submit(leaping).await.unwrap();
            let leapt = outcome(&job).await;
            assert_eq!((leapt.leapt_at, leapt.pixels.len()), (Some(done - 1), pixels.len()));
            // The same sum in another order.
            let near = leapt.pixels.iter().zip(&pixels).all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(near, "the preview after {done} steps is not where they lead to");
        }
    }
    pipeline.drain().await;
}
