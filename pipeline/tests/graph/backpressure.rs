//! How much the graph takes before it refuses, and what a slow consumer holds up.

use std::sync::Arc;
use std::time::Duration;

use sora_actors::messages::JobEvent;
use sora_actors::{ConsumerLimits, StageErrorKind, StageFailure, StageName};
use sora_pipeline::{GraphLimits, SubmitError};

use crate::fakes::{Place, Stagecraft};
use crate::{End, end, in_time, limits, request, start, until};

/// Long enough for a wrongly accepted job to be taken in, too.
const SETTLE: Duration = Duration::from_millis(150);

#[actix::test]
async fn a_blocked_graph_takes_exactly_what_its_edges_hold() {
    for (queue_capacity, token_slots) in [(1, 1), (2, 1), (3, 2)] {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.close(Place::Decoder);
        let limits = GraphLimits { queue_capacity, token_slots, sweep_limit: 1, ..limits(2) };
        let pipeline = start(&stagecraft, &limits);
        // One in the decoder, one latent for each slot, one in the embedder that waits for a slot, and the queue.
        let expected = 1 + token_slots + 1 + queue_capacity;
        let mut jobs = Vec::new();
        in_time(async {
            while jobs.len() < expected {
                match pipeline.submit(request("x", jobs.len() as u64)).await {
                    Ok(job) => jobs.push(job),
                    Err(SubmitError::Full { .. }) => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await;
        tokio::time::sleep(SETTLE).await;
        match pipeline.submit(request("too many", 9)).await.map(|job| job.id) {
            Err(SubmitError::Full { request, capacity }) => {
                assert_eq!((request.prompt.as_str(), capacity), ("too many", queue_capacity));
            }
            other => panic!("job {} of {expected}: {other:?}", expected + 1),
        }
        let snapshot = pipeline.observe().await.unwrap();
        assert_eq!(snapshot.jobs.len(), expected);
        assert_eq!(snapshot.free_token_slots, 0);
        for channel in &snapshot.channels {
            assert!(channel.depth <= channel.capacity, "{channel:?}");
            // Submitting refuses instead of waiting, and inside the ring there is always room.
            assert_eq!(channel.blocked_seconds, 0.0, "{channel:?}");
        }
        stagecraft.open(Place::Decoder);
        for job in &jobs {
            assert!(matches!(end(job).await, End::Finished));
        }
        in_time(pipeline.drain()).await;
    }
}

#[actix::test]
async fn a_consumer_that_reads_nothing_holds_up_the_decoder_and_loses_nothing() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(1));
    let slow = pipeline.submit(request("slow", 1)).await.unwrap();
    // Its backlog takes two chunks; the third is decoded and waits.
    until(|| stagecraft.count(Place::Decoder, "slow") == 3).await;
    let other = pipeline.submit(request("other", 2)).await.unwrap();
    until(|| stagecraft.count(Place::Denoiser, "other") == 4).await;
    tokio::time::sleep(SETTLE).await;
    assert_eq!(stagecraft.count(Place::Decoder, "other"), 0);
    let events = crate::events(&slow).await;
    let steps = events.iter().filter(|event| matches!(event, JobEvent::Step { .. })).count();
    let chunks = events.iter().filter(|event| matches!(event, JobEvent::Chunk(_))).count();
    assert_eq!((steps, chunks), (4, 3));
    assert!(matches!(events.last(), Some(JobEvent::Finished(_))));
    assert!(matches!(end(&other).await, End::Finished));
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn a_consumer_that_never_comes_back_is_given_up() {
    let patience = Duration::from_millis(100);
    let consumer = ConsumerLimits { chunk_backlog: 1, patience };
    let pipeline = start(&Arc::default(), &GraphLimits { consumer, ..limits(1) });
    let stuck = pipeline.submit(request("stuck", 1)).await.unwrap();
    let other = pipeline.submit(request("other", 2)).await.unwrap();
    assert!(matches!(end(&other).await, End::Finished));
    let End::Failed(error) = end(&stuck).await else { panic!("it was not given up") };
    assert_eq!((error.stage, error.kind()), (StageName::VaeDecoder, StageErrorKind::Cancelled));
    assert!(matches!(&*error.cause, StageFailure::ConsumerStalled { .. }));
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn limits_without_room_are_refused() {
    let compute = crate::fakes::fake_compute(&Arc::default(), 1);
    let bad = GraphLimits { token_slots: 0, ..limits(1) };
    let refused = sora_pipeline::PipelineHandle::launch(compute, &bad, Box::new(|_| Ok(())));
    assert!(refused.is_err_and(|error| error.to_string().contains("token_slots")));
}
