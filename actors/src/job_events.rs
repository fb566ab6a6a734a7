//! The consumer's end of a job.

use std::sync::Weak;

use crate::job::JobContext;
use crate::messages::JobEvent;
use crate::preview::PreviewRequester;
use crate::slots::SlotPermit;

/// An event on its way to the consumer; a chunk or a preview occupies a place in the backlog until it is taken.
pub(crate) struct Delivery {
    event: JobEvent,
    _place: Option<SlotPermit>,
}

impl Delivery {
    pub(crate) fn new(event: JobEvent) -> Self {
        Self { event, _place: None }
    }

    pub(crate) fn holding_place(event: JobEvent, place: SlotPermit) -> Self {
        Self { event, _place: Some(place) }
    }

    pub(crate) fn event(&self) -> &JobEvent {
        &self.event
    }
}

/// No more events: the last one was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job is over and all its events were received")]
pub struct NoMoreEvents;

/// Receives the events of one job, in order. Dropping it cancels the job.
pub struct JobEvents {
    deliveries: flume::Receiver<Delivery>,
    job: Weak<JobContext>,
}

impl JobEvents {
    pub(crate) fn new(deliveries: flume::Receiver<Delivery>, job: Weak<JobContext>) -> Self {
        Self { deliveries, job }
    }

    /// The next event, waiting for it.
    ///
    /// # Errors
    /// The last event was received before.
    pub fn recv(&self) -> Result<JobEvent, NoMoreEvents> {
        self.deliveries.recv().map(|delivery| delivery.event).map_err(|_| NoMoreEvents)
    }

    /// The next event, awaiting it.
    ///
    /// # Errors
    /// The last event was received before.
    pub async fn recv_async(&self) -> Result<JobEvent, NoMoreEvents> {
        let delivery = self.deliveries.recv_async().await;
        delivery.map(|delivery| delivery.event).map_err(|_| NoMoreEvents)
    }

    /// The next event if one waits.
    pub fn try_recv(&self) -> Option<JobEvent> {
        self.deliveries.try_recv().ok().map(|delivery| delivery.event)
    }

    /// Asks for a preview; see [`PreviewRequester::request`].
    pub fn request_preview(&self) {
        self.preview_requester().request();
    }

    /// What asks for previews elsewhere than where events are received.
    pub fn preview_requester(&self) -> PreviewRequester {
        PreviewRequester::new(self.job.clone())
    }

    /// What cancels the job elsewhere than where events are received.
    pub fn canceller(&self) -> JobCanceller {
        JobCanceller { job: self.job.clone() }
    }

    /// All events up to the last one, waiting for each.
    pub fn iter(&self) -> impl Iterator<Item = JobEvent> {
        std::iter::from_fn(|| self.recv().ok())
    }
}

/// Cancels one job, from any thread; it does not keep the job alive.
#[derive(Clone)]
pub struct JobCanceller {
    job: Weak<JobContext>,
}

impl JobCanceller {
    /// Ends the job at once, as its consumer sees it; `false` when it was over.
    pub fn cancel(&self) -> bool {
        self.job.upgrade().is_some_and(|job| job.cancel())
    }
}

impl Drop for JobEvents {
    fn drop(&mut self) {
        if let Some(job) = self.job.upgrade() {
            job.cancel();
        }
    }
}
