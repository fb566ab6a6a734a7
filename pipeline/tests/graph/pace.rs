//! A paused graph stands still after the turn that is under way, goes on as if nothing had been, and can always end.

use std::sync::Arc;

use sora_actors::Load;
use sora_actors::messages::JobEvent;
use sora_pipeline::{Job, PipelineHandle};

use crate::fakes::{Place, Stagecraft, expected_pixel};
use crate::{End, end, events, in_time, limits, request, start, until};

/// Where jobs are when the graph is paused.
const PLACES: [Place; 5] =
    [Place::Encoder, Place::Denoiser, Place::Block(0), Place::Block(3), Place::Decoder];

/// Pauses while a job is held at `place`, and returns when the graph stands still.
async fn pause_at(place: Place, stagecraft: &Arc<Stagecraft>, pipeline: &PipelineHandle) -> Job {
    stagecraft.close(place);
    let job = pipeline.submit(request("held", 3)).await.unwrap();
    until(|| stagecraft.count(place, "held") == 1).await;
    let pace = pipeline.pace().clone();
    pace.pause();
    let still = tokio::task::spawn_blocking(move || pace.wait_until_still());
    assert!(!still.is_finished(), "{place:?}: a turn is under way");
    stagecraft.open(place);
    assert!(in_time(still).await.unwrap(), "{place:?}");
    job
}

#[actix::test]
async fn a_pause_holds_a_job_wherever_it_is_and_changes_no_bit() {
    for place in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        let pipeline = start(&stagecraft, &limits(2));
        let job = pause_at(place, &stagecraft, &pipeline).await;
        let before = stagecraft.log();
        let waiting = pipeline.submit(request("waiting", 4)).await.unwrap();
        let snapshot = pipeline.observe().await.unwrap();
        assert_eq!(snapshot.jobs.len(), 2, "{place:?}: a job is lost");
        assert_eq!(stagecraft.log(), before, "{place:?}: work went on");
        pipeline.pace().set_load(Load::Half);
        pipeline.pace().resume();
        for (job, request) in [(job, request("held", 3)), (waiting, request("waiting", 4))] {
            let events = events(&job).await;
            let pixels = events.iter().filter_map(|event| match event {
                JobEvent::Chunk(chunk) => Some(&chunk.frames),
                _ => None,
            });
            let expected = expected_pixel(&request, 4);
            let pixels: Vec<_> = pixels.flatten().map(|frame| &frame.0[..2]).collect();
            assert_eq!(pixels, [&expected; 5], "{place:?}");
        }
    }
}

#[actix::test]
async fn a_job_can_be_cancelled_in_a_pause() {
    for place in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        let pipeline = start(&stagecraft, &limits(2));
        let job = pause_at(place, &stagecraft, &pipeline).await;
        let before = stagecraft.log().len();
        let canceller = job.events.canceller();
        assert!(canceller.cancel() && !canceller.cancel(), "{place:?}");
        assert!(matches!(end(&job).await, End::Cancelled), "{place:?}");
        pipeline.pace().resume();
        in_time(pipeline.drain()).await;
        assert_eq!(stagecraft.log().len(), before, "{place:?}: work went on");
    }
}

#[actix::test]
async fn a_paused_graph_can_end() {
    for place in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        let pipeline = start(&stagecraft, &limits(2));
        let stopped = pause_at(place, &stagecraft, &pipeline).await;
        in_time(pipeline.stop()).await;
        assert!(matches!(end(&stopped).await, End::Cancelled), "{place:?}");

        let stagecraft = Arc::<Stagecraft>::default();
        let pipeline = start(&stagecraft, &limits(2));
        let finished = pause_at(place, &stagecraft, &pipeline).await;
        // The last handle: what is under way is finished.
        drop(pipeline);
        assert!(matches!(end(&finished).await, End::Finished), "{place:?}");
    }
}
