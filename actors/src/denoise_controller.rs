//! The second stage: owns the sampling of all jobs in flight, and sends each one's activation round the ring of workers.

use std::collections::HashMap;
use std::time::Instant;

use sora_telemetry::DenoiseMetrics;

use crate::channel::{Receiver, Sender};
use crate::compute::{Denoise, StepReport};
use crate::error::StageName;
use crate::job::{DecodeJob, DenoiseJob, JobPhase, JobTicket};
use crate::messages::{JobEvent, JobId};
use crate::slots::SlotPermit;
use crate::stage::{Stage, StageCore};
use crate::stdit_worker::RingHop;
use crate::token::Token;

/// What comes to the controller. One channel carries all of it, with one place for each token slot (a job with a slot
/// is either new, or its token is under way, or its latent is) and one for the last variant: so no sender ever waits.
pub enum ControllerInput<A> {
    /// An embedded prompt that has a token slot.
    Job(DenoiseJob),
    /// A token that went through all blocks.
    Token(Token<A>),
    /// The prompt embedder ended.
    NoMoreJobs,
}

/// Runs the parts of each step before and after the blocks, decides when a job leaps, and hands on its latent.
pub struct DenoiseController<D: Denoise> {
    core: StageCore,
    denoiser: D,
    inbox: Receiver<ControllerInput<D::Activation>>,
    ring: RingHop<D::Activation>,
    latents: Sender<DecodeJob>,
    jobs: HashMap<JobId, JobInFlight<D::Run>>,
    admitting: bool,
    metrics: DenoiseMetrics,
}

struct JobInFlight<R> {
    ticket: JobTicket,
    slot: SlotPermit,
    run: R,
    started: Instant,
    step_started: Instant,
}

impl<D: Denoise> DenoiseController<D> {
    /// The stage.
    pub fn new(
        denoiser: D,
        inbox: Receiver<ControllerInput<D::Activation>>,
        ring: RingHop<D::Activation>,
        latents: Sender<DecodeJob>,
    ) -> Self {
        Self {
            core: StageCore::new(StageName::DenoiseController),
            denoiser,
            inbox,
            ring,
            latents,
            jobs: HashMap::new(),
            admitting: true,
            metrics: DenoiseMetrics::new(),
        }
    }

    fn start(&mut self, DenoiseJob { ticket, slot, embedding }: DenoiseJob) {
        self.core.metrics().items_in(1);
        let job = ticket.context();
        if job.is_over() {
            return;
        }
        let started = Instant::now();
        job.enter(JobPhase::Denoising { done: 0, steps: job.request().sampling.steps });
        match self.core.compute(|| self.denoiser.start(job.request(), &embedding)) {
            Ok(run) => {
                self.next_step(JobInFlight { ticket, slot, run, started, step_started: started });
            }
            Err(cause) => ticket.fail(self.core.name(), cause),
        }
    }

    fn next_step(&mut self, mut flight: JobInFlight<D::Run>) {
        flight.step_started = Instant::now();
        let job = flight.ticket.context().clone();
        match self.core.compute(|| self.denoiser.begin_step(&mut flight.run)) {
            Ok(activation) => {
                self.jobs.insert(job.id(), flight);
                if !self.ring.send(Token::new(job.clone(), activation)) {
                    // Dropping the ticket fails the job.
                    self.jobs.remove(&job.id());
                }
            }
            Err(cause) => flight.ticket.fail(self.core.name(), cause),
        }
    }

    fn turn(&mut self, token: Token<D::Activation>) {
        // A job is unknown when the stage died while it was in the ring.
        let Some(mut flight) = self.jobs.remove(&token.job().id()) else { return };
        if flight.ticket.context().is_over() {
            return;
        }
        let activation = match token.into_activation() {
            Ok(activation) => activation,
            Err(error) => return flight.ticket.fail(error.stage, error.cause),
        };
        let outcome = self.core.compute(|| self.denoiser.finish_step(&mut flight.run, activation));
        match outcome {
            Ok(report) => {
                self.report(&flight, &report);
                if report.last { self.hand_on(flight) } else { self.next_step(flight) }
            }
            Err(cause) => flight.ticket.fail(self.core.name(), cause),
        }
    }

    fn report(&self, flight: &JobInFlight<D::Run>, report: &StepReport) {
        let &StepReport { index, steps, timestep, cosine, merged, leapt, coasted, .. } = report;
        let job = flight.ticket.context();
        self.metrics.step_computed(cosine);
        if leapt {
            self.metrics.leapt_over(steps.saturating_sub(index + 1));
        }
        self.metrics.coasted_over(coasted);
        job.note(|record| {
            record.steps_computed += 1;
            record.leapt_at = leapt.then_some(index);
        });
        job.enter(JobPhase::Denoising { done: index + 1 + coasted, steps });
        let seconds = flight.step_started.elapsed().as_secs_f64();
        job.emit(JobEvent::Step {
            index,
            steps,
            timestep,
            cosine,
            merged,
            leapt,
            coasted,
            seconds,
        });
    }

    fn hand_on(&self, flight: JobInFlight<D::Run>) {
        let JobInFlight { ticket, slot, run, started, .. } = flight;
        let latent = match self.core.compute(|| self.denoiser.latent(run)) {
            Ok(latent) => latent,
            Err(cause) => return ticket.fail(self.core.name(), cause),
        };
        let job = ticket.context();
        job.note(|record| record.seconds.denoise = started.elapsed().as_secs_f64());
        job.enter(JobPhase::Decoding);
        // Whoever has a slot has a place in this channel. Without a decoder the ticket fails the job.
        if self.latents.send(DecodeJob { ticket, slot, latent }).is_ok() {
            self.core.metrics().items_out(1);
        }
    }
}

impl<D: Denoise> Stage for DenoiseController<D> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        if self.core.health().death().is_some() {
            // Entered again after a panic: a token may be lost with it, so nobody waits for those under way. Their
            // slots are free then while they are still in the ring, but no new token will follow them.
            self.jobs.clear();
        }
        while self.admitting || !self.jobs.is_empty() {
            match self.inbox.recv() {
                Some(ControllerInput::Job(job)) => self.start(job),
                Some(ControllerInput::Token(token)) => self.turn(token),
                Some(ControllerInput::NoMoreJobs) => self.admitting = false,
                None => return,
            }
        }
    }
}
