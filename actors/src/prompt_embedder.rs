//! The first stage: prompts in, embeddings out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sora_telemetry::{record_embedding_hit, record_queue_depth, timeline};

use crate::channel::{Receiver, Sender};
use crate::compute::{EmbedPrompts, EmbeddedPrompt, EmbeddedTexts};
use crate::denoise_controller::ControllerInput;
use crate::embedding_cache::EmbeddingCache;
use crate::error::{StageFailure, StageName};
use crate::job::{DenoiseJob, JobPhase, JobTicket};
use crate::memory::{MemoryLedger, MemoryPermit, OverBudget};
use crate::messages::{Caption, GenerationRequest, JobEvent, JobProgress};
use crate::slots::{SlotPermit, Slots};
use crate::stage::{Stage, StageCore};
use crate::token::{Token, sweep};

/// Prompts that follow each other within this time are taken together. Our choice: a client hands several in faster than
/// that, and without it the first would go through the text encoder alone, and all of its weights be read once more for the
/// others; beside even a small model's work it is nothing.
const TOGETHER: Duration = Duration::from_millis(2);

/// Takes all waiting prompts through the text encoder in one sweep, then admits them to denoising one by one, as token
/// slots become free.
pub struct PromptEmbedder<E, A> {
    core: StageCore,
    encoder: E,
    requests: Receiver<JobTicket>,
    sweep_limit: usize,
    slots: Slots,
    controller: Sender<ControllerInput<A>>,
    ledger: MemoryLedger,
    cache: EmbeddingCache,
    /// Jobs that needed no sweep, but found no slot at once.
    late: VecDeque<Embedded>,
}

/// A job that is ready for denoising.
struct Embedded {
    ticket: JobTicket,
    texts: EmbeddedTexts,
    progress: JobProgress,
    /// Since when it waits for a slot.
    since: Instant,
}

impl<E: EmbedPrompts, A: Send> PromptEmbedder<E, A> {
    /// The stage, with at most `sweep_limit` prompts in one sweep (their activations are in memory together).
    pub fn new(
        encoder: E,
        requests: Receiver<JobTicket>,
        sweep_limit: usize,
        slots: Slots,
        controller: Sender<ControllerInput<A>>,
        ledger: MemoryLedger,
    ) -> Self {
        let core = StageCore::new(StageName::PromptEmbedder);
        let cache = EmbeddingCache::new(ledger.clone());
        Self {
            core,
            encoder,
            requests,
            sweep_limit,
            slots,
            controller,
            ledger,
            cache,
            late: VecDeque::new(),
        }
    }

    /// Embeds the prompts in one sweep, or in several where memory is too small for all at once.
    fn embed(&mut self, mut tickets: Vec<JobTicket>) {
        tickets.retain(|ticket| !ticket.context().is_over());
        while !tickets.is_empty() {
            match self.room_for(&tickets) {
                Ok(lease) => {
                    let swept = self.sweep(tickets);
                    let finished = swept
                        .into_iter()
                        .filter_map(|(ticket, token, started)| self.finish(ticket, token, started));
                    let embedded: Vec<_> = finished.collect();
                    // What the sweep worked in is given back before anything waits for a slot.
                    self.encoder.rest();
                    drop(lease);
                    self.admit_late();
                    return embedded.into_iter().for_each(|(ticket, texts)| {
                        let progress = JobProgress::Embedded;
                        self.admit(Embedded { ticket, texts, progress, since: Instant::now() });
                    });
                }
                Err(_) if tickets.len() > 1 => {
                    let rest = tickets.split_off(tickets.len() / 2);
                    self.embed(tickets);
                    tickets = rest;
                }
                Err(over) => {
                    let cause = Arc::new(StageFailure::from(over));
                    return tickets
                        .into_iter()
                        .for_each(|ticket| ticket.fail(self.core.name(), cause.clone()));
                }
            }
        }
    }

    fn room_for(&self, tickets: &[JobTicket]) -> Result<MemoryPermit, OverBudget> {
        let requests: Vec<_> = tickets.iter().map(|ticket| ticket.context().request()).collect();
        self.core.reserve(&self.ledger, self.encoder.working_bytes(&requests))
    }

    fn sweep(
        &mut self,
        tickets: Vec<JobTicket>,
    ) -> Vec<(JobTicket, Token<E::Activation>, Instant)> {
        let started = Instant::now();
        let mut jobs = Vec::with_capacity(tickets.len());
        let mut tokens = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            let job = ticket.context();
            if job.is_over() {
                continue;
            }
            job.note(|record| record.seconds.queued += job.age().as_secs_f64());
            job.enter(JobPhase::Embedding);
            job.emit(JobEvent::Embedding);
            let _turn = self.core.turn();
            let _beginning = timeline::begin(job.id().0);
            match self.core.compute(|| self.encoder.begin(job.request())) {
                Ok(activation) => tokens.push(Token::new(job.clone(), activation)),
                Err(cause) => {
                    ticket.fail(self.core.name(), cause);
                    continue;
                }
            }
            jobs.push(ticket);
        }
        sweep(&self.core, &mut self.encoder, &mut tokens);
        jobs.into_iter().zip(tokens).map(|(ticket, token)| (ticket, token, started)).collect()
    }

    /// Makes the embedding of what came through all blocks; `None` when the job is over.
    fn finish(
        &self,
        ticket: JobTicket,
        token: Token<E::Activation>,
        started: Instant,
    ) -> Option<(JobTicket, EmbeddedTexts)> {
        let job = ticket.context();
        if job.is_over() {
            return None;
        }
        let activation = match token.into_activation() {
            Ok(activation) => activation,
            Err(error) => {
                ticket.fail(error.stage, error.cause);
                return None;
            }
        };
        let turn = self.core.turn();
        let finishing = timeline::finish(job.id().0);
        let texts = match self.core.compute(|| self.encoder.finish(activation)) {
            Ok(texts) => texts,
            Err(cause) => {
                ticket.fail(self.core.name(), cause);
                return None;
            }
        };
        drop((finishing, turn));
        if self.encoder.captions(job.request()).is_some() {
            texts.iter().for_each(|text| self.cache.keep(text));
        }
        self.tell(&ticket, &texts, started);
        Some((ticket, texts))
    }

    fn tell(&self, ticket: &JobTicket, texts: &EmbeddedTexts, started: Instant) {
        let job = ticket.context();
        let seconds = started.elapsed().as_secs_f64();
        job.note(|record| record.seconds.embed = seconds);
        let Caption { text: caption, tokens, cut } = texts.prompt.read();
        let negative = texts.negative.as_ref().map(EmbeddedPrompt::read);
        job.emit(JobEvent::Embedded { caption, tokens, cut, negative, seconds });
    }

    /// What is known of a job already: all of it when it was saved, its embedding when its prompt came before. Gives back
    /// the ticket of one whose prompt is new.
    fn known(&self, mut ticket: JobTicket) -> Result<Embedded, JobTicket> {
        let started = Instant::now();
        let checkpoint = ticket.take_checkpoint();
        let job = ticket.context();
        let (texts, progress) = match checkpoint {
            Some(checkpoint) => {
                let (done, steps) = checkpoint.steps_done();
                job.emit(JobEvent::Resumed { done, steps });
                (checkpoint.texts, checkpoint.progress)
            }
            None => {
                let Some(texts) = self.cached(job.request()) else { return Err(ticket) };
                record_embedding_hit();
                job.emit(JobEvent::Embedding);
                self.tell(&ticket, &texts, started);
                (texts, JobProgress::Embedded)
            }
        };
        job.note(|record| record.seconds.queued += job.age().as_secs_f64());
        Ok(Embedded { ticket, texts, progress, since: Instant::now() })
    }

    /// The embeddings of a request, if all of its texts came before.
    fn cached(&self, request: &GenerationRequest) -> Option<EmbeddedTexts> {
        let captions = self.encoder.captions(request)?;
        captions.try_map(|caption| self.cache.get(&caption).ok_or(())).ok()
    }

    /// Admits a job if there is a slot for it now.
    fn admit_at_once(&mut self, embedded: Embedded) {
        // None overtakes another.
        if self.late.is_empty()
            && let Ok(slot) = self.slots.acquire(Some(Duration::ZERO))
        {
            embedded.ticket.context().enter(JobPhase::Admission);
            self.hand_on(embedded, slot);
        } else {
            self.late.push_back(embedded);
        }
    }

    fn admit_late(&mut self) {
        while let Some(embedded) = self.late.pop_front() {
            self.admit(embedded);
        }
    }

    /// Admits a job, waiting for a slot.
    fn admit(&self, embedded: Embedded) {
        let job = embedded.ticket.context();
        job.enter(JobPhase::Admission);
        let for_slot = timeline::wait_for_slot(job.id().0);
        let waiting = Instant::now();
        let Ok(slot) = self.slots.acquire(None) else { return };
        drop(for_slot);
        self.core.metrics().blocked(waiting.elapsed());
        job.note(|record| record.seconds.queued += embedded.since.elapsed().as_secs_f64());
        self.hand_on(embedded, slot);
    }

    fn hand_on(&self, Embedded { ticket, texts, progress, .. }: Embedded, slot: SlotPermit) {
        if ticket.context().is_over() {
            return;
        }
        // Whoever has a slot has a place in this channel, unless the controller died and tokens without a slot come
        // back to it. When it is gone, the ticket fails the job.
        let job =
            ControllerInput::Job(DenoiseJob { ticket, slot, texts: Box::new(texts), progress });
        if self.controller.send(job).is_ok() {
            self.core.metrics().items_out(1);
        }
    }
}

impl<E: EmbedPrompts, A: Send> Stage for PromptEmbedder<E, A> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        if self.core.health().death().is_some() {
            // Entered again after a panic: dropping their tickets fails them.
            self.late.clear();
        }
        while let Some(first) = self.requests.recv() {
            let mut tickets = vec![first];
            while tickets.len() < self.sweep_limit {
                let Some(next) = self.requests.recv_within(TOGETHER) else { break };
                tickets.push(next);
            }
            record_queue_depth(self.requests.depth());
            self.core.metrics().items_in(tickets.len());
            let mut new = Vec::new();
            for ticket in tickets {
                match self.known(ticket) {
                    Ok(embedded) => self.admit_at_once(embedded),
                    Err(ticket) => new.push(ticket),
                }
            }
            // The sweep does not wait for the slots of those that need none.
            self.embed(new);
            self.admit_late();
        }
    }
}

impl<E, A> Drop for PromptEmbedder<E, A> {
    fn drop(&mut self) {
        // The last worker sends into the same channel, so its closing could not tell. It fails when the controller
        // is gone, which is as well.
        let _ = self.controller.send(ControllerInput::NoMoreJobs);
    }
}
