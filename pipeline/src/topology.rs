//! The graph: the only place that creates channels and starts stages.

use sora_actors::block_loader::{
    BlockFeed, BlockLoader, LoadBlocks, LoaderChannels, LoaderProbe, LoaderSettings,
};
use sora_actors::channel::{ChannelProbe, Sender, bounded};
use sora_actors::compute::{BlockSpan, DecodeLatent, Denoise, EmbedPrompts};
use sora_actors::memory::MemoryLedger;
use sora_actors::stage::{Stage, StageThread};
use sora_actors::{
    DecodeJob, DecoderInput, DenoiseController, JobTicket, LoaderOf, PREVIEWS_UNDER_WAY, Pace,
    PromptEmbedder, RingHop, Slots, StageName, StditWorker, VaeDecoder,
};

use crate::config::GraphLimits;
use crate::error::PipelineError;

/// What the stages compute with; one span of blocks for each worker, in order.
pub struct GraphCompute<E, D, S, V> {
    /// The text encoder.
    pub encoder: E,
    /// Sampling, and the transformer's ends.
    pub denoiser: D,
    /// The transformer's blocks, shared out among the workers.
    pub spans: Vec<S>,
    /// The video decoder.
    pub decoder: V,
    /// What brings blocks to the stages; none where the stages hold their blocks themselves.
    pub loaders: Vec<AttachedLoader>,
    /// The account of all memory.
    pub ledger: MemoryLedger,
}

/// A block loader that is joined to the stage it serves, and not started yet.
pub struct AttachedLoader {
    stage: Box<dyn Stage>,
    channels: [ChannelProbe; 2],
    probe: LoaderProbe,
}

/// Joins a loader to the stage that will use its blocks.
pub fn attach_loader<L: LoadBlocks + 'static>(
    owner: LoaderOf,
    blocks: L,
    settings: LoaderSettings,
    ledger: &MemoryLedger,
) -> (AttachedLoader, BlockFeed<L::Block>) {
    let inbox = bounded(&format!("{owner}_wishes"), LoaderChannels::<L::Block>::INBOX_CAPACITY);
    let deliveries =
        bounded(&format!("{owner}_blocks"), LoaderChannels::<L::Block>::DELIVERY_CAPACITY);
    let channels = [inbox.0.probe(), deliveries.0.probe()];
    let (loader, feed) =
        BlockLoader::new(owner, blocks, settings, ledger, LoaderChannels { inbox, deliveries });
    (AttachedLoader { stage: Box::new(loader), channels, probe: feed.probe() }, feed)
}

/// A running graph. It ends by itself, stage after stage, when `intake` is dropped.
pub struct Graph {
    /// Where jobs go in; its capacity is the queue's.
    pub intake: Sender<JobTicket>,
    /// Observers of all channels, in the order in which a job passes them.
    pub channels: Vec<ChannelProbe>,
    /// The stages, in the order in which they end.
    pub stages: Vec<StageThread>,
    /// The token slots.
    pub slots: Slots,
    /// The account of all memory.
    pub ledger: MemoryLedger,
    /// How fast the stages may go.
    pub pace: Pace,
    /// Observers of the block loaders.
    pub loaders: Vec<LoaderProbe>,
}

/// Joins the stages together and starts them.
///
/// A token slot belongs to a job from its admission until the decoder takes its latent. Every channel that jobs with a
/// slot pass has a place for each slot, so within the ring nothing ever waits to send, and there can be no deadlock.
///
/// # Errors
/// The limits leave a stage without room, or a thread cannot be started.
pub fn launch<E, D, S, V>(
    compute: GraphCompute<E, D, S, V>,
    limits: &GraphLimits,
) -> Result<Graph, PipelineError>
where
    E: EmbedPrompts + 'static,
    D: Denoise + 'static,
    S: BlockSpan<Activation = D::Activation> + 'static,
    V: DecodeLatent + 'static,
{
    let GraphCompute { encoder, denoiser, spans, decoder, loaders, ledger } = compute;
    limits.check()?;
    let slots = Slots::new(limits.token_slots);
    let (intake, requests) = bounded("requests", limits.queue_capacity);
    // Beside the tokens: the end of each sweep under way, of which there is at most one a worker, and a rest.
    let ring_capacity = limits.token_slots + limits.workers + 1;
    // One more place for the message that no more jobs come.
    let (to_controller, inbox) = bounded("controller", ring_capacity + 1);
    // One more place for each preview that can be under way.
    let (to_decoder, latents) = bounded("latents", limits.token_slots + PREVIEWS_UNDER_WAY);
    let mut channels = vec![intake.probe(), to_controller.probe()];
    let mut stages = Vec::new();
    let pace = Pace::default();

    // From the last worker to the first, since each is told where to send.
    let mut next = RingHop::Controller(to_controller.clone());
    let (mut workers, mut ring_channels) = (Vec::new(), Vec::new());
    for (index, span) in spans.into_iter().enumerate().rev() {
        let (to_worker, tokens) = bounded(&format!("ring_{index}"), ring_capacity);
        ring_channels.push(to_worker.probe());
        workers.push(StditWorker::new(index, span, tokens, next));
        next = RingHop::Worker(to_worker);
    }
    channels.extend(ring_channels.into_iter().rev());
    channels.push(to_decoder.probe());

    let embedder = PromptEmbedder::new(
        encoder,
        requests,
        limits.sweep_limit,
        slots.clone(),
        to_controller,
        ledger.clone(),
    );
    let controller =
        DenoiseController::new(denoiser, inbox, next, limits.workers, to_decoder, ledger.clone());
    stages.push(spawn(embedder, &pace)?);
    stages.push(spawn(controller, &pace)?);
    for worker in workers.into_iter().rev() {
        stages.push(spawn(worker, &pace)?);
    }
    stages.push(spawn(VaeDecoder::new(decoder, latents, ledger.clone()), &pace)?);
    // Each ends when the stage that it serves has.
    let mut loader_probes = Vec::new();
    for AttachedLoader { stage, channels: probes, probe } in loaders {
        channels.extend(probes);
        loader_probes.push(probe);
        // The decoder asks for its networks within its own turn, which would wait for theirs.
        let within_a_turn = stage.core().name() == StageName::BlockLoader(LoaderOf::VaeDecoder);
        stages.push(if within_a_turn { StageThread::spawn(stage)? } else { spawn(stage, &pace)? });
    }
    Ok(Graph { intake, channels, stages, slots, ledger, pace, loaders: loader_probes })
}

fn spawn(stage: impl Stage + 'static, pace: &Pace) -> std::io::Result<StageThread> {
    stage.core().keep_pace(pace);
    StageThread::spawn(stage)
}

/// What the last stage computes with.
pub struct DecoderCompute<V> {
    /// The video decoder.
    pub decoder: V,
    /// What brings its networks; none where it holds them itself.
    pub loader: Option<AttachedLoader>,
    /// The account of all memory.
    pub ledger: MemoryLedger,
}

/// Starts the last stage alone, for a job whose latent was saved. The stages that are returned end by themselves after
/// that job.
///
/// # Errors
/// The job is not denoised yet, or a thread cannot be started.
pub fn launch_decoder<V: DecodeLatent + 'static>(
    compute: DecoderCompute<V>,
    ticket: JobTicket,
) -> Result<Vec<StageThread>, PipelineError> {
    let DecoderCompute { decoder, loader, ledger } = compute;
    let (to_decoder, latents) = bounded("latents", 1);
    let mut stages = vec![StageThread::spawn(VaeDecoder::new(decoder, latents, ledger))?];
    if let Some(AttachedLoader { stage, .. }) = loader {
        stages.push(StageThread::spawn(stage)?);
    }
    let job = DecodeJob::resume(ticket, &Slots::new(1)).ok_or(PipelineError::NothingToDecode)?;
    // Without a decoder the ticket comes back and is dropped, which fails the job.
    let _ = to_decoder.send(DecoderInput::Video(job));
    Ok(stages)
}
