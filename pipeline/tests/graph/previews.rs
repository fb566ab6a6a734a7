//! Pictures of unfinished videos: right, never in the way, never a reason to fail.

use std::sync::Arc;
use std::time::Duration;

use sora_actors::messages::{GenerationRequest, JobEvent, VideoChunk};
use sora_pipeline::{GraphLimits, SubmitError};

use crate::fakes::{Mishap, Place, Stagecraft, expected_after, expected_pixel, preview_of};
use crate::{End, end, events, in_time, limits, request, start, until};

/// Long enough for something that must not happen to happen.
const SETTLE: Duration = Duration::from_millis(150);

/// Steps that were done, and the picture.
fn previews(events: &[JobEvent]) -> Vec<(usize, &VideoChunk)> {
    let previews = events.iter().filter_map(|event| match event {
        JobEvent::Preview { done, picture } => Some((*done, picture)),
        _ => None,
    });
    previews.collect()
}

/// So many steps that the decoder has time for a preview before the video comes, which goes first.
fn long_request(seed: u64) -> GenerationRequest {
    let mut request = request("x", seed);
    request.sampling.steps = 1000;
    request
}

#[actix::test]
async fn a_preview_shows_the_step_that_it_tells_and_leaves_the_video_as_it_is() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Denoiser);
    let pipeline = start(&stagecraft, &limits(2));
    let wished = long_request(5);
    let job = pipeline.submit(wished.clone()).await.unwrap();
    job.events.request_preview();
    stagecraft.open(Place::Denoiser);
    let events = events(&job).await;
    let [(done, picture)] = previews(&events)[..] else { panic!("{events:?}") };
    assert_eq!((picture.first_frame, picture.frames.len()), (0, 1));
    assert_eq!(picture.frames[0].0[..2], expected_after(&wished, 4, done));
    assert!(done < wished.sampling.steps, "the last step is the video's");
    let chunks = events.iter().filter_map(|event| match event {
        JobEvent::Chunk(chunk) => Some(chunk),
        _ => None,
    });
    let frames: Vec<_> = chunks.flat_map(|chunk| &chunk.frames).collect();
    assert_eq!(frames.len(), 5);
    assert!(frames.iter().all(|frame| frame.0[..2] == expected_pixel(&wished, 4)));
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn whoever_asks_again_gets_previews_of_later_steps() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Denoiser);
    let pipeline = start(&stagecraft, &limits(1));
    let wished = long_request(5);
    let job = pipeline.submit(wished.clone()).await.unwrap();
    job.events.request_preview();
    stagecraft.open(Place::Denoiser);
    let mut told = Vec::new();
    while let Ok(event) = in_time(job.events.recv_async()).await {
        if let JobEvent::Preview { done, picture } = event {
            assert_eq!(picture.frames[0].0[..2], expected_after(&wished, 2, done));
            told.push(done);
            job.events.request_preview();
        }
    }
    assert!(!told.is_empty() && told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert_eq!(stagecraft.count(Place::Decoder, &preview_of("x")), told.len());
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn wishes_for_previews_change_nothing_in_what_a_blocked_graph_takes() {
    for (queue_capacity, token_slots) in [(1, 1), (3, 2)] {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.close(Place::Decoder);
        let limits = GraphLimits { queue_capacity, token_slots, sweep_limit: 1, ..limits(2) };
        let pipeline = start(&stagecraft, &limits);
        let expected = 1 + token_slots + 1 + queue_capacity;
        // The first video holds the decoder; the others wish for previews behind it.
        let mut jobs = vec![pipeline.submit(request("x", 0)).await.unwrap()];
        until(|| stagecraft.count(Place::Decoder, "x") == 1).await;
        stagecraft.close(Place::Denoiser);
        in_time(async {
            while jobs.len() < expected {
                match pipeline.submit(request("x", jobs.len() as u64)).await {
                    Ok(job) => {
                        job.events.request_preview();
                        stagecraft.open(Place::Denoiser);
                        jobs.push(job);
                    }
                    Err(SubmitError::Full { .. }) => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await;
        tokio::time::sleep(SETTLE).await;
        let refused = pipeline.submit(request("too many", 99)).await;
        assert!(matches!(refused, Err(SubmitError::Full { .. })), "more than {expected} jobs");
        let snapshot = pipeline.observe().await.unwrap();
        for channel in &snapshot.channels {
            assert!(channel.depth <= channel.capacity, "{channel:?}");
            assert_eq!(channel.blocked_seconds, 0.0, "{channel:?}");
        }
        let waiting = snapshot.channels.iter().find(|channel| channel.name == "latents");
        assert_eq!(waiting.map(|latents| latents.depth), Some(token_slots + 1));
        stagecraft.open(Place::Decoder);
        for job in &jobs {
            assert!(matches!(end(job).await, End::Finished));
        }
        in_time(pipeline.drain()).await;
    }
}

#[actix::test]
async fn jobs_that_are_cancelled_over_waiting_previews_leave_their_places() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Decoder);
    let pipeline = start(&stagecraft, &GraphLimits { token_slots: 1, ..limits(1) });
    let first = pipeline.submit(request("first", 0)).await.unwrap();
    first.events.request_preview();
    // Either its preview or its video holds the decoder, while others come and go with previews wished.
    until(|| {
        stagecraft.log().iter().any(|(place, of)| *place == Place::Decoder && of.contains("first"))
    })
    .await;
    for seed in 0..4 {
        let job = pipeline.submit(request("gone", seed)).await.unwrap();
        job.events.request_preview();
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(job);
    }
    let last = pipeline.submit(request("last", 9)).await.unwrap();
    stagecraft.open(Place::Decoder);
    assert!(matches!(end(&first).await, End::Finished));
    assert!(matches!(end(&last).await, End::Finished));
    let snapshot = pipeline.observe().await.unwrap();
    assert!(snapshot.channels.iter().all(|channel| channel.blocked_seconds == 0.0));
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn a_preview_that_fails_fails_nothing_else() {
    for (place, mishap) in [
        (Place::Decoder, Mishap::Error),
        (Place::Decoder, Mishap::Panic),
        (Place::Denoiser, Mishap::Error),
        (Place::Denoiser, Mishap::Panic),
    ] {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.spoil(place, &preview_of("x"), mishap);
        stagecraft.close(Place::Block(0));
        let pipeline = start(&stagecraft, &limits(1));
        let job = pipeline.submit(long_request(1)).await.unwrap();
        job.events.request_preview();
        stagecraft.open(Place::Block(0));
        let events = events(&job).await;
        assert!(matches!(events.last(), Some(JobEvent::Finished(_))), "{place:?} {mishap:?}");
        assert!(previews(&events).is_empty());
        assert!(stagecraft.count(place, &preview_of("x")) > 0, "{place:?}: none was tried");
        in_time(pipeline.drain()).await;
    }
}

#[actix::test]
async fn previews_that_nobody_takes_displace_no_progress() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(1));
    let mut wished = request("x", 1);
    wished.sampling.steps = 30;
    let job = pipeline.submit(wished).await.unwrap();
    let requester = job.events.preview_requester();
    until(|| {
        requester.request();
        stagecraft.count(Place::Decoder, "x") > 0
    })
    .await;
    let events = events(&job).await;
    let steps = events.iter().filter(|event| matches!(event, JobEvent::Step { .. })).count();
    assert_eq!(steps, 30);
    assert!(previews(&events).len() <= 1, "one preview waits at most");
    assert!(matches!(events.last(), Some(JobEvent::Finished(_))));
    // A wish for what is over is no wish.
    requester.request();
    in_time(pipeline.drain()).await;
}
