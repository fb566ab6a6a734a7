//! One job's failure is its own; a dead stage fails what comes, instead of letting it wait.

use std::sync::Arc;

use sora_actors::{StageErrorKind, StageFailure, StageName};
use sora_models::ModelError;

use crate::fakes::{Mishap, Place, Stagecraft};
use crate::{End, end, in_time, limits, request, start};

const PLACES: [(Place, StageName); 5] = [
    (Place::Encoder, StageName::PromptEmbedder),
    (Place::Denoiser, StageName::DenoiseController),
    (Place::Block(1), StageName::StditWorker(0)),
    (Place::Block(2), StageName::StditWorker(1)),
    (Place::Decoder, StageName::VaeDecoder),
];

#[actix::test]
async fn an_error_or_a_panic_fails_its_job_with_the_cause_and_no_other() {
    for (place, stage) in PLACES {
        for mishap in [Mishap::Error, Mishap::Panic] {
            let stagecraft = Arc::<Stagecraft>::default();
            stagecraft.spoil(place, "bad", mishap);
            let pipeline = start(&stagecraft, &limits(2));
            let mut jobs = Vec::new();
            for prompt in ["good 1", "bad", "good 2"] {
                jobs.push(pipeline.submit(request(prompt, 3)).await.unwrap());
            }
            assert!(matches!(end(&jobs[0]).await, End::Finished), "{place:?} {mishap:?}");
            assert!(matches!(end(&jobs[2]).await, End::Finished), "{place:?} {mishap:?}");
            let End::Failed(error) = end(&jobs[1]).await else { panic!("{place:?} {mishap:?}") };
            assert_eq!((error.stage, error.job), (stage, jobs[1].id));
            assert_eq!(error.kind(), StageErrorKind::Compute);
            match (&*error.cause, mishap) {
                (StageFailure::Model(ModelError::NotFinite { what }), Mishap::Error) => {
                    assert_eq!(*what, format!("{place:?} of bad"));
                }
                (StageFailure::Panicked { message }, Mishap::Panic) => {
                    assert_eq!(*message, format!("deliberate panic at {place:?}"));
                }
                (other, _) => panic!("{place:?} {mishap:?}: {other:?}"),
            }
            let later = pipeline.submit(request("later", 4)).await.unwrap();
            assert!(matches!(end(&later).await, End::Finished), "{place:?} {mishap:?}");
            in_time(pipeline.drain()).await;
        }
    }
}

#[actix::test]
async fn a_dead_stage_fails_all_later_jobs_with_the_first_cause() {
    for (place, stage) in PLACES {
        let stagecraft = Arc::<Stagecraft>::default();
        stagecraft.spoil(place, "fatal", Mishap::Death);
        let pipeline = start(&stagecraft, &limits(2));
        for prompt in ["fatal", "later 1", "later 2"] {
            let job = pipeline.submit(request(prompt, 3)).await.unwrap();
            let End::Failed(error) = end(&job).await else { panic!("{place:?}: {prompt} lives") };
            assert_eq!((error.stage, error.kind()), (stage, StageErrorKind::StageDied));
            assert!(error.to_string().contains(&format!("{place:?} lost its device")), "{error}");
        }
        let snapshot = pipeline.observe().await.unwrap();
        let dead: Vec<_> = snapshot.stages.iter().filter(|stage| stage.death.is_some()).collect();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].name, stage.to_string());
        assert_eq!(snapshot.free_token_slots, 3, "{place:?}: a slot was lost");
        in_time(pipeline.drain()).await;
    }
}

#[actix::test]
async fn what_the_model_cannot_do_is_refused_before_any_work() {
    let stagecraft = Arc::<Stagecraft>::default();
    let compute = crate::fakes::fake_compute(&stagecraft, 1);
    let check = |request: &sora_actors::messages::GenerationRequest| {
        if request.prompt.is_empty() {
            Err(ModelError::bad_input("no prompt").into())
        } else {
            Ok(())
        }
    };
    let pipeline =
        sora_pipeline::PipelineHandle::launch(compute, &limits(1), Box::new(check)).unwrap();
    let refused = pipeline.submit(request("", 0)).await;
    assert!(matches!(refused, Err(sora_pipeline::SubmitError::Invalid(_))));
    assert!(stagecraft.log().is_empty());
    in_time(pipeline.drain()).await;
}
