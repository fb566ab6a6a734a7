//! Takes videos out of the queue, has the graph make them, and notes what came of it.
//!
//! # Invariants
//! - A video that was accepted is being made until the record says that it is over; a process that ends in between leaves
//!   it as it is, and the next one goes on from what was saved.
//! - The record says `completed` only after the files are in place and synced; its saved work is removed after that.
//! - No video fails for what the server lacks (a full disk, weights that are gone, a device): it stays as it is and is tried
//!   again, after pauses that grow. Only one at which the device fails while it makes others is to blame itself.
//! - Whatever is changed by two at once (finished and cancelled, say) is decided by the record: the first one counts.

mod device_failures;
mod failure;
mod job;
mod line;
mod pause;
mod retention;
mod start;
mod work;
mod writer;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sora_telemetry::PromptOutcome;
use tokio::task::{Id, JoinSet, spawn_blocking};
use tokio::time::{sleep, sleep_until};

use self::device_failures::DeviceFailures;
use self::failure::Fault;
use self::job::JobEnd;
use self::line::{Line, Turn};
use self::pause::Pause;
use super::clock;
use super::folder::DataFolder;
use super::ids::VideoId;
use super::live::{LiveVideos, Part, Progress};
use super::meter::count_video;
use super::store::{Store, StoreError, ToMake, VideoError, VideoRecord};
use crate::PipelineHandle;
use crate::sidecar::{Compute, ModelIdentity};

pub use failure::cancelled;
pub use retention::Retention;
use retention::SteadyClock;

/// How long to wait after the database refused to note what came of a video, before it is asked again. Our choice: a disk
/// that is full stays so for a while.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// What the dispatcher works with.
pub struct Dispatcher {
    /// The record of all videos.
    pub store: Store,
    /// Where progress is told.
    pub live: Arc<LiveVideos>,
    /// Where files go.
    pub folder: Arc<DataFolder>,
    /// The graph.
    pub pipeline: PipelineHandle,
    /// The weights.
    pub model: ModelIdentity,
    /// Device and dtype.
    pub compute: Compute,
    /// How many videos to hand to the graph at a time: enough to keep its stages busy, and no more, so that a video of
    /// high priority that comes later need not wait for many.
    pub in_graph: usize,
    /// How long videos are kept.
    pub retention: Retention,
}

/// Why the dispatcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchEnd {
    /// It was asked to.
    Stopped,
    /// The graph can work no more.
    GraphDied,
}

impl Dispatcher {
    /// Works until the server stops. Then what is under way is saved, and all threads of the graph have ended.
    ///
    /// # Errors
    /// The database cannot say what an earlier process began.
    pub async fn run(self) -> Result<DispatchEnd, StoreError> {
        let clock = SteadyClock::new(clock::now());
        self.live.set_trouble(Part::Making, None);
        let ToMake { videos, unreadable } = self.store.begun(clock::now()).await?;
        self.have_failed(unreadable).await;
        if !videos.is_empty() {
            tracing::info!(videos = videos.len(), "going on with what an earlier process began");
        }
        let dispatcher = Rc::new(self);
        let end = dispatcher.clone().dispatch(Line::new(videos), clock).await;
        // Everything that was done is saved when this returns; the jobs' own ends come through their tasks.
        dispatcher.pipeline.stop().await;
        if end == DispatchEnd::Stopped
            && let Err(cause) = dispatcher.store.ended_in_order().await
        {
            tracing::warn!(%cause, "that the server ended in order cannot be noted");
        }
        Ok(end)
    }

    async fn dispatch(self: Rc<Self>, mut line: Line, mut clock: SteadyClock) -> DispatchEnd {
        let mut running: JoinSet<(VideoRecord, JobEnd)> = JoinSet::new();
        // Whose task is whose, for one that panics.
        let mut names: HashMap<Id, (VideoId, i64)> = HashMap::new();
        let mut tidy = tokio::time::interval(retention::INTERVAL);
        let mut device_failures = DeviceFailures::default();
        let (mut pause, mut end) = (Pause::default(), DispatchEnd::Stopped);
        while !self.live.is_stopping() {
            while running.len() < self.in_graph && pause.until().is_none() {
                match self.next(&mut line, running.len()).await {
                    Ok(Some(record)) => {
                        let name = (record.id, record.created_at);
                        names.insert(running.spawn_local(self.clone().make(record)).id(), name);
                    }
                    Ok(None) => break,
                    Err(cause) => {
                        tracing::error!(%cause, "no video can be taken up");
                        self.hold(Fault::Disk, &mut pause);
                    }
                }
            }
            tokio::select! {
                () = self.live.woken() => {}
                () = self.live.stopping() => {}
                _ = tidy.tick() => {
                    let now = match clock::running() {
                        Some(running) => clock.trusted(&self.store, running, clock::now()).await,
                        None => None,
                    };
                    self.expire(now).await;
                }
                () = over(pause.until()) => {
                    pause.end();
                    self.live.set_trouble(Part::Making, None);
                }
                Some(ended) = running.join_next_with_id() => match ended {
                    Ok((task, (record, ended))) => {
                        names.remove(&task);
                        match ended {
                            JobEnd::Made => {
                                pause.forget();
                                line.made();
                                device_failures.made(record.id);
                                self.expire(None).await;
                            }
                            JobEnd::Held(Fault::Device)
                                if device_failures.is_of_video(record.id) =>
                            {
                                device_failures.over(record.id);
                                let told = failure::refused_by_device();
                                self.give_up(record.id, record.created_at, told).await;
                            }
                            JobEnd::Held(fault) => {
                                self.hold(fault, &mut pause);
                                line.put_back(record);
                            }
                            JobEnd::GraphDied => {
                                end = DispatchEnd::GraphDied;
                                self.live.stop();
                            }
                            JobEnd::Over => device_failures.over(record.id),
                            JobEnd::LeftForLater => {}
                        }
                    }
                    Err(panicked) => {
                        if let Some((id, created_at)) = names.remove(&panicked.id()) {
                            self.give_up(id, created_at, failure::of_panic(id)).await;
                        }
                    }
                },
            }
        }
        self.pipeline.stop().await;
        while running.join_next().await.is_some() {}
        end
    }

    /// The next video to make, if one waits.
    ///
    /// # Errors
    /// The database refuses; then nothing is changed, and whoever was next still is.
    async fn next(
        &self,
        line: &mut Line,
        in_graph: usize,
    ) -> Result<Option<VideoRecord>, StoreError> {
        let mut is_queue_empty = false;
        loop {
            match line.next(in_graph, is_queue_empty) {
                Turn::Again(record) => return Ok(Some(record)),
                Turn::Begun(record) => {
                    // It must be known before anything can happen.
                    if let Err(cause) = self.store.taken_up(record.id).await {
                        line.put_back_begun(record);
                        return Err(cause);
                    }
                    return Ok(Some(record));
                }
                Turn::Crashed(record) => {
                    let (id, created_at) = (record.id, record.created_at);
                    match self.store.fail(id, failure::crashed(), clock::now()).await {
                        Ok(has_failed) => {
                            tracing::error!(%id, "a video ended each process that worked on it");
                            self.is_over(id, has_failed.then_some(created_at)).await;
                        }
                        Err(cause) => {
                            line.put_back_begun(record);
                            return Err(cause);
                        }
                    }
                }
                Turn::Wait => return Ok(None),
                Turn::Queue if is_queue_empty => return Ok(None),
                Turn::Queue => {
                    let ToMake { videos, unreadable } = self.store.claim(clock::now()).await?;
                    self.have_failed(unreadable).await;
                    if videos.is_some() {
                        return Ok(videos);
                    }
                    is_queue_empty = true;
                }
            }
        }
    }

    /// Fails a video that is not in the graph.
    async fn give_up(&self, id: VideoId, created_at: i64, error: VideoError) {
        let fail = || self.store.fail(id, error.clone(), clock::now());
        if let Some(has_failed) = self.note(id, fail).await {
            self.is_over(id, has_failed.then_some(created_at)).await;
        }
    }

    /// Does what follows when videos that are not in the graph have failed.
    async fn have_failed(&self, videos: Vec<VideoRecord>) {
        for VideoRecord { id, created_at, .. } in videos {
            self.is_over(id, Some(created_at)).await;
        }
    }

    /// Tells that a video is over, and removes what is left of it; counts it as failed where it is told from when on it
    /// was asked for.
    async fn is_over(&self, id: VideoId, failed_since: Option<i64>) {
        if let Some(created_at) = failed_since {
            count_video(PromptOutcome::Failed, created_at);
        }
        let folder = self.folder.clone();
        // What is left of the files is found at the next start.
        let _ = spawn_blocking(move || folder.remove(id)).await;
        self.live.changed();
    }

    /// Begins a pause, and tells the log, and those who ask, that videos have to wait.
    fn hold(&self, fault: Fault, pause: &mut Pause) {
        pause.begin(Instant::now());
        let seconds = pause.until().map_or(0, |until| (until - Instant::now()).as_secs() + 1);
        tracing::error!(?fault, seconds, "no video can be made now; trying again later");
        self.live.set_trouble(Part::Making, Some(fault.as_str()));
    }

    async fn make(self: Rc<Self>, record: VideoRecord) -> (VideoRecord, JobEnd) {
        let id = record.id;
        let steps = record.request.sampling.steps;
        let mut live = self.live.enter(id, Progress::begin(steps, record.request.num_frames));
        self.live.changed();
        let end = job::make(&self, &record, &mut live).await;
        // The record is changed already, so that whoever sees the video leave the list finds its end there.
        drop(live);
        self.live.changed();
        (record, end)
    }

    /// Notes something down, and tries again as long as the disk refuses and the server runs.
    async fn note<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        id: VideoId,
        write: impl Fn() -> F,
    ) -> Option<T> {
        loop {
            match write().await {
                Ok(written) => {
                    self.live.set_trouble(Part::Noting, None);
                    return Some(written);
                }
                Err(cause) => {
                    tracing::error!(%id, %cause, "what came of a video cannot be noted");
                    self.live.set_trouble(Part::Noting, Some(Fault::Disk.as_str()));
                }
            }
            if self.live.is_stopping() {
                return None;
            }
            sleep(PAUSE_AFTER_REFUSAL).await;
        }
    }

    /// Removes what was kept for long enough; without the time of day, only what is more than may be kept.
    async fn expire(&self, now: Option<i64>) {
        let before = now.and_then(|now| self.retention.before(now));
        match self.store.expire(before, self.retention.bytes).await {
            Ok(gone) => {
                if !gone.is_empty() {
                    tracing::info!(videos = gone.len(), "videos were kept for long enough");
                    self.live.changed();
                }
                let folder = self.folder.clone();
                let remove = move || gone.into_iter().for_each(|id| folder.remove(id));
                let _ = spawn_blocking(remove).await;
            }
            Err(cause) => tracing::error!(%cause, "old videos cannot be removed"),
        }
    }
}

/// Completes at that moment, or never.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
