//! Saved jobs go on where they were, and are saved when it matters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sora_actors::messages::{GenerationRequest, JobCheckpoint, JobEvent, JobProgress};
use sora_actors::{JobJournal, JobOrder, JournalError, StageErrorKind, StageName};
use sora_pipeline::PipelineHandle;
use tokio::task::JoinSet;

use crate::fakes::{Mishap, Place, Stagecraft, expected_pixel};
use crate::{End, end, events, in_time, limits, request, start, until};

/// Keeps everything that is saved in it.
#[derive(Default)]
struct Memory {
    saved: Mutex<Vec<JobCheckpoint>>,
    /// What happens after a step, of which the number is told, instead of a save.
    after_step: Option<Box<dyn Fn(usize) + Send + Sync>>,
    steps: AtomicUsize,
    /// From which save on nothing can be saved.
    full_from: Option<usize>,
}

impl Memory {
    fn all(&self) -> Vec<JobCheckpoint> {
        self.saved.lock().unwrap().clone()
    }

    /// How far each save was.
    fn steps(&self) -> Vec<usize> {
        self.all().iter().map(|checkpoint| checkpoint.steps_done().0).collect()
    }
}

impl JobJournal for Memory {
    fn is_due(&self) -> bool {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        self.after_step.as_ref().map(|after_step| after_step(step)).is_none()
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        let mut saved = self.saved.lock().unwrap();
        if self.full_from.is_some_and(|full| saved.len() >= full) {
            return Err(JournalError::new("the disk is full"));
        }
        saved.push(checkpoint.clone());
        Ok(())
    }
}

fn journaled(request: GenerationRequest, memory: &Arc<Memory>) -> JobOrder {
    JobOrder::from(request).journaled(memory.clone())
}

/// Every state that a job passes through.
async fn states(pipeline: &PipelineHandle, request: GenerationRequest) -> Vec<JobCheckpoint> {
    let memory = Arc::<Memory>::default();
    let job = pipeline.submit(journaled(request, &memory)).await.unwrap();
    assert!(matches!(end(&job).await, End::Finished));
    memory.all()
}

#[actix::test]
async fn a_job_is_saved_after_every_step_and_before_it_is_decoded() {
    let stagecraft = Arc::<Stagecraft>::default();
    let pipeline = start(&stagecraft, &limits(2));
    stagecraft.close(Place::Decoder);
    let memory = Arc::<Memory>::default();
    let job = pipeline.submit(journaled(request("one", 5), &memory)).await.unwrap();
    until(|| stagecraft.count(Place::Decoder, "one") == 1).await;
    assert_eq!(memory.steps(), [0, 1, 2, 3, 4]);
    assert!(matches!(memory.all()[4].progress, JobProgress::Denoised(_)));
    stagecraft.open(Place::Decoder);
    assert!(matches!(end(&job).await, End::Finished));
    assert_eq!(memory.steps().len(), 5);
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn a_job_goes_on_from_every_state_without_doing_anything_twice() {
    let request = request("one", 5);
    for workers in [1, 3] {
        let states = states(&start(&Arc::default(), &limits(workers)), request.clone()).await;
        for (done, state) in states.into_iter().enumerate() {
            let stagecraft = Arc::<Stagecraft>::default();
            let pipeline = start(&stagecraft, &limits(workers));
            let job = pipeline.submit(JobOrder::resume(Arc::new(state))).await.unwrap();
            let events = events(&job).await;
            assert!(
                matches!(events[1], JobEvent::Resumed { done: told, steps: 4 } if told == done),
                "{:?}",
                events[1]
            );
            let steps: Vec<usize> = events
                .iter()
                .filter_map(|event| match event {
                    JobEvent::Step { index, .. } => Some(*index),
                    _ => None,
                })
                .collect();
            assert_eq!(steps, (done..4).collect::<Vec<_>>());
            let first = events.iter().find_map(|event| match event {
                JobEvent::Chunk(chunk) => Some(chunk.frames[0].0.clone()),
                _ => None,
            });
            let [low, high] = expected_pixel(&request, 2 * workers);
            assert_eq!(first, Some(vec![low, high, 0]), "{workers} workers, after {done} steps");
            let Some(JobEvent::Finished(summary)) = events.last() else { panic!("{events:?}") };
            assert_eq!(summary.steps_computed, 4);
            assert_eq!(stagecraft.encoder_loads(), 0, "the prompt was embedded again");
            assert_eq!(stagecraft.count(Place::Denoiser, "one"), 4 - done);
            in_time(pipeline.drain()).await;
            assert_eq!(pipeline.observe().await.unwrap().free_token_slots, 3);
        }
    }
}

#[actix::test]
async fn saved_and_new_jobs_go_through_one_graph() {
    let pipeline = start(&Arc::default(), &limits(2));
    let saved = states(&pipeline, request("saved", 7)).await;
    // All are listened to at once, since they finish in another order than they came.
    let mut running = JoinSet::new();
    for (index, state) in saved.into_iter().skip(1).enumerate() {
        let resumed = JobOrder::resume(Arc::new(state));
        let new = request("new", index as u64).into();
        for order in [resumed, new] {
            let job = pipeline.submit(order).await.unwrap();
            running.spawn_local(async move { end(&job).await });
        }
    }
    let ends = in_time(running.join_all()).await;
    assert!(ends.iter().all(|end| matches!(end, End::Finished)), "{ends:?}");
    in_time(pipeline.drain()).await;
}

#[actix::test]
async fn what_is_done_is_saved_when_a_job_ends_early() {
    for cancelled in [true, false] {
        let stagecraft = Arc::<Stagecraft>::default();
        let pipeline = start(&stagecraft, &limits(1));
        let stage = stagecraft.clone();
        let after_step = move |step: usize| match step {
            1 if cancelled => stage.close(Place::Block(0)),
            1 => stage.spoil(Place::Block(0), "one", Mishap::Error),
            _ => {}
        };
        let after_step = Some(Box::new(after_step) as _);
        let memory = Arc::new(Memory { after_step, ..Memory::default() });
        let job = pipeline.submit(journaled(request("one", 5), &memory)).await.unwrap();
        if cancelled {
            until(|| stagecraft.count(Place::Block(0), "one") == 3).await;
            assert!(pipeline.cancel(job.id).await);
            stagecraft.open(Place::Block(0));
        }
        let ended = end(&job).await;
        assert!(matches!(ended, End::Failed(_) | End::Cancelled), "{ended:?}");
        in_time(pipeline.drain()).await;
        assert_eq!(memory.steps(), [0, 2]);
    }
}

#[actix::test]
async fn a_job_that_cannot_be_saved_fails_with_the_cause_and_the_others_go_on() {
    for full_from in 0..5 {
        let pipeline = start(&Arc::default(), &limits(2));
        let memory = Arc::new(Memory { full_from: Some(full_from), ..Memory::default() });
        let job = pipeline.submit(journaled(request("full", 5), &memory)).await.unwrap();
        let other = pipeline.submit(request("other", 6)).await.unwrap();
        let End::Failed(error) = end(&job).await else { panic!("it did not fail") };
        assert_eq!(
            (error.stage, error.kind()),
            (StageName::DenoiseController, StageErrorKind::Output)
        );
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(memory.all().len(), full_from);
        assert!(matches!(end(&other).await, End::Finished));
        in_time(pipeline.drain()).await;
        assert_eq!(pipeline.observe().await.unwrap().free_token_slots, 3);
    }
}

#[actix::test]
async fn new_prompts_are_embedded_while_a_saved_job_waits_for_a_slot() {
    let stagecraft = Arc::<Stagecraft>::default();
    let mut limits = limits(1);
    limits.token_slots = 1;
    let pipeline = start(&stagecraft, &limits);
    let saved = states(&pipeline, request("saved", 3)).await.swap_remove(2);
    // The next prompt's slot stays taken, and two more come while it is embedded.
    stagecraft.close(Place::Encoder);
    stagecraft.close(Place::Block(0));
    let first = pipeline.submit(request("first", 1)).await.unwrap();
    until(|| stagecraft.count(Place::Encoder, "first") == 1).await;
    let resumed = pipeline.submit(JobOrder::resume(Arc::new(saved))).await.unwrap();
    let new = pipeline.submit(request("new", 2)).await.unwrap();
    stagecraft.open(Place::Encoder);
    until(|| stagecraft.count(Place::Encoder, "new") == 1).await;
    assert_eq!(stagecraft.count(Place::Block(0), "new"), 0);
    stagecraft.open(Place::Block(0));
    for job in [first, resumed, new] {
        assert!(matches!(end(&job).await, End::Finished));
    }
    in_time(pipeline.drain()).await;
}
