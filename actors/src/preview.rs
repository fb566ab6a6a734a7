//! Previews: a frame of an unfinished video, decoded on the side when its consumer asks.
//!
//! A preview never delays what videos need, and never fails a job: whatever is in its way (the decoder at work, another
//! preview, no memory to spare) puts it off to a later step, and a consumer that has not taken the one before gets none.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sora_telemetry::{PreviewOutcome, record_preview};

use crate::job::JobContext;
use crate::messages::{JobEvent, Latent, VideoChunk};
use crate::slots::{SlotPermit, Slots};

/// Previews that are under way at a time, in the channel to the decoder or in its hands: that channel has so many places
/// more than there are token slots. Our choice: one, since the next is of later steps and so of more worth.
pub const PREVIEWS_UNDER_WAY: usize = 1;

const NONE: u8 = 0;
const WANTED: u8 = 1;
const UNDER_WAY: u8 = 2;

/// A job's wish for a preview: at most one at a time. One that is open when the job is gone was skipped.
#[derive(Default)]
pub(crate) struct PreviewWish {
    state: AtomicU8,
}

impl PreviewWish {
    fn express(&self) {
        // One that is wanted or under way already is this one.
        let _ = self.state.compare_exchange(NONE, WANTED, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_expressed(&self) -> bool {
        self.state.load(Ordering::Acquire) == WANTED
    }

    fn take(&self) -> bool {
        let taken =
            self.state.compare_exchange(WANTED, UNDER_WAY, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok()
    }

    fn end(&self) {
        self.state.store(NONE, Ordering::Release);
    }

    /// It is not fulfilled yet.
    fn put_back(&self) {
        self.state.store(WANTED, Ordering::Release);
    }
}

impl Drop for PreviewWish {
    fn drop(&mut self) {
        if self.is_expressed() {
            record_preview(PreviewOutcome::Skipped);
        }
    }
}

/// Asks for previews of one job, from any thread; it does not keep the job alive.
#[derive(Clone)]
pub struct PreviewRequester {
    job: Weak<JobContext>,
}

impl PreviewRequester {
    pub(crate) fn new(job: Weak<JobContext>) -> Self {
        Self { job }
    }

    /// Asks for a preview: [`JobEvent::Preview`] after one of the next steps, if nothing is in its way then. One wish at a
    /// time: as long as it is open, more of them change nothing.
    pub fn request(&self) {
        if let Some(job) = self.job.upgrade() {
            job.preview_wish().express();
        }
    }
}

/// The controller's side: at most [`PREVIEWS_UNDER_WAY`].
pub(crate) struct PreviewPlaces(Slots);

impl PreviewPlaces {
    pub(crate) fn new() -> Self {
        Self(Slots::new(PREVIEWS_UNDER_WAY))
    }

    /// The place for a preview that the job's consumer wishes for, if there is one. The wish stays open if there is none.
    pub(crate) fn take_wish(&self, job: &Arc<JobContext>) -> Option<OpenPreview> {
        if !job.preview_wish().is_expressed() {
            return None;
        }
        let place = self.0.acquire(Some(Duration::ZERO)).ok()?;
        let job = job.clone();
        job.preview_wish().take().then(|| OpenPreview {
            job,
            outcome: Some(PreviewOutcome::Skipped),
            ended: false,
            _place: place,
        })
    }
}

/// A preview under way. Dropping it ends it; then the consumer can ask for another one.
pub(crate) struct OpenPreview {
    job: Arc<JobContext>,
    /// None of a wish that is put off: it is not over.
    outcome: Option<PreviewOutcome>,
    /// Whether the wish is dealt with already.
    ended: bool,
    _place: SlotPermit,
}

impl OpenPreview {
    pub(crate) fn job(&self) -> &Arc<JobContext> {
        &self.job
    }

    /// It cannot be had now: the wish stays open for a later step.
    pub(crate) fn postpone(mut self) {
        self.outcome = None;
        self.job.preview_wish().put_back();
        self.ended = true;
    }

    pub(crate) fn failed(mut self) {
        self.outcome = Some(PreviewOutcome::Failed);
    }

    fn show(mut self, done: usize, picture: VideoChunk) {
        // Whoever receives it may ask for the next one at once.
        self.job.preview_wish().end();
        self.ended = true;
        if self.job.emit_preview(JobEvent::Preview { done, picture }) {
            self.outcome = Some(PreviewOutcome::Finished);
        }
    }
}

impl Drop for OpenPreview {
    fn drop(&mut self) {
        if !self.ended {
            self.job.preview_wish().end();
        }
        if let Some(outcome) = self.outcome {
            record_preview(outcome);
        }
    }
}

/// What the decoder is to show of an unfinished video.
pub struct PreviewJob {
    pub(crate) open: OpenPreview,
    /// Steps that were done.
    pub(crate) done: usize,
    /// What the video would be if it were finished at once, of its first latent frame.
    pub(crate) latent: Latent,
}

impl PreviewJob {
    /// Hands the picture to the consumer.
    pub(crate) fn show(self, picture: VideoChunk) {
        self.open.show(self.done, picture);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use metrics_exporter_prometheus::PrometheusBuilder;
    use sora_telemetry::names::PREVIEWS;
    use sora_telemetry::samples::samples;

    use super::*;
    use crate::job::{ConsumerLimits, JobTicket};
    use crate::messages::{JobId, RgbFrame, one_pixel_request};

    /// How many wishes were over after `work`, by outcome, for a job whose consumer wishes for a preview.
    fn outcomes(work: impl FnOnce(JobTicket)) -> Vec<(String, f64)> {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let limits = ConsumerLimits { chunk_backlog: 1, patience: Duration::MAX };
            let (ticket, events) = JobTicket::open(JobId(1), one_pixel_request(0), limits);
            events.request_preview();
            work(ticket);
        });
        let page = recorder.handle().render();
        let previews = samples(&page).filter(|sample| sample.name == PREVIEWS);
        previews.map(|sample| (sample.label("outcome").unwrap().into(), sample.value)).collect()
    }

    #[test]
    fn a_wish_counts_once_however_often_it_is_put_off() {
        let places = PreviewPlaces::new();
        let put_off = |ticket: &JobTicket| {
            for _ in 0..3 {
                places.take_wish(ticket.context()).unwrap().postpone();
            }
        };
        assert_eq!(outcomes(|ticket| put_off(&ticket)), [("skipped".to_string(), 1.0)]);
        let shown = outcomes(|ticket| {
            put_off(&ticket);
            let picture = VideoChunk::new(0, 1, 1, vec![RgbFrame(vec![0; 3])]).unwrap();
            places.take_wish(ticket.context()).unwrap().show(1, picture);
        });
        assert_eq!(shown, [("finished".to_string(), 1.0)]);
        let failed = outcomes(|ticket| {
            put_off(&ticket);
            places.take_wish(ticket.context()).unwrap().failed();
        });
        assert_eq!(failed, [("failed".to_string(), 1.0)]);
    }

    #[test]
    fn one_wish_is_open_at_a_time() {
        let wish = PreviewWish::default();
        assert!(!wish.take(), "nobody asked");
        wish.express();
        wish.express();
        assert!(wish.take());
        wish.express();
        assert!(!wish.is_expressed() && !wish.take(), "one is under way");
        wish.end();
        assert!(!wish.take(), "the wish was fulfilled");
        wish.express();
        assert!(wish.take());
        wish.put_back();
        assert!(wish.take(), "a wish that was put off is lost");
    }
}
