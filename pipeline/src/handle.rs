//! How the rest of the program talks to the pipeline.

use actix::{Actor, Addr};
use candle_core::Device;
use sora_actors::compute::{BlockSpan, DecodeLatent, Denoise, EmbedPrompts};
use sora_actors::memory::MemoryLedger;
use sora_actors::messages::{GenerationRequest, JobId};
use sora_actors::{JobOrder, Pace};
use sora_models::bundle::ModelBundle;

use crate::config::{GraphLimits, MemoryLimits};
use crate::error::{PipelineError, SubmitError};
use crate::open_sora;
use crate::pipeline_actor::{
    Cancel, Check, Job, Observe, PipelineActor, RequestCheck, SetMemory, ShutDown, Submit,
};
use crate::plan::{MemoryPlan, ModelMemory, PlannedGraph};
use crate::snapshot::PipelineSnapshot;
use crate::topology::{GraphCompute, launch};

/// Talks to a running pipeline. Every message is awaited; when the last handle is dropped, the graph finishes what is
/// under way and ends.
#[derive(Clone)]
pub struct PipelineHandle {
    actor: Addr<PipelineActor>,
    pace: Pace,
    ledger: MemoryLedger,
}

impl PipelineHandle {
    /// Loads a model and starts a graph over it; `memory` is what [`ModelMemory::of`] says of the model, and of the dtype to
    /// compute in. Call it within an actix system.
    ///
    /// # Errors
    /// The model cannot be loaded, the limits leave a stage without room, or a thread cannot be started.
    pub fn open_sora(
        bundle: &ModelBundle,
        memory: ModelMemory,
        device: &Device,
        limits: &GraphLimits,
    ) -> Result<Self, PipelineError> {
        limits.check()?;
        let compute = open_sora::load(bundle, &memory, device, limits)?;
        let ledger = compute.ledger.clone();
        let (workers, limits_then) = (limits.workers, limits.memory.clone());
        let check = move |request: &GenerationRequest| {
            request.check()?;
            let budget_bytes = ledger.observe().budget_bytes;
            let limits_now = MemoryLimits { budget_bytes, ..limits_then.clone() };
            let graph = PlannedGraph { workers, videos: 1 };
            let plan = MemoryPlan::new(&memory, request, graph, &limits_now)?;
            if plan.fits() { Ok(()) } else { Err(SubmitError::OverBudget(Box::new(plan))) }
        };
        Self::launch(compute, limits, Box::new(check))
    }

    /// Starts a graph over any computation; `check` says what it cannot do. Call it within an actix system.
    ///
    /// # Errors
    /// The limits leave a stage without room, or a thread cannot be started.
    pub fn launch<E, D, S, V>(
        compute: GraphCompute<E, D, S, V>,
        limits: &GraphLimits,
        check: RequestCheck,
    ) -> Result<Self, PipelineError>
    where
        E: EmbedPrompts + 'static,
        D: Denoise + 'static,
        S: BlockSpan<Activation = D::Activation> + 'static,
        V: DecodeLatent + 'static,
    {
        let ledger = compute.ledger.clone();
        let graph = launch(compute, limits)?;
        let pace = graph.pace.clone();
        Ok(Self { actor: PipelineActor::new(graph, limits, check).start(), pace, ledger })
    }

    /// Hands in a prompt, or a job that is saved as it goes, or goes on from where it was saved.
    ///
    /// # Errors
    /// The queue is full, the pipeline is shutting down, or the model cannot do what is asked for.
    pub async fn submit(&self, order: impl Into<JobOrder>) -> Result<Job, SubmitError> {
        self.actor.send(Submit(order.into())).await.map_err(|_| SubmitError::Gone)?
    }

    /// Finds out whether [`PipelineHandle::submit`] would refuse a prompt for what it asks for.
    ///
    /// # Errors
    /// The model cannot do what is asked for, or it takes more memory than there is.
    pub async fn check(&self, request: &GenerationRequest) -> Result<(), SubmitError> {
        self.actor.send(Check(Box::new(request.clone()))).await.map_err(|_| SubmitError::Gone)?
    }

    /// Cancels a job; `false` when it was over or never was. Its last event is sent at once; the stages give it up at
    /// their next block, step or chunk.
    pub async fn cancel(&self, id: JobId) -> bool {
        self.actor.send(Cancel(id)).await.unwrap_or(false)
    }

    /// What the pipeline looks like now; `None` when it has ended.
    pub async fn observe(&self) -> Option<PipelineSnapshot> {
        self.actor.send(Observe).await.ok()
    }

    /// Changes the memory budget while the pipeline runs, as when a phone warns: blocks that are kept go at once, work under
    /// way finishes, and what no longer fits fails alone.
    pub async fn set_memory(&self, budget_bytes: u64) {
        // An actor that is gone holds no memory.
        let _ = self.actor.send(SetMemory { budget_bytes }).await;
    }

    /// How fast the stages may go: to pause them, or to have them rest.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The graph's account of memory, for work beside it.
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    /// Takes no more prompts, finishes what is under way, and returns when all threads have ended. Consumers must go on
    /// receiving meanwhile.
    pub async fn drain(&self) {
        // An actor that is gone has no threads.
        let _ = self.actor.send(ShutDown { cancel: false }).await;
    }

    /// Takes no more prompts, cancels what is under way, and returns when all threads have ended.
    pub async fn stop(&self) {
        // As above.
        let _ = self.actor.send(ShutDown { cancel: true }).await;
    }
}
