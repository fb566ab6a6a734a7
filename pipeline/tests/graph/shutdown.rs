//! Draining finishes, stopping cancels; both end every thread.

use std::sync::Arc;

use sora_pipeline::SubmitError;

use crate::fakes::{Place, Stagecraft};
use crate::{End, end, in_time, limits, request, start, until};

#[actix::test]
async fn draining_finishes_what_was_accepted_and_ends_all_threads() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(3));
    let mut jobs = Vec::new();
    for n in 0..7 {
        jobs.push(pipeline.submit(request("x", n)).await.unwrap());
    }
    let consumers = async {
        for job in &jobs {
            assert!(matches!(end(job).await, End::Finished));
        }
    };
    let closing = async {
        // Both wait for the same end.
        in_time(async { tokio::join!(pipeline.drain(), pipeline.drain()) }).await;
        match pipeline.submit(request("late", 0)).await.map(|job| job.id) {
            Err(SubmitError::Closed { request }) => assert_eq!(request.prompt, "late"),
            other => panic!("{other:?}"),
        }
    };
    tokio::join!(consumers, closing);
    assert!(!pipeline.observe().await.unwrap().accepting);
    // Every stage owned a share of the stagecraft: now none is left.
    assert_eq!(Arc::strong_count(&stagecraft), 1);
}

#[actix::test]
async fn stopping_cancels_everything_everywhere() {
    let stagecraft = Arc::<Stagecraft>::default();
    stagecraft.close(Place::Block(1));
    let pipeline = start(&stagecraft, &limits(2));
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(pipeline.submit(request("x", n)).await.unwrap());
    }
    until(|| stagecraft.count(Place::Block(1), "x") == 1).await;
    let stopping = in_time(pipeline.stop());
    let opening = async {
        for job in &jobs {
            assert!(matches!(end(job).await, End::Cancelled));
        }
        stagecraft.open(Place::Block(1));
    };
    tokio::join!(stopping, opening);
    assert_eq!(Arc::strong_count(&stagecraft), 1);
    assert_eq!(stagecraft.count(Place::Block(1), "x"), 1);
}

#[actix::test]
async fn dropping_the_last_handle_ends_the_graph() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(2));
    let job = pipeline.submit(request("x", 1)).await.unwrap();
    drop(pipeline);
    assert!(matches!(end(&job).await, End::Finished));
    until(|| Arc::strong_count(&stagecraft) == 1).await;
}
