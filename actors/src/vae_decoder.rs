//! The last stage: latents in, frames out.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use sora_telemetry::timeline;

use crate::channel::Receiver;
use crate::compute::DecodeLatent;
use crate::error::{StageFailure, StageName};
use crate::job::{ChunkRefusal, DecodeJob};
use crate::memory::{MemoryLedger, MemoryUse};
use crate::messages::JobEvent;
use crate::preview::PreviewJob;
use crate::stage::{Stage, StageCore};

/// Decodes one latent after the other and emits the frames as they come, waiting for a slow consumer.
pub struct VaeDecoder<V> {
    core: StageCore,
    decoder: V,
    latents: Receiver<DecoderInput>,
    ledger: MemoryLedger,
}

/// What comes to the decoder. One channel carries all of it, with a place for each token slot and one for each preview
/// that can be under way, so that the controller never waits.
pub enum DecoderInput {
    /// A denoised latent.
    Video(DecodeJob),
    /// A glimpse of a latent that is not denoised yet.
    Preview(PreviewJob),
}

impl<V: DecodeLatent> VaeDecoder<V> {
    /// The stage.
    pub fn new(decoder: V, latents: Receiver<DecoderInput>, ledger: MemoryLedger) -> Self {
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
        let mut turn = self.core.turn();
        if job.is_over() {
            return;
        }
        job.emit(JobEvent::Decoding);
        let _decoding = timeline::decode(job.id().0);
        let started = Instant::now();
        // Counted chunk by chunk: a video takes far longer than anybody waits for the next look at the metrics.
        let mut working = Instant::now();
        let mut stalled = None;
        let (core, decoder) = (&self.core, &mut self.decoder);
        let outcome = core.guard(|| {
            decoder.decode(&latent, &mut |chunk| {
                core.worked(working.elapsed());
                let _waiting = timeline::wait_for_consumer(job.id().0);
                let waiting = Instant::now();
                let delivered = turn.wait_between(|| job.emit_chunk(chunk));
                core.metrics().blocked(waiting.elapsed());
                working = Instant::now();
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
        self.core.worked(working.elapsed());
        drop(turn);
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

    /// Decodes a preview with memory that is to spare now. The video that comes meanwhile waits for this one frame at most.
    fn preview(&mut self, preview: PreviewJob) {
        let PreviewJob { open, latent, .. } = &preview;
        let _turn = self.core.turn();
        if open.job().is_over() {
            return;
        }
        // A video that waits goes first, and a later preview shows more.
        if self.latents.depth() > 0 {
            return preview.open.postpone();
        }
        let bytes = self.decoder.working_bytes(latent);
        let Some(lease) = self.ledger.try_reserve_unawaited(MemoryUse::Working, bytes) else {
            return preview.open.postpone();
        };
        let decoding = timeline::preview(open.job().id().0);
        let (mut picture, decoder) = (None, &mut self.decoder);
        let outcome = self.core.compute(|| {
            decoder.decode(latent, &mut |chunk| {
                picture = Some(chunk);
                ControlFlow::Break(())
            })
        });
        self.decoder.rest();
        drop((lease, decoding));
        match (outcome, picture) {
            (Ok(()), Some(picture)) => preview.show(picture),
            (Ok(()), None) => {}
            (Err(cause), _) => {
                tracing::warn!(job = %open.job().id(), %cause, "a preview failed");
                preview.open.failed();
            }
        }
    }
}

impl<V: DecodeLatent> Stage for VaeDecoder<V> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        while let Some(input) = self.latents.recv() {
            match input {
                DecoderInput::Video(job) => {
                    self.core.metrics().items_in(1);
                    self.decode(job);
                }
                DecoderInput::Preview(preview) => self.preview(preview),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::channel::bounded;
    use crate::compute::Computed;
    use crate::job::{ConsumerLimits, JobTicket};
    use crate::messages::{JobId, Latent, RgbFrame, VideoChunk, one_pixel_request};
    use crate::preview::PreviewPlaces;
    use crate::slots::Slots;

    /// Takes a hundred bytes to emit one frame.
    struct OneFrame;

    impl DecodeLatent for OneFrame {
        fn working_bytes(&self, _: &Latent) -> u64 {
            100
        }

        fn decode(
            &mut self,
            _: &Latent,
            emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
        ) -> Computed<()> {
            let _ = emit(VideoChunk::new(0, 1, 1, vec![RgbFrame(vec![0; 3])])?);
            Ok(())
        }
    }

    fn ticket() -> (JobTicket, crate::JobEvents) {
        let request = one_pixel_request(0);
        let limits = ConsumerLimits { chunk_backlog: 1, patience: Duration::MAX };
        JobTicket::open(JobId(1), request, limits)
    }

    fn latent() -> Latent {
        let format_version = Latent::FORMAT_VERSION;
        Latent { format_version, shape: [1; 4], values: vec![0.0], num_frames: 1 }
    }

    /// What the consumer gets when it wishes for a preview and `others` are held of 150 bytes beside it.
    fn previewed(others: u64, a_video_waits: bool) -> usize {
        let ledger = MemoryLedger::new(150);
        let held = ledger.try_reserve(MemoryUse::Working, others).unwrap();
        let (sender, latents) = bounded("latents", 2);
        let (ticket, events) = ticket();
        events.request_preview();
        let open = PreviewPlaces::new().take_wish(ticket.context()).unwrap();
        let preview = PreviewJob { open, done: 1, latent: latent() };
        assert!(sender.send(DecoderInput::Preview(preview)).is_ok());
        if a_video_waits {
            let slot = Slots::new(1).acquire(None).unwrap();
            let video = DecodeJob { ticket: self::ticket().0, slot, latent: latent() };
            assert!(sender.send(DecoderInput::Video(video)).is_ok());
        }
        drop(sender);
        VaeDecoder::new(OneFrame, latents, ledger.clone()).run();
        drop(held);
        assert_eq!(ledger.observe().total_bytes(), 0);
        let still_wished = PreviewPlaces::new().take_wish(ticket.context()).is_some();
        drop(ticket);
        let previews = events.iter().filter(|event| matches!(event, JobEvent::Preview { .. }));
        let previews = previews.count();
        assert_eq!(still_wished, previews == 0, "a wish is fulfilled, or stays open");
        previews
    }

    #[test]
    fn a_preview_takes_only_memory_and_time_that_are_to_spare() {
        assert_eq!(previewed(50, false), 1);
        assert_eq!(previewed(51, false), 0, "there was no memory");
        assert_eq!(previewed(50, true), 0, "a video waited");
    }
}
