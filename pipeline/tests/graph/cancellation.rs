//! A cancelled job ends at once, its work soon after, and its slot is free again.

use std::sync::Arc;

use sora_actors::messages::JobId;

use crate::fakes::{Place, Stagecraft};
use crate::{End, end, in_time, limits, request, start, until};

/// Where jobs are held while they are cancelled.
const PLACES: [Place; 5] =
    [Place::Encoder, Place::Denoiser, Place::Block(0), Place::Block(3), Place::Decoder];

#[actix::test]
async fn a_job_is_cancelled_wherever_it_is() {
    for place in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.close(place);
        let pipeline = start(&stagecraft, &limits(2));
        let job = pipeline.submit(request("gone", 1)).await.unwrap();
        until(|| stagecraft.count(place, "gone") == 1).await;
        let before = stagecraft.log().len();
        assert!(in_time(pipeline.cancel(job.id)).await, "{place:?}");
        assert!(!in_time(pipeline.cancel(job.id)).await, "{place:?}: cancelled twice");
        // The last event comes while the stage still computes.
        assert!(matches!(end(&job).await, End::Cancelled), "{place:?}");
        stagecraft.open(place);
        let next = pipeline.submit(request("next", 2)).await.unwrap();
        assert!(matches!(end(&next).await, End::Finished), "{place:?}");
        let more = stagecraft.log()[before..].iter().filter(|(_, of)| of == "gone").count();
        assert_eq!(more, 0, "{place:?}: work went on");
        in_time(pipeline.drain()).await;
        assert_eq!(pipeline.observe().await.unwrap().free_token_slots, 3, "{place:?}");
    }
}

#[actix::test]
async fn dropping_the_events_cancels_the_job() {
    for place in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.close(place);
        let pipeline = start(&stagecraft, &limits(2));
        let job = pipeline.submit(request("gone", 1)).await.unwrap();
        until(|| stagecraft.count(place, "gone") == 1).await;
        let before = stagecraft.log().len();
        drop(job);
        assert!(pipeline.observe().await.unwrap().jobs.is_empty(), "{place:?}");
        stagecraft.open(place);
        in_time(pipeline.drain()).await;
        assert_eq!(stagecraft.log().len(), before, "{place:?}: work went on");
    }
}

#[actix::test]
async fn a_waiting_job_is_cancelled_before_it_costs_anything() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Encoder);
    let pipeline = start(&stagecraft, &limits(1));
    let first = pipeline.submit(request("first", 1)).await.unwrap();
    until(|| stagecraft.count(Place::Encoder, "first") == 1).await;
    let waiting = pipeline.submit(request("waiting", 1)).await.unwrap();
    assert!(pipeline.cancel(waiting.id).await);
    assert!(matches!(end(&waiting).await, End::Cancelled));
    stagecraft.open(Place::Encoder);
    assert!(matches!(end(&first).await, End::Finished));
    in_time(pipeline.drain()).await;
    assert_eq!(stagecraft.count(Place::Encoder, "waiting"), 0);
    assert!(!pipeline.cancel(JobId(99)).await, "an unknown job was cancelled");
}

#[actix::test]
async fn a_decoder_that_waits_for_its_consumer_is_cancelled_too() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(1));
    let job = pipeline.submit(request("slow", 1)).await.unwrap();
    until(|| stagecraft.count(Place::Decoder, "slow") == 3).await;
    assert!(pipeline.cancel(job.id).await);
    // Nothing was received, and still the graph ends.
    in_time(pipeline.drain()).await;
    assert!(matches!(end(&job).await, End::Cancelled));
}
