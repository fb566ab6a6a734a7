//! A controller whose ring loses a token.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sora_models::rflow::{LeapRule, LinearProportionalLeap, SamplingSettings, SavedRun};

use super::*;
use crate::channel::bounded;
use crate::compute::{Computed, EmbeddedPrompt, EmbeddedTexts, StepReport};
use crate::job::ConsumerLimits;
use crate::messages::{JobEvent, PromptEmbedding, one_pixel_request};
use crate::slots::Slots;
use crate::stage::StageThread;

/// Counts steps.
struct Counter;

impl Denoise for Counter {
    type Run = [usize; 2];
    type Activation = ();

    fn start(&self, request: &GenerationRequest, _: &EmbeddedTexts) -> Computed<[usize; 2]> {
        Ok([0, request.sampling.steps])
    }

    fn resume(
        &self,
        request: &GenerationRequest,
        _: &EmbeddedTexts,
        saved: &SavedRun,
    ) -> Computed<[usize; 2]> {
        Ok([saved.step, request.sampling.steps])
    }

    fn save(&self, run: &[usize; 2]) -> Computed<SavedRun> {
        Ok(SavedRun {
            format_version: SavedRun::FORMAT_VERSION,
            settings: SamplingSettings::default(),
            timesteps: Vec::new(),
            step: run[0],
            shape: [1; 4],
            latent: vec![0.0],
            leap: LinearProportionalLeap::new(LeapRule::Off),
            velocities: Vec::new(),
            conditioning: None,
        })
    }

    fn begin_step(&self, _: &mut [usize; 2]) -> Computed<()> {
        Ok(())
    }

    fn finish_step(&self, [step, steps]: &mut [usize; 2], (): ()) -> Computed<StepReport> {
        *step += 1;
        Ok(StepReport {
            index: *step - 1,
            steps: *steps,
            timestep: 1000.0,
            cosine: None,
            merged: false,
            leapt: false,
            coasted: 0,
            last: step == steps,
        })
    }

    fn latent(&self, _: [usize; 2]) -> Computed<Latent> {
        let format_version = Latent::FORMAT_VERSION;
        Ok(Latent { format_version, shape: [1; 4], values: vec![0.0], num_frames: 1 })
    }
}

fn job(id: u64, slots: &Slots) -> (DenoiseJob, crate::JobEvents) {
    let request = one_pixel_request(id);
    let embedding = PromptEmbedding {
        format_version: PromptEmbedding::FORMAT_VERSION,
        token_ids: vec![7],
        mask: vec![1],
        shape: [1, 1],
        values: vec![0.0],
    };
    let prompt = EmbeddedPrompt { caption: "a prompt".into(), embedding, cut: None };
    let texts = Box::new(EmbeddedTexts::alone(prompt));
    let limits = ConsumerLimits { chunk_backlog: 1, patience: Duration::MAX };
    let (ticket, events) = JobTicket::open(JobId(id), request, limits);
    let slot = slots.acquire(None).unwrap();
    (DenoiseJob { ticket, slot, texts, progress: JobProgress::Embedded }, events)
}

#[test]
fn a_job_whose_turn_is_lost_fails_when_its_sweep_is_back_and_the_others_go_on() {
    let (to_controller, inbox) = bounded("controller", 8);
    let (to_worker, ring) = bounded("ring", 8);
    let (to_decoder, latents) = bounded("latents", 2);
    let (slots, ledger) = (Slots::new(2), MemoryLedger::unlimited());
    let hop = RingHop::Worker(to_worker);
    let controller = DenoiseController::new(Counter, inbox, hop, 1, to_decoder, ledger.clone());
    let thread = StageThread::spawn(controller).unwrap();
    let ((lost, lost_events), (kept, kept_events)) = (job(1, &slots), job(2, &slots));
    for job in [lost, kept] {
        assert!(to_controller.send(ControllerInput::Job(job)).is_ok());
    }
    assert!(to_controller.send(ControllerInput::NoMoreJobs).is_ok());
    // What a worker would do, but for one token.
    while let Some(item) = ring.recv() {
        match item {
            RingItem::Token(token) if token.job().id() == JobId(1) => drop(token),
            // At the end the controller is gone, and needs nothing any more.
            item => drop(to_controller.send(ControllerInput::FromRing(item))),
        }
    }
    thread.join();
    let last = lost_events.iter().last();
    let Some(JobEvent::Failed(error)) = last else { panic!("the job ended with {last:?}") };
    assert_eq!(error.stage, StageName::DenoiseController);
    assert!(matches!(&*error.cause, StageFailure::StageDied { reason } if reason.contains("lost")));
    let Some(DecoderInput::Video(denoised)) = latents.recv() else { panic!("no latent came") };
    assert_eq!(denoised.ticket.context().id(), JobId(2));
    assert!(latents.recv().is_none(), "only one job was denoised");
    drop(denoised);
    let steps = kept_events.iter().filter(|event| matches!(event, JobEvent::Step { .. })).count();
    assert_eq!(steps, 3);
    assert_eq!((slots.free(), ledger.observe().total_bytes()), (2, 0));
}

#[test]
fn jobs_that_are_there_when_a_sweep_begins_share_it() {
    let (to_controller, inbox) = bounded("controller", 8);
    let (to_worker, ring) = bounded("ring", 8);
    let (to_decoder, latents) = bounded("latents", 2);
    let slots = Slots::new(2);
    let ((first, _first_events), (second, _second_events)) = (job(1, &slots), job(2, &slots));
    for job in [first, second] {
        assert!(to_controller.send(ControllerInput::Job(job)).is_ok());
    }
    let (hop, ledger) = (RingHop::Worker(to_worker), MemoryLedger::unlimited());
    let controller = DenoiseController::new(Counter, inbox, hop, 1, to_decoder, ledger);
    let thread = StageThread::spawn(controller).unwrap();
    let mut jobs = Vec::new();
    while let Some(RingItem::Token(token)) = ring.recv() {
        jobs.push(token.job().id());
    }
    assert_eq!(jobs, [JobId(1), JobId(2)]);
    drop((to_controller, ring, latents));
    thread.join();
}
