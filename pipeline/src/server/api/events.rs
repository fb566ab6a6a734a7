//! A video's progress as server-sent events.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use utoipa::ToSchema;

use super::caller::{Caller, NamedVideo};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::state::ApiState;
use super::streams::StreamPlace;
use super::video_object::Video;
use crate::server::dispatcher::cancelled;
use crate::server::ids::VideoId;
use crate::server::live::{Progress, Stage};
use crate::server::store::{Owner, StoreError, VideoRecord, VideoStatus};

/// Events that may wait for a reader; the latest state is all that counts, so few are enough.
const WAITING: usize = 4;

/// How long a reader may take nothing before it is dropped. Our choice: longer than a bad network's pauses.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to write something although nothing happens, so that connections that are gone are noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The shortest time between two events of a stream: faster than anybody reads is work for nothing.
const PACE: Duration = Duration::from_millis(100);

/// What a `progress` event holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ProgressEvent {
    /// The video.
    #[schema(value_type = String)]
    id: VideoId,
    /// Where it is.
    status: VideoStatus,
    /// How far it is, of 100.
    progress: u8,
    /// Which part of the work it is in.
    stage: Stage,
    /// Denoising steps that are done.
    step: usize,
    /// Denoising steps that there will be at most.
    steps: usize,
    /// How many videos go before it, while it waits.
    #[schema(required)]
    queue_position: Option<u64>,
}

/// One of the events of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VideoEvent {
    /// `progress`, and at the end `completed` or `failed`.
    #[schema(pattern = "^(progress|completed|failed)$")]
    event: &'static str,
    /// JSON: a `ProgressEvent`, and at the end a `Video`.
    data: String,
}

/// Progress as it happens: `progress` events, the first at once, and at the end one of `completed` or `failed` that
/// holds the video.
#[utoipa::path(
    get, path = "/v1/videos/{id}/events", tag = "videos", operation_id = "followVideo",
    params(("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video")),
    responses(
        (status = 200, description = "Server-sent events", body = VideoEvent, content_type = "text/event-stream"),
        (status = "4XX", description = "There is no such video", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn events(
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    let record = state.store.get(&caller.0, id).await?.ok_or_else(ApiError::no_such_video)?;
    let place = state.event_streams.take(&caller.0)?;
    let (events, waiting) = mpsc::channel(WAITING);
    let follower = Follower { id, owner: caller.0, state, events, _place: place };
    actix_web::rt::spawn(follower.follow(record));
    let body = stream::unfold(waiting, |mut waiting| async {
        let event: Bytes = waiting.recv().await?;
        Some((Ok::<_, ApiError>(event), waiting))
    });
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream").insert_header((CACHE_CONTROL, "no-store"));
    // Proxies would keep events back otherwise.
    response.insert_header(("X-Accel-Buffering", "no"));
    Ok(response.streaming(body))
}

/// Follows a video for one reader.
struct Follower {
    id: VideoId,
    owner: Owner,
    state: Data<ApiState>,
    events: mpsc::Sender<Bytes>,
    _place: StreamPlace,
}

/// The reader is gone, or slower than it may be.
struct ReaderLost;

impl Follower {
    async fn follow(self, first: VideoRecord) {
        let mut changes = self.state.live.changes();
        let (mut record, mut told, mut progress) = (first, None, None);
        loop {
            progress = progress.or_else(|| self.state.live.watch(self.id));
            if let Some(progress) = &mut progress {
                // What is told now is at least as new.
                progress.mark_unchanged();
            }
            match self.tell(&record, &mut told).await {
                Ok(is_last) if !is_last => {}
                Ok(_) | Err(ReaderLost) => return,
            }
            sleep(PACE).await;
            if self.something_happens(&mut changes, &mut progress).await.is_err() {
                return;
            }
            if changes.has_changed().unwrap_or(false) {
                changes.mark_unchanged();
                record = match self.state.store.get(&self.owner, self.id).await {
                    Ok(Some(record)) => record,
                    Ok(None) => deleted(record),
                    Err(_) => return,
                };
            }
        }
    }

    /// Waits for progress or a change of the queue; now and then sends a sign of life.
    ///
    /// # Errors
    /// The reader is gone, or the server stops.
    async fn something_happens(
        &self,
        changes: &mut watch::Receiver<u64>,
        progress: &mut Option<watch::Receiver<Progress>>,
    ) -> Result<(), ReaderLost> {
        loop {
            let progressed = async {
                match progress.as_mut() {
                    Some(progress) => progress.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            // A look that leaves the change to be seen by the caller.
            let queued = async { changes.clone().changed().await.is_ok() };
            tokio::select! {
                is_there = progressed => {
                    if !is_there {
                        // The video has left the graph; what became of it comes as a change of the queue.
                        *progress = None;
                    }
                    return Ok(());
                }
                _ = queued => return Ok(()),
                () = self.state.live.stopping() => return Err(ReaderLost),
                () = self.events.closed() => return Err(ReaderLost),
                () = sleep(HEARTBEAT) => self.send(Bytes::from_static(b": still here\n\n")).await?,
            }
        }
    }

    /// Tells what is new; `true` when it was the last event.
    async fn tell(
        &self,
        record: &VideoRecord,
        told: &mut Option<ProgressEvent>,
    ) -> Result<bool, ReaderLost> {
        let (status, id) = (record.status, record.id);
        if status.is_over() {
            // The first event is always the state, also of what is over.
            if told.is_none() {
                self.send(event("progress", &self.over(record))).await?;
            }
            let video = Video::of(record.clone(), None, &self.state);
            self.send(event(status.as_str(), &video)).await?;
            return Ok(true);
        }
        let steps = record.request.sampling.steps;
        let live = match self.state.live.progress(id) {
            Some(live) => live,
            // It has left the graph, and the record will say what became of it; until then it is no less far than before.
            None if status == VideoStatus::InProgress && told.is_some() => return Ok(false),
            None => Progress::begin(steps, record.request.num_frames),
        };
        let position = match status {
            VideoStatus::Queued => self.position().await.map_err(|_| ReaderLost)?,
            _ => None,
        };
        let now = ProgressEvent {
            id,
            status,
            progress: live.percent(),
            stage: live.stage,
            step: live.step,
            steps: live.steps,
            queue_position: position,
        };
        if told.as_ref() != Some(&now) {
            self.send(event("progress", &now)).await?;
            *told = Some(now);
        }
        Ok(false)
    }

    fn over(&self, record: &VideoRecord) -> ProgressEvent {
        let steps = record.request.sampling.steps;
        let is_there = record.status == VideoStatus::Completed;
        ProgressEvent {
            id: record.id,
            status: record.status,
            progress: if is_there { 100 } else { 0 },
            stage: if is_there { Stage::Decoding } else { Stage::Queued },
            step: if is_there { steps } else { 0 },
            steps,
            queue_position: None,
        }
    }

    async fn position(&self) -> Result<Option<u64>, StoreError> {
        self.state.store.position(self.id).await
    }

    async fn send(&self, event: Bytes) -> Result<(), ReaderLost> {
        match timeout(PATIENCE, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReaderLost),
        }
    }
}

/// What watchers of a video that was deleted are told.
fn deleted(record: VideoRecord) -> VideoRecord {
    let error = Some(record.error.clone().unwrap_or_else(cancelled));
    VideoRecord { status: VideoStatus::Failed, error, ..record }
}

fn event(event: &'static str, data: &impl Serialize) -> Bytes {
    // These types have a form in JSON.
    let data = serde_json::to_string(data).unwrap_or_default();
    let VideoEvent { event, data } = VideoEvent { event, data };
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}
