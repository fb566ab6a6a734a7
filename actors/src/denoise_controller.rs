//! The second stage: owns the sampling of all jobs in flight, and sends each one's activation round the ring of workers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sora_telemetry::{DenoiseMetrics, timeline};

use crate::channel::{Receiver, Sender};
use crate::compute::{Denoise, StepReport};
use crate::denoise_lease::{DenoiseLease, Room};
use crate::error::{StageError, StageFailure, StageName};
use crate::job::{DecodeJob, DenoiseJob, JobPhase, JobTicket};
use crate::journal::JobKeeper;
use crate::memory::MemoryLedger;
use crate::messages::{GenerationRequest, JobEvent, JobId, JobProgress, Latent};
use crate::slots::SlotPermit;
use crate::stage::{Stage, StageCore};
use crate::stdit_worker::{RingHop, RingItem};
use crate::token::Token;

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
    latents: Sender<DecodeJob>,
    jobs: HashMap<JobId, JobInFlight<D::Run>>,
    /// Tokens for the next sweep.
    ready: Vec<Token<D::Activation>>,
    sweeps_in_ring: usize,
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

struct JobInFlight<R> {
    ticket: JobTicket,
    slot: SlotPermit,
    run: R,
    keeper: Option<JobKeeper>,
    started: Instant,
    step_started: Instant,
}

impl<D: Denoise> DenoiseController<D> {
    /// The stage.
    pub fn new(
        denoiser: D,
        inbox: Receiver<ControllerInput<D::Activation>>,
        ring: RingHop<D::Activation>,
        workers: usize,
        latents: Sender<DecodeJob>,
        ledger: MemoryLedger,
    ) -> Self {
        Self {
            core: StageCore::new(StageName::DenoiseController),
            denoiser,
            inbox,
            ring,
            latents,
            jobs: HashMap::new(),
            ready: Vec::new(),
            sweeps_in_ring: 0,
            returning: false,
            most_sweeps: workers,
            waiting: VecDeque::new(),
            lease: DenoiseLease::new(ledger),
            rest_in_ring: false,
            admitting: true,
            metrics: DenoiseMetrics::new(),
        }
    }

    /// Starts the jobs that wait, as far as memory allows.
    fn start_waiting(&mut self) {
        while let Some(next) = self.waiting.pop_front() {
            if next.ticket.context().is_over() {
                continue;
            }
            // A job that was saved with its latent only passes through.
            if matches!(next.progress, JobProgress::Denoised(_)) {
                self.start(next);
                continue;
            }
            match self.room_for(next.ticket.context().request()) {
                // It may have been cancelled while it waited for memory.
                Room::Granted if next.ticket.context().is_over() => {}
                Room::Granted => self.start(next),
                Room::Never(over) => {
                    let DenoiseJob { ticket, slot, .. } = next;
                    self.fail(ticket, slot, Arc::new(over.into()));
                }
                Room::Later => {
                    self.waiting.push_front(next);
                    break;
                }
            }
        }
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

    fn start(&mut self, DenoiseJob { ticket, slot, prompt, progress }: DenoiseJob) {
        let job = ticket.context();
        let saved = match progress {
            JobProgress::Embedded => None,
            JobProgress::Denoising(saved) => Some(saved),
            JobProgress::Denoised(latent) => return self.send(ticket, slot, latent),
        };
        let started = Instant::now();
        let done = saved.as_ref().map_or(0, |saved| saved.step);
        job.enter(JobPhase::Denoising { done, steps: job.request().sampling.steps });
        let begun = self.core.compute(|| match &saved {
            Some(saved) => self.denoiser.resume(job.request(), &prompt.embedding, saved),
            None => self.denoiser.start(job.request(), &prompt.embedding),
        });
        let mut keeper = JobKeeper::of(job, prompt, started);
        let begun = begun.and_then(|run| {
            if let (Some(keeper), None) = (&mut keeper, saved) {
                self.core.compute(|| keeper.embedded(job))?;
            }
            Ok(run)
        });
        match begun {
            Ok(run) => {
                let step_started = started;
                self.next_step(JobInFlight { ticket, slot, run, keeper, started, step_started });
            }
            Err(cause) => self.fail(ticket, slot, cause),
        }
    }

    fn next_step(&mut self, mut flight: JobInFlight<D::Run>) {
        flight.step_started = Instant::now();
        let job = flight.ticket.context().clone();
        let _beginning = timeline::begin(job.id().0);
        match self.core.compute(|| self.denoiser.begin_step(&mut flight.run)) {
            Ok(activation) => {
                self.jobs.insert(job.id(), flight);
                self.ready.push(Token::new(job, activation));
            }
            Err(cause) => {
                let error = StageError { stage: self.core.name(), job: job.id(), cause };
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
        for token in self.ready.drain(..) {
            let job = token.job().id();
            if !self.ring.send(RingItem::Token(token)) {
                // Dropping the ticket fails the job.
                self.jobs.remove(&job);
            }
        }
        if self.ring.send(RingItem::EndOfSweep) {
            self.sweeps_in_ring += 1;
        }
    }

    fn turn(&mut self, token: Token<D::Activation>) {
        // A job is unknown when the stage died while it was in the ring.
        let Some(mut flight) = self.jobs.remove(&token.job().id()) else { return };
        if flight.ticket.context().is_over() {
            return self.keep_what_is_done(&mut flight);
        }
        match self.finish_step(&mut flight, token) {
            Ok(report) if report.last => self.hand_on(flight),
            Ok(_) => self.next_step(flight),
            Err(error) => self.give_up(flight, error),
        }
    }

    fn finish_step(
        &self,
        flight: &mut JobInFlight<D::Run>,
        token: Token<D::Activation>,
    ) -> Result<StepReport, StageError> {
        let job = flight.ticket.context().clone();
        let failed = |cause| StageError { stage: self.core.name(), job: job.id(), cause };
        let activation = token.into_activation()?;
        let finishing = timeline::finish(job.id().0);
        let report = self
            .core
            .compute(|| self.denoiser.finish_step(&mut flight.run, activation))
            .map_err(failed)?;
        drop(finishing);
        self.report(flight, &report);
        if let (Some(keeper), false) = (&mut flight.keeper, report.last) {
            let _saving = timeline::save(job.id().0);
            let saved = self.core.compute(|| keeper.step_done(&job, &self.denoiser, &flight.run));
            saved.map_err(failed)?;
        }
        Ok(report)
    }

    fn give_up(&self, mut flight: JobInFlight<D::Run>, error: StageError) {
        self.keep_what_is_done(&mut flight);
        let JobInFlight { ticket, slot, .. } = flight;
        drop(slot);
        ticket.fail_with(error);
    }

    /// Ends a job here. Its slot is free before anybody hears of it.
    fn fail(&self, ticket: JobTicket, slot: SlotPermit, cause: Arc<StageFailure>) {
        drop(slot);
        ticket.fail(self.core.name(), cause);
    }

    /// Saves the steps since the last save, as far as that is possible still.
    fn keep_what_is_done(&self, flight: &mut JobInFlight<D::Run>) {
        let Some(keeper) = &mut flight.keeper else { return };
        let job = flight.ticket.context();
        let saved = self.core.compute(|| keeper.catch_up(job, &self.denoiser, &flight.run));
        if let Err(cause) = saved {
            tracing::warn!(job = %job.id(), %cause, "the last steps of a job that ended early are not saved");
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
        let JobInFlight { ticket, slot, run, mut keeper, started, .. } = flight;
        let job = ticket.context();
        let latent = self.core.compute(|| {
            let latent = self.denoiser.latent(run)?;
            let _saving = keeper.as_ref().map(|_| timeline::save(job.id().0));
            // Before the decoder sees it: decoding takes the most memory, so it is where a job is lost.
            keeper.as_mut().map_or(Ok(()), |keeper| keeper.denoised(job, &latent))?;
            Ok(latent)
        });
        let latent = match latent {
            Ok(latent) => latent,
            Err(cause) => return self.fail(ticket, slot, cause),
        };
        job.note(|record| record.seconds.denoise += started.elapsed().as_secs_f64());
        self.send(ticket, slot, latent);
    }

    fn send(&self, ticket: JobTicket, slot: SlotPermit, latent: Latent) {
        ticket.context().enter(JobPhase::Decoding);
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
            match self.inbox.recv() {
                Some(ControllerInput::Job(job)) => {
                    self.core.metrics().items_in(1);
                    self.waiting.push_back(job);
                    self.start_waiting();
                }
                Some(ControllerInput::FromRing(RingItem::Token(token))) => {
                    self.returning = true;
                    self.turn(token);
                }
                Some(ControllerInput::FromRing(RingItem::EndOfSweep)) => {
                    self.returning = false;
                    self.sweeps_in_ring = self.sweeps_in_ring.saturating_sub(1);
                    self.start_waiting();
                }
                Some(ControllerInput::FromRing(RingItem::Rest)) => self.rested(),
                Some(ControllerInput::NoMoreJobs) => self.admitting = false,
                None => return,
            }
            self.begin_sweep();
        }
    }
}
