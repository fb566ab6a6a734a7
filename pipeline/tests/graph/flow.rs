//! What comes out, and in which order.

use std::sync::Arc;

use sora_actors::messages::{JobEvent, VideoChunk};
use sora_pipeline::GraphLimits;

use crate::fakes::{CHUNK_FRAMES, Place, Stagecraft, expected_pixel};
use crate::{End, end, events, in_time, limits, request, start, until};

fn chunk_of(event: &JobEvent) -> Option<&VideoChunk> {
    if let JobEvent::Chunk(chunk) = event { Some(chunk) } else { None }
}

fn chunks(events: &[JobEvent]) -> Vec<&VideoChunk> {
    events.iter().filter_map(chunk_of).collect()
}

#[actix::test]
async fn a_job_tells_its_whole_story_in_order() {
    let pipeline = start(&Arc::default(), &limits(2));
    let job = pipeline.submit(request("one", 5)).await.unwrap();
    let events = events(&job).await;
    let kinds: Vec<String> = events
        .iter()
        .map(|event| match event {
            JobEvent::Step { index, steps, .. } => format!("step {index} of {steps}"),
            JobEvent::Chunk(chunk) => format!("chunk at {}", chunk.first_frame),
            other => format!("{other:?}").split([' ', '(', '{']).next().unwrap().to_string(),
        })
        .collect();
    let expected = [
        "Queued",
        "Embedding",
        "Embedded",
        "step 0 of 4",
        "step 1 of 4",
        "step 2 of 4",
        "step 3 of 4",
        "Decoding",
        "chunk at 0",
        "chunk at 2",
        "chunk at 4",
        "Finished",
    ];
    assert_eq!(kinds, expected);
    let Some(JobEvent::Finished(summary)) = events.last() else { panic!("not finished") };
    assert_eq!((summary.steps_computed, summary.leapt_at), (4, None));
    let stages = summary.stage_seconds;
    let sum = stages.queued + stages.embed + stages.denoise + stages.decode;
    assert!(sum <= summary.seconds, "{summary:?}");
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn jobs_come_out_right_alone_and_together_on_any_number_of_workers() {
    for workers in [1, 2, 3] {
        let pipeline = start(&Arc::default(), &limits(workers));
        let requests: Vec<_> = (0..6).map(|n| request(&format!("prompt {n}"), 40 + n)).collect();
        let mut jobs = Vec::new();
        for request in &requests {
            jobs.push(pipeline.submit(request.clone()).await.unwrap());
        }
        for (job, request) in jobs.iter().zip(&requests) {
            let events = events(job).await;
            let [low, high] = expected_pixel(request, 2 * workers);
            let frames: Vec<_> = chunks(&events).iter().flat_map(|chunk| &chunk.frames).collect();
            assert_eq!(frames.len(), request.num_frames);
            assert!(chunks(&events).iter().all(|chunk| chunk.frames.len() <= CHUNK_FRAMES));
            for (index, frame) in frames.iter().enumerate() {
                assert_eq!(frame.0, [low, high, index as u8], "{workers} workers, {}", job.id);
            }
        }
        in_time(pipeline.drain()).await;
    }
}

#[actix::test]
async fn jobs_in_flight_take_turns() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Block(0));
    let pipeline = start(&stagecraft, &limits(1));
    let mut jobs = Vec::new();
    for prompt in ["a", "b", "c"] {
        jobs.push(pipeline.submit(request(prompt, 1)).await.unwrap());
    }
    // All three are in the ring before the first block opens.
    crate::until(|| {
        ["a", "b", "c"].iter().all(|prompt| stagecraft.count(Place::Denoiser, prompt) == 1)
    })
    .await;
    stagecraft.open(Place::Block(0));
    for job in &jobs {
        events(job).await;
    }
    let turns: Vec<_> =
        stagecraft.log().into_iter().filter(|(at, _)| *at == Place::Block(0)).collect();
    // The first sweep may have started with one token alone; afterwards no job gets ahead by more than one turn.
    for turn in 0..turns.len() {
        let done = |prompt: &str| turns[..=turn].iter().filter(|(_, of)| of == prompt).count();
        let counts = [done("a"), done("b"), done("c")];
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(spread <= 2, "after {turn} turns: {counts:?}");
    }
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn waiting_prompts_are_embedded_in_one_sweep() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Encoder);
    let pipeline = start(&stagecraft, &limits(1));
    let first = pipeline.submit(request("first", 1)).await.unwrap();
    crate::until(|| stagecraft.count(Place::Encoder, "first") == 1).await;
    let mut others = Vec::new();
    for prompt in ["b", "c", "d"] {
        others.push(pipeline.submit(request(prompt, 1)).await.unwrap());
    }
    stagecraft.open(Place::Encoder);
    for job in [&first].into_iter().chain(&others) {
        assert!(events(job).await.iter().any(|event| matches!(event, JobEvent::Finished(_))));
    }
    let encoded: Vec<_> =
        stagecraft.log().into_iter().filter(|(at, _)| *at == Place::Encoder).collect();
    let order: Vec<_> = encoded.iter().map(|(_, prompt)| prompt.as_str()).collect();
    assert_eq!(order, ["first", "b", "c", "d"]);
    // Each of the 3 blocks once for the first prompt, and once for the three that waited.
    assert_eq!(stagecraft.encoder_loads(), 2 * 3);
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn jobs_in_flight_share_each_load_of_a_block() {
    let stagecraft = Arc::<Stagecraft>::default();
    let limits = GraphLimits { token_slots: 4, ..limits(1) };
    let pipeline = start(&stagecraft, &limits);
    // The first job's first sweep is held until the others are ready to join.
    stagecraft.close(Place::Block(0));
    let mut jobs = Vec::new();
    for prompt in ["a", "b", "c", "d"] {
        jobs.push(pipeline.submit(request(prompt, 1)).await.unwrap());
        until(|| stagecraft.count(Place::Denoiser, prompt) == 1).await;
    }
    stagecraft.open(Place::Block(0));
    for job in &jobs {
        assert!(matches!(end(job).await, End::Finished));
    }
    // Four steps of two blocks for all four of them, after the first one's first step.
    assert_eq!(stagecraft.span_loads(), 2 * (1 + 4));
    pipeline.drain().await;
}
