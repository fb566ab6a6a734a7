//! One job on its way through the graph: its request, its events, and the promise that it ends exactly once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use sora_telemetry::{
    PromptOutcome, record_first_step, record_prompt, record_prompt_entered, record_prompt_left,
};

use crate::compute::EmbeddedTexts;
use crate::error::{StageError, StageFailure, StageName};
use crate::job_events::{Delivery, JobEvents};
use crate::journal::JobJournal;
use crate::messages::{
    GenerationRequest, JobCheckpoint, JobEvent, JobId, JobProgress, JobSummary, Latent,
    StageSeconds, VideoChunk,
};
use crate::order::JobOrder;
use crate::preview::PreviewWish;
use crate::slots::{SlotPermit, SlotRefusal, Slots};

/// Events of a job that are neither steps nor chunks: queued, embedding and embedded (or resumed), decoding and the last
/// one; and a preview, of which one at most waits for the consumer.
const EVENTS_BESIDES_STEPS_AND_CHUNKS: usize = 6;

/// How a job treats a consumer that is slower than the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// Chunks of frames that may wait for the consumer before the decoder does.
    pub chunk_backlog: usize,
    /// How long the decoder waits for the consumer before it gives the job up.
    pub patience: Duration,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum JobPhase {
    /// Waiting for the prompt embedder.
    Queued,
    /// In the prompt embedder.
    Embedding,
    /// Embedded; waiting for a token slot.
    Admission,
    /// In the ring.
    Denoising {
        /// Steps done.
        done: usize,
        /// Steps that there will be at most.
        steps: usize,
    },
    /// Waiting for the decoder, or in it.
    Decoding,
}

impl JobPhase {
    fn stage(self) -> StageName {
        match self {
            Self::Queued | Self::Embedding | Self::Admission => StageName::PromptEmbedder,
            Self::Denoising { .. } => StageName::DenoiseController,
            Self::Decoding => StageName::VaeDecoder,
        }
    }
}

/// What all who deal with a job share.
pub struct JobContext {
    id: JobId,
    request: GenerationRequest,
    journal: Option<Arc<dyn JobJournal>>,
    /// Whether the metrics of prompts count it; its owner does otherwise.
    is_counted: bool,
    accepted: Instant,
    limits: ConsumerLimits,
    chunk_places: Slots,
    preview_wish: PreviewWish,
    preview_place: Slots,
    state: Mutex<State>,
}

struct State {
    /// Where events go; taken away with the last event, so that nothing can follow it.
    events: Option<flume::Sender<Delivery>>,
    phase: JobPhase,
    record: JobRecord,
}

/// What is noted down about a job as it goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobRecord {
    pub(crate) steps_computed: usize,
    pub(crate) leapt_at: Option<usize>,
    pub(crate) seconds: StageSeconds,
    /// From submission to where the job was saved, in earlier runs.
    seconds_before: f64,
}

impl JobRecord {
    /// Goes on from what was done before.
    fn after(work: &JobSummary) -> Self {
        let &JobSummary {
            steps_computed,
            leapt_at,
            stage_seconds: seconds,
            seconds: seconds_before,
        } = work;
        Self { steps_computed, leapt_at, seconds, seconds_before }
    }
}

/// Why a chunk could not be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkRefusal {
    /// The job is over.
    JobOver,
    /// The consumer took nothing for too long.
    Stalled(Duration),
}

impl JobContext {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What is to be generated.
    pub fn request(&self) -> &GenerationRequest {
        &self.request
    }

    /// Where the job is saved as it goes, if it is.
    pub(crate) fn journal(&self) -> Option<&Arc<dyn JobJournal>> {
        self.journal.as_ref()
    }

    /// Where the job is.
    pub fn phase(&self) -> JobPhase {
        self.state().phase
    }

    /// Whether the job has ended, in whatever way; whoever holds it drops it then.
    pub fn is_over(&self) -> bool {
        self.state().events.is_none()
    }

    /// Ends the job at once; the stages notice at their next block, step or chunk. `false` when it was over.
    pub fn cancel(&self) -> bool {
        self.end(JobEvent::Cancelled, PromptOutcome::Cancelled)
    }

    /// Sends an event that is neither a chunk nor the last one. It never waits: the channel has a place for each.
    pub fn emit(&self, event: JobEvent) {
        let state = self.state();
        if let Some(events) = &state.events {
            self.deliver(events, Delivery::new(event));
        }
    }

    pub(crate) fn enter(&self, phase: JobPhase) {
        self.state().phase = phase;
    }

    pub(crate) fn note(&self, update: impl FnOnce(&mut JobRecord)) {
        update(&mut self.state().record);
    }

    /// The first step is done.
    pub(crate) fn first_step_done(&self) {
        if self.is_counted {
            record_first_step(self.age());
        }
    }

    /// How long ago it was submitted.
    pub fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// What was done so far.
    pub(crate) fn summary(&self) -> JobSummary {
        let record = self.state().record;
        JobSummary {
            steps_computed: record.steps_computed,
            leapt_at: record.leapt_at,
            stage_seconds: record.seconds,
            seconds: record.seconds_before + self.age().as_secs_f64(),
        }
    }

    /// Sends frames, waiting while the consumer's backlog is full.
    pub(crate) fn emit_chunk(&self, chunk: VideoChunk) -> Result<(), ChunkRefusal> {
        let place = self.chunk_places.acquire(Some(self.limits.patience));
        let place = place.map_err(|refusal| match refusal {
            SlotRefusal::Closed => ChunkRefusal::JobOver,
            SlotRefusal::TimedOut => ChunkRefusal::Stalled(self.limits.patience),
        })?;
        let state = self.state();
        let events = state.events.as_ref().ok_or(ChunkRefusal::JobOver)?;
        self.deliver(events, Delivery::holding_place(JobEvent::Chunk(chunk), place));
        Ok(())
    }

    pub(crate) fn preview_wish(&self) -> &PreviewWish {
        &self.preview_wish
    }

    /// Sends a preview, unless the job is over or the consumer has not taken the one before. It never waits.
    pub(crate) fn emit_preview(&self, event: JobEvent) -> bool {
        let Ok(place) = self.preview_place.acquire(Some(Duration::ZERO)) else { return false };
        let state = self.state();
        let Some(events) = &state.events else { return false };
        self.deliver(events, Delivery::holding_place(event, place));
        true
    }

    fn end(&self, event: JobEvent, outcome: PromptOutcome) -> bool {
        let Some(events) = self.state().events.take() else { return false };
        self.deliver(&events, Delivery::new(event));
        self.chunk_places.close();
        record_prompt_left();
        if self.is_counted {
            record_prompt(outcome, self.age());
        }
        true
    }

    fn deliver(&self, events: &flume::Sender<Delivery>, delivery: Delivery) {
        // A consumer that is gone has cancelled the job already.
        if let Err(flume::TrySendError::Full(lost)) = events.try_send(delivery) {
            tracing::error!(job = %self.id, event = ?lost.event(), "a job sent more events than it announced");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one ticket of a job, handed from stage to stage with it. Dropping it fails the job (unless it is over), so
/// that no job is ever forgotten, whatever happens to the stage that holds it.
pub struct JobTicket {
    context: Arc<JobContext>,
    checkpoint: Option<Arc<JobCheckpoint>>,
}

impl JobTicket {
    /// Opens a job; its events come out of the second half.
    pub fn open(
        id: JobId,
        order: impl Into<JobOrder>,
        limits: ConsumerLimits,
    ) -> (Self, JobEvents) {
        let JobOrder { request, journal, checkpoint, is_counted } = order.into();
        let capacity =
            request.sampling.steps + limits.chunk_backlog + EVENTS_BESIDES_STEPS_AND_CHUNKS;
        let (sender, receiver) = flume::bounded(capacity);
        let record = checkpoint.as_deref().map(|checkpoint| JobRecord::after(&checkpoint.work));
        let record = record.unwrap_or_default();
        let state = State { events: Some(sender), phase: JobPhase::Queued, record };
        let context = Arc::new(JobContext {
            id,
            request,
            journal,
            is_counted,
            accepted: Instant::now(),
            limits,
            chunk_places: Slots::new(limits.chunk_backlog),
            preview_wish: PreviewWish::default(),
            preview_place: Slots::new(1),
            state: Mutex::new(state),
        });
        record_prompt_entered();
        let events = JobEvents::new(receiver, Arc::downgrade(&context));
        (Self { context, checkpoint }, events)
    }

    /// Where to go on, once, for a job that was saved.
    pub(crate) fn take_checkpoint(&mut self) -> Option<JobCheckpoint> {
        self.checkpoint.take().map(Arc::unwrap_or_clone)
    }

    /// What all who deal with the job share.
    pub fn context(&self) -> &Arc<JobContext> {
        &self.context
    }

    /// An observer that does not keep the job alive.
    pub fn observer(&self) -> Weak<JobContext> {
        Arc::downgrade(&self.context)
    }

    /// Ends the job with the cause of its failure.
    pub fn fail(self, stage: StageName, cause: Arc<StageFailure>) {
        self.fail_with(StageError { stage, job: self.context.id, cause });
    }

    pub(crate) fn fail_with(&self, error: StageError) {
        let StageError { stage, job, .. } = &error;
        tracing::warn!(%job, %stage, kind = error.kind().as_str(), cause = error.for_log(), "a job failed");
        self.context.end(JobEvent::Failed(Arc::new(error)), PromptOutcome::Failed);
    }

    /// Ends the job with its video complete.
    pub fn finish(self) {
        let summary = self.context.summary();
        self.context.end(JobEvent::Finished(summary), PromptOutcome::Finished);
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        if !self.context.is_over() {
            let reason = "its thread ended while the job was there".to_string();
            let cause = Arc::new(StageFailure::StageDied { reason });
            let stage = self.context.phase().stage();
            self.fail_with(StageError { stage, job: self.context.id, cause });
        }
    }
}

/// An embedded prompt that has a token slot.
pub struct DenoiseJob {
    pub(crate) ticket: JobTicket,
    pub(crate) slot: SlotPermit,
    pub(crate) texts: Box<EmbeddedTexts>,
    pub(crate) progress: JobProgress,
}

/// A denoised latent that still holds its token slot, so that there is always room for it in the channel.
pub struct DecodeJob {
    pub(crate) ticket: JobTicket,
    pub(crate) slot: SlotPermit,
    pub(crate) latent: Latent,
}

impl DecodeJob {
    /// A job whose latent was saved, and nothing of it is left to do but to decode; `None` for any other, which fails it.
    pub fn resume(mut ticket: JobTicket, slots: &Slots) -> Option<Self> {
        let checkpoint = ticket.take_checkpoint()?;
        let (done, steps) = checkpoint.steps_done();
        let JobProgress::Denoised(latent) = checkpoint.progress else { return None };
        let slot = slots.acquire(None).ok()?;
        ticket.context.emit(JobEvent::Resumed { done, steps });
        ticket.context.enter(JobPhase::Decoding);
        Some(Self { ticket, slot, latent })
    }
}
