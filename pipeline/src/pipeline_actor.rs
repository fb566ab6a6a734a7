//! The control plane: one actor that takes prompts, cancels, observes and shuts down. No tensor passes it.

use std::collections::BTreeMap;
use std::sync::Weak;

use actix::{Actor, Context, Handler, Message, MessageResult, ResponseFuture};
use sora_actors::block_loader::LoaderProbe;
use sora_actors::channel::{ChannelProbe, Sender};
use sora_actors::memory::MemoryLedger;
use sora_actors::messages::{GenerationRequest, JobEvent, JobId};
use sora_actors::stage::{StageHealth, StageThread};
use sora_actors::{ConsumerLimits, JobContext, JobEvents, JobOrder, JobTicket, Pace, Slots};
use sora_telemetry::{record_queue_depth, record_refusal};
use tokio::sync::watch;

use crate::config::GraphLimits;
use crate::error::SubmitError;
use crate::snapshot::{ChannelSnapshot, JobSnapshot, PipelineSnapshot, StageSnapshot};
use crate::topology::Graph;

/// Says what the model cannot do, before any work is done.
pub type RequestCheck = Box<dyn Fn(&GenerationRequest) -> Result<(), SubmitError> + Send>;

/// An accepted prompt.
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What becomes of it. Dropping this cancels the job.
    pub events: JobEvents,
}

/// Takes a prompt, or refuses it at once.
#[derive(Message)]
#[rtype(result = "Result<Job, SubmitError>")]
pub(crate) struct Submit(pub(crate) JobOrder);

/// Asks whether a prompt would be refused for what it is.
#[derive(Message)]
#[rtype(result = "Result<(), SubmitError>")]
pub(crate) struct Check(pub(crate) Box<GenerationRequest>);

/// Cancels a job; the answer says whether it was still going.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct Cancel(pub(crate) JobId);

/// Asks what the pipeline looks like.
#[derive(Message)]
#[rtype(result = "PipelineSnapshot")]
pub(crate) struct Observe;

/// Changes the memory budget.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SetMemory {
    /// Bytes that the whole program may take from now on.
    pub(crate) budget_bytes: u64,
}

/// Takes no more prompts; the answer comes when all threads have ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ShutDown {
    /// Whether to cancel what is under way rather than finish it.
    pub(crate) cancel: bool,
}

/// The actor.
pub(crate) struct PipelineActor {
    /// Taken away to close the graph: each stage ends when the one before it has.
    intake: Option<Sender<JobTicket>>,
    check: RequestCheck,
    consumer: ConsumerLimits,
    queue_capacity: usize,
    next_id: u64,
    jobs: BTreeMap<JobId, Weak<JobContext>>,
    channels: Vec<ChannelProbe>,
    slots: Slots,
    ledger: MemoryLedger,
    pace: Pace,
    loaders: Vec<LoaderProbe>,
    health: Vec<StageHealth>,
    stages: Vec<StageThread>,
    ended: (watch::Sender<bool>, watch::Receiver<bool>),
}

impl PipelineActor {
    pub(crate) fn new(graph: Graph, limits: &GraphLimits, check: RequestCheck) -> Self {
        let Graph { intake, channels, stages, slots, ledger, pace, loaders } = graph;
        Self {
            intake: Some(intake),
            check,
            consumer: limits.consumer,
            queue_capacity: limits.queue_capacity,
            next_id: 0,
            jobs: BTreeMap::new(),
            channels,
            slots,
            ledger,
            pace,
            loaders,
            health: stages.iter().map(|stage| stage.health().clone()).collect(),
            stages,
            ended: watch::channel(false),
        }
    }

    fn submit(&mut self, order: JobOrder) -> Result<Job, SubmitError> {
        (self.check)(order.request())?;
        let Some(intake) = &self.intake else {
            return Err(SubmitError::Closed { request: Box::new(order.into_request()) });
        };
        // Nobody else sends into this channel, so a free place stays free.
        if intake.is_full() {
            if order.is_counted() {
                record_refusal();
            }
            let capacity = self.queue_capacity;
            return Err(SubmitError::Full { request: Box::new(order.into_request()), capacity });
        }
        let id = JobId(self.next_id);
        self.next_id += 1;
        let (ticket, events) = JobTicket::open(id, order, self.consumer);
        ticket.context().emit(JobEvent::Queued { position: intake.depth() });
        self.jobs.retain(|_, job| job.upgrade().is_some_and(|job| !job.is_over()));
        self.jobs.insert(id, ticket.observer());
        // Without an embedder the ticket comes back and is dropped, which fails the job.
        let _ = intake.send(ticket);
        record_queue_depth(intake.depth());
        Ok(Job { id, events })
    }

    fn observe(&self) -> PipelineSnapshot {
        let jobs = self.jobs.iter().filter_map(|(&id, job)| {
            let job = job.upgrade().filter(|job| !job.is_over())?;
            Some(JobSnapshot { id, phase: job.phase(), seconds: job.age().as_secs_f64() })
        });
        let channels = self.channels.iter().map(|channel| ChannelSnapshot {
            name: channel.name().to_string(),
            capacity: channel.capacity(),
            depth: channel.last_depth(),
            blocked_seconds: channel.blocked_seconds(),
        });
        let stages = self.health.iter().map(|health| StageSnapshot {
            name: health.name().to_string(),
            death: health.death().map(str::to_string),
            busy_seconds: health.busy_seconds(),
        });
        PipelineSnapshot {
            accepting: self.intake.is_some(),
            jobs: jobs.collect(),
            channels: channels.collect(),
            stages: stages.collect(),
            free_token_slots: self.slots.free(),
            memory: self.ledger.observe(),
            loaders: self.loaders.iter().map(LoaderProbe::observe).collect(),
        }
    }

    fn cancel_all(&self) {
        self.jobs.values().filter_map(Weak::upgrade).for_each(|job| {
            job.cancel();
        });
    }

    /// Closes the graph and has its threads joined where waiting harms nobody.
    fn close(&mut self) {
        self.intake = None;
        // What is paused would never end.
        self.pace.lift();
        let stages = std::mem::take(&mut self.stages);
        if !stages.is_empty() {
            let ended = self.ended.0.clone();
            tokio::task::spawn_blocking(move || {
                stages.into_iter().for_each(StageThread::join);
                ended.send_replace(true);
            });
        }
    }
}

impl Drop for PipelineActor {
    /// The graph ends by itself, and must not be paused for that.
    fn drop(&mut self) {
        self.pace.lift();
    }
}

impl Actor for PipelineActor {
    type Context = Context<Self>;
}

impl Handler<Submit> for PipelineActor {
    type Result = Result<Job, SubmitError>;

    fn handle(&mut self, Submit(order): Submit, _: &mut Self::Context) -> Self::Result {
        self.submit(order)
    }
}

impl Handler<Check> for PipelineActor {
    type Result = Result<(), SubmitError>;

    fn handle(&mut self, Check(request): Check, _: &mut Self::Context) -> Self::Result {
        (self.check)(&request)
    }
}

impl Handler<Cancel> for PipelineActor {
    type Result = bool;

    fn handle(&mut self, Cancel(id): Cancel, _: &mut Self::Context) -> bool {
        self.jobs.get(&id).and_then(Weak::upgrade).is_some_and(|job| job.cancel())
    }
}

impl Handler<Observe> for PipelineActor {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.observe())
    }
}

impl Handler<SetMemory> for PipelineActor {
    type Result = ();

    fn handle(&mut self, SetMemory { budget_bytes }: SetMemory, _: &mut Self::Context) {
        self.ledger.set_budget(budget_bytes);
    }
}

impl Handler<ShutDown> for PipelineActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, ShutDown { cancel }: ShutDown, _: &mut Self::Context) -> Self::Result {
        if cancel {
            self.cancel_all();
        }
        self.close();
        let mut ended = self.ended.1.clone();
        Box::pin(async move {
            // A sender that is gone has nothing left to end.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}
