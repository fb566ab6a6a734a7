//! The second stage: owns the sampling of all jobs in flight, and sends each one's activation round the ring of workers.

mod flight;
mod lease;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sora_telemetry::{DenoiseMetrics, timeline};

use self::flight::{DenoiseFlight, last_latent};
use self::lease::{DenoiseLease, Room};
use crate::channel::{Receiver, Sender};
use crate::compute::{Denoise, StepReport};
use crate::error::{StageError, StageFailure, StageName};
use crate::job::{DecodeJob, DenoiseJob, JobPhase, JobTicket};
use crate::journal::JobKeeper;
use crate::memory::MemoryLedger;
use crate::messages::{GenerationRequest, JobId, JobProgress, Latent};
use crate::preview::PreviewPlaces;
use crate::slots::SlotPermit;
use crate::stage::{Stage, StageCore};
use crate::stdit_worker::{RingHop, RingItem};
use crate::token::Token;
use crate::vae_decoder::DecoderInput;

/// What comes to the controller. One channel carries all of it, with one place for each token slot (a job with a slot
/// is either new, or its token is under way, or its latent is), and one for each other thing that can be on the ring or is
/// sent once: so no sender ever waits.
pub enum ControllerInput<A> {
    /// An embedded prompt that has a token slot.
    Job(DenoiseJob),
    /// What went all the way round.
    FromRing(RingItem<A>),
    /// The prompt embedder ended.
    NoMoreJobs,
}

/// Runs the parts of each step before and after the blocks, decides when a job leaps, and hands on its latent.
pub struct DenoiseController<D: Denoise> {
    core: StageCore,
    denoiser: D,
    inbox: Receiver<ControllerInput<D::Activation>>,
    ring: RingHop<D::Activation>,
    latents: Sender<DecoderInput>,
    previews: PreviewPlaces,
    jobs: HashMap<JobId, DenoiseFlight<D::Run>>,
    /// Tokens for the next sweep.
    ready: Vec<Token<D::Activation>>,
    sweeps_in_ring: usize,
    /// The number of the sweep that was sent last.
    latest_sweep: u64,
    /// Whether some tokens of a sweep have come back and others have not: they stay together.
    returning: bool,
    /// As many sweeps may be in the ring as there are workers to take them; a token that comes meanwhile joins the next one,
    /// so that blocks are loaded for as many jobs as possible at once.
    most_sweeps: usize,
    /// Jobs with a slot for which there is no memory yet.
    waiting: VecDeque<DenoiseJob>,
    lease: DenoiseLease,
    rest_in_ring: bool,
    admitting: bool,
    metrics: DenoiseMetrics,
}

impl<D: Denoise> DenoiseController<D> {
    /// The stage.
    pub fn new(
        denoiser: D,
        inbox: Receiver<ControllerInput<D::Activation>>,
        ring: RingHop<D::Activation>,
        workers: usize,
        latents: Sender<DecoderInput>,
        ledger: MemoryLedger,
    ) -> Self {
        Self {
            core: StageCore::new(StageName::DenoiseController),
            denoiser,
            inbox,
            ring,
            latents,
            previews: PreviewPlaces::new(),
            jobs: HashMap::new(),
            ready: Vec::new(),
            sweeps_in_ring: 0,
            latest_sweep: 0,
            returning: false,
            most_sweeps: workers,
            waiting: VecDeque::new(),
            lease: DenoiseLease::new(ledger),
            rest_in_ring: false,
            admitting: true,
            metrics: DenoiseMetrics::new(),
        }
    }

    /// Starts the jobs that wait, as far as memory allows, in the order in which they came.
    fn start_waiting(&mut self) {
        let mut still_waiting = VecDeque::new();
        for next in std::mem::take(&mut self.waiting) {
            // It may have been cancelled while it waited for memory.
            if next.ticket.context().is_over() {
                continue;
            }
            // A job that was saved with its latent only passes through.
            if matches!(next.progress, JobProgress::Denoised(_)) {
                self.start(next);
            } else if !still_waiting.is_empty() {
                still_waiting.push_back(next);
            } else {
                match self.room_for(next.ticket.context().request()) {
                    Room::Granted if next.ticket.context().is_over() => {}
                    Room::Granted => self.start(next),
                    Room::Later => still_waiting.push_back(next),
                    Room::Never(over) => {
                        let DenoiseJob { ticket, slot, .. } = next;
                        self.fail(ticket, slot, Arc::new(over.into()));
                    }
                }
            }
        }
        self.waiting = still_waiting;
        self.settle();
    }

    fn room_for(&mut self, request: &GenerationRequest) -> Room {
        let mut requests = self.requests_in_flight();
        requests.push(request);
        let bytes = self.denoiser.working_bytes(&requests);
        self.lease.extend(bytes, &self.core)
    }

    fn requests_in_flight(&self) -> Vec<&GenerationRequest> {
        self.jobs.values().map(|flight| flight.ticket.context().request()).collect()
    }

    /// Gives back memory that is not needed any more: all of it when no job is in flight, after the workers have given
    /// back what they hold of it.
    fn settle(&mut self) {
        if !self.jobs.is_empty() {
            let bytes = self.denoiser.working_bytes(&self.requests_in_flight());
            self.lease.shrink(bytes);
        } else if self.lease.is_held() && !self.rest_in_ring {
            self.rest_in_ring = self.ring.send(RingItem::Rest);
        }
    }

    fn rested(&mut self) {
        self.rest_in_ring = false;
        if self.jobs.is_empty() {
            self.lease.release();
        }
        self.start_waiting();
    }

    fn start(&mut self, DenoiseJob { ticket, slot, texts, progress }: DenoiseJob) {
        let job = ticket.context();
        let saved = match progress {
            JobProgress::Embedded => None,
            JobProgress::Denoising(saved) => Some(saved),
            JobProgress::Denoised(latent) => return self.send(ticket, slot, latent),
        };
        let _turn = self.core.turn();
        let started = Instant::now();
        let done = saved.as_ref().map_or(0, |saved| saved.step);
        job.enter(JobPhase::Denoising { done, steps: job.request().sampling.steps });
        let begun = self.core.compute(|| match &saved {
            Some(saved) => self.denoiser.resume(job.request(), &texts, saved),
            None => self.denoiser.start(job.request(), &texts),
        });
        let mut keeper = JobKeeper::of(job, *texts, started);
        let begun = begun.and_then(|run| {
            if let (Some(keeper), None) = (&mut keeper, saved) {
                self.core.compute(|| keeper.embedded(job))?;
            }
            Ok(run)
        });
        match begun {
            Ok(run) => {
                let step_started = started;
                let sweep = None;
                self.next_step(DenoiseFlight {
                    ticket,
                    slot,
                    run,
                    keeper,
                    started,
                    step_started,
                    sweep,
                });
            }
            Err(cause) => self.fail(ticket, slot, cause),
        }
    }

    fn next_step(&mut self, mut flight: DenoiseFlight<D::Run>) {
        (flight.step_started, flight.sweep) = (Instant::now(), None);
        let job = flight.ticket.context().clone();
        let _beginning = timeline::begin(job.id().0);
        match self.core.compute(|| self.denoiser.begin_step(&mut flight.run)) {
            Ok(activation) => {
                self.jobs.insert(job.id(), flight);
                self.ready.push(Token::new(job, activation));
            }
            Err(cause) => {
                let error = self.error(&flight, cause);
                self.give_up(flight, error);
            }
        }
    }

    /// Sends what is ready round the ring as one sweep, unless enough sweeps are under way.
    fn begin_sweep(&mut self) {
        let enough = self.sweeps_in_ring >= self.most_sweeps;
        if self.ready.is_empty() || self.returning || enough {
            return;
        }
        self.latest_sweep += 1;
        for token in self.ready.drain(..) {
            let job = token.job().id();
            if !self.ring.send(RingItem::Token(token)) {
                // Dropping the ticket fails the job.
                self.jobs.remove(&job);
            } else if let Some(flight) = self.jobs.get_mut(&job) {
                flight.sweep = Some(self.latest_sweep);
            }
        }
        if self.ring.send(RingItem::EndOfSweep(self.latest_sweep)) {
            self.sweeps_in_ring += 1;
        }
    }

    /// All of a sweep has come back. A job whose token has not is failed here: nobody else knows of it any more.
    fn end_sweep(&mut self, number: u64) {
        self.returning = false;
        self.sweeps_in_ring = self.sweeps_in_ring.saturating_sub(1);
        let lost: Vec<_> = self.jobs.extract_if(|_, flight| flight.sweep == Some(number)).collect();
        for (_, flight) in lost {
            let reason = "a worker of the ring lost its turn".into();
            let error = self.error(&flight, Arc::new(StageFailure::StageDied { reason }));
            self.give_up(flight, error);
        }
        self.start_waiting();
    }

    fn turn(&mut self, token: Token<D::Activation>) {
        // A job is unknown when the stage died while it was in the ring.
        let Some(mut flight) = self.jobs.remove(&token.job().id()) else { return };
        // One turn with the saving of the step, so that a pause finds it saved.
        let _turn = self.core.turn();
        if flight.ticket.context().is_over() {
            return flight.keep_what_is_done(&self.denoiser, &self.core);
        }
        let finished = token.into_activation().and_then(|activation| {
            flight
                .finish_step(&self.denoiser, activation, &self.core, &self.metrics)
                .map_err(|cause| self.error(&flight, cause))
        });
        match finished {
            Ok(report) if report.last => self.hand_on(flight),
            Ok(report) => {
                self.preview(&flight, &report);
                self.next_step(flight);
            }
            Err(error) => self.give_up(flight, error),
        }
    }

    /// Has the decoder make a preview, if the consumer wants one and nothing else waits there.
    fn preview(&self, flight: &DenoiseFlight<D::Run>, report: &StepReport) {
        if self.latents.depth() == 0
            && let Some(job) = flight.preview(report, &self.denoiser, &self.core, &self.previews)
        {
            // Whoever has a place for a preview has one in this channel, too.
            drop(self.latents.send(DecoderInput::Preview(job)));
        }
    }

    fn error(&self, flight: &DenoiseFlight<D::Run>, cause: Arc<StageFailure>) -> StageError {
        StageError { stage: self.core.name(), job: flight.ticket.context().id(), cause }
    }

    fn give_up(&self, mut flight: DenoiseFlight<D::Run>, error: StageError) {
        flight.keep_what_is_done(&self.denoiser, &self.core);
        let DenoiseFlight { ticket, slot, .. } = flight;
        drop(slot);
        ticket.fail_with(error);
    }

    /// Ends a job here. Its slot is free before anybody hears of it.
    fn fail(&self, ticket: JobTicket, slot: SlotPermit, cause: Arc<StageFailure>) {
        drop(slot);
        ticket.fail(self.core.name(), cause);
    }

    fn hand_on(&self, flight: DenoiseFlight<D::Run>) {
        let DenoiseFlight { ticket, slot, run, mut keeper, started, .. } = flight;
        let last = || last_latent(&self.denoiser, run, keeper.as_mut(), &ticket);
        let latent = match self.core.compute(last) {
            Ok(latent) => latent,
            Err(cause) => return self.fail(ticket, slot, cause),
        };
        ticket.context().note(|record| record.seconds.denoise += started.elapsed().as_secs_f64());
        self.send(ticket, slot, latent);
    }

    fn send(&self, ticket: JobTicket, slot: SlotPermit, latent: Latent) {
        ticket.context().enter(JobPhase::Decoding);
        // Whoever has a slot has a place in this channel. Without a decoder the ticket fails the job.
        let job = DecoderInput::Video(DecodeJob { ticket, slot, latent });
        if self.latents.send(job).is_ok() {
            self.core.metrics().items_out(1);
        }
    }

    fn take(&mut self, input: ControllerInput<D::Activation>) {
        match input {
            ControllerInput::Job(job) => {
                self.core.metrics().items_in(1);
                self.waiting.push_back(job);
                self.start_waiting();
            }
            ControllerInput::FromRing(RingItem::Token(token)) => {
                self.returning = true;
                self.turn(token);
            }
            ControllerInput::FromRing(RingItem::EndOfSweep(number)) => self.end_sweep(number),
            ControllerInput::FromRing(RingItem::Rest) => self.rested(),
            ControllerInput::NoMoreJobs => self.admitting = false,
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
            self.ready.clear();
            self.waiting.clear();
            self.returning = false;
            // Others may wait for the memory.
            self.settle();
        }
        // The lease is held until the workers have given back what they hold of it.
        while self.admitting
            || self.rest_in_ring
            || !self.jobs.is_empty()
            || !self.waiting.is_empty()
        {
            let Some(input) = self.inbox.recv() else { return };
            self.take(input);
            // Jobs that were admitted together share their first sweep, too.
            while let Some(input) = self.inbox.try_recv() {
                self.take(input);
            }
            self.begin_sweep();
        }
    }
}
