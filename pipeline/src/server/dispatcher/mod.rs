//! Takes videos out of the queue, has the graph make them, and notes what came of it.
//!
//! # Invariants
//! - A video that was accepted is being made until the record says that it is over; a process that ends in between leaves
//!   it as it is, and the next one goes on from what was saved.
//! - The record says `completed` only after the files are in place and synced; its saved work is removed after that.
//! - Whatever is changed by two at once (finished and cancelled, say) is decided by the record: the first one counts.

mod failure;
mod job;
mod retention;
mod work;
mod writer;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use self::job::JobEnd;
use super::clock;
use super::folder::DataFolder;
use super::ids::VideoId;
use super::live::{LiveVideos, Progress};
use super::store::{Store, StoreError, VideoRecord};
use crate::PipelineHandle;
use crate::sidecar::{Compute, ModelIdentity};

pub use failure::cancelled;
pub use retention::Retention;

/// How long to wait after the database refused, before it is asked again. Our choice: a disk that is full stays so for a
/// while.
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
        let begun = self.store.begun().await?;
        if !begun.is_empty() {
            tracing::info!(videos = begun.len(), "going on with what an earlier process began");
        }
        let dispatcher = Rc::new(self);
        let end = dispatcher.clone().dispatch(begun.into()).await;
        // Everything that was done is saved when this returns; the jobs' own ends come through their tasks.
        dispatcher.pipeline.stop().await;
        Ok(end)
    }

    async fn dispatch(self: Rc<Self>, mut begun: VecDeque<VideoRecord>) -> DispatchEnd {
        let mut running: JoinSet<JobEnd> = JoinSet::new();
        let mut tidy = tokio::time::interval(retention::INTERVAL);
        let mut end = DispatchEnd::Stopped;
        while !self.live.is_stopping() {
            while running.len() < self.in_graph
                && let Some(record) = self.next(&mut begun).await
            {
                running.spawn_local(self.clone().make(record));
            }
            tokio::select! {
                () = self.live.woken() => {}
                () = self.live.stopping() => {}
                _ = tidy.tick() => self.expire().await,
                Some(ended) = running.join_next() => match ended {
                    Ok(JobEnd::Made) => self.expire().await,
                    Ok(JobEnd::GraphDied) => {
                        end = DispatchEnd::GraphDied;
                        self.live.stop();
                    }
                    Ok(_) => {}
                    Err(cause) => {
                        tracing::error!(%cause, "following a video failed; it is begun again at the next start");
                    }
                },
            }
        }
        self.pipeline.stop().await;
        while running.join_next().await.is_some() {}
        end
    }

    /// The next video to make, if one waits.
    async fn next(&self, begun: &mut VecDeque<VideoRecord>) -> Option<VideoRecord> {
        if let Some(record) = begun.pop_front() {
            return Some(record);
        }
        match self.store.claim().await {
            Ok(claimed) => claimed,
            Err(cause) => {
                tracing::error!(%cause, "no video can be taken out of the queue");
                sleep(PAUSE_AFTER_REFUSAL).await;
                // So that it is tried again although nothing else happens.
                self.live.changed();
                None
            }
        }
    }

    async fn make(self: Rc<Self>, record: VideoRecord) -> JobEnd {
        let id = record.id;
        let steps = record.request.sampling.steps;
        let mut live = self.live.enter(id, Progress::begin(steps, record.request.num_frames));
        self.live.changed();
        let end = job::make(&self, &record, &mut live).await;
        // The record is changed already, so that whoever sees the video leave the list finds its end there.
        drop(live);
        self.live.changed();
        end
    }

    /// Notes something down, and tries again as long as the disk refuses and the server runs.
    async fn note<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        id: VideoId,
        write: impl Fn() -> F,
    ) -> Option<T> {
        loop {
            match write().await {
                Ok(written) => return Some(written),
                Err(cause) => tracing::error!(%id, %cause, "what came of a video cannot be noted"),
            }
            if self.live.is_stopping() {
                return None;
            }
            sleep(PAUSE_AFTER_REFUSAL).await;
        }
    }

    async fn expire(&self) {
        match self.store.expire(self.retention.before(clock::now()), self.retention.bytes).await {
            Ok(gone) => {
                if !gone.is_empty() {
                    tracing::info!(videos = gone.len(), "videos were kept for long enough");
                    self.live.changed();
                }
                gone.into_iter().for_each(|id| self.folder.remove(id));
            }
            Err(cause) => tracing::error!(%cause, "old videos cannot be removed"),
        }
    }
}
