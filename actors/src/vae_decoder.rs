//! The last stage: latents in, frames out.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sora_telemetry::timeline;

use crate::channel::Receiver;
use crate::compute::DecodeLatent;
use crate::error::{StageFailure, StageName};
use crate::job::{ChunkRefusal, DecodeJob};
use crate::memory::MemoryLedger;
use crate::messages::JobEvent;
use crate::stage::{Stage, StageCore};

/// Decodes one latent after the other and emits the frames as they come, waiting for a slow consumer.
pub struct VaeDecoder<V> {
    core: StageCore,
    decoder: V,
    latents: Receiver<DecodeJob>,
    ledger: MemoryLedger,
}

impl<V: DecodeLatent> VaeDecoder<V> {
    /// The stage.
    pub fn new(decoder: V, latents: Receiver<DecodeJob>, ledger: MemoryLedger) -> Self {
        Self { core: StageCore::new(StageName::VaeDecoder), decoder, latents, ledger }
    }

    fn decode(&mut self, DecodeJob { ticket, slot, latent }: DecodeJob) {
        // From here on the job no longer takes part in the ring.
        drop(slot);
        let job = ticket.context();
        if job.is_over() {
            return;
        }
        let lease = match self.core.reserve(&self.ledger, self.decoder.working_bytes(&latent)) {
            Ok(lease) => lease,
            Err(over) => return ticket.fail(self.core.name(), Arc::new(over.into())),
        };
        job.emit(JobEvent::Decoding);
        let _decoding = timeline::decode(job.id().0);
        let started = Instant::now();
        let mut blocked = Duration::ZERO;
        let mut stalled = None;
        let (core, decoder) = (&self.core, &mut self.decoder);
        let outcome = core.guard(|| {
            decoder.decode(&latent, &mut |chunk| {
                let _waiting = timeline::wait_for_consumer(job.id().0);
                let waiting = Instant::now();
                let delivered = job.emit_chunk(chunk);
                blocked += waiting.elapsed();
                match delivered {
                    Ok(()) if !job.is_over() => {
                        core.metrics().items_out(1);
                        ControlFlow::Continue(())
                    }
                    Ok(()) | Err(ChunkRefusal::JobOver) => ControlFlow::Break(()),
                    Err(ChunkRefusal::Stalled(patience)) => {
                        stalled = Some(patience);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        self.decoder.rest();
        self.core.worked(started.elapsed().saturating_sub(blocked));
        self.core.metrics().blocked(blocked);
        job.note(|record| record.seconds.decode = started.elapsed().as_secs_f64());
        drop(lease);
        match (outcome, stalled) {
            (Err(cause), _) => ticket.fail(self.core.name(), cause),
            (Ok(()), Some(patience)) => {
                let cause = StageFailure::ConsumerStalled { seconds: patience.as_secs() };
                ticket.fail(self.core.name(), Arc::new(cause));
            }
            (Ok(()), None) => ticket.finish(),
        }
    }
}

impl<V: DecodeLatent> Stage for VaeDecoder<V> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        while let Some(job) = self.latents.recv() {
            self.core.metrics().items_in(1);
            self.decode(job);
        }
    }
}
