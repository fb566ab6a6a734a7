//! One video in the graph: from the record to files, or to the reason why there are none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sora_actors::messages::{Caption, JobCheckpoint, JobEvent, JobSummary};
use sora_actors::{JobOrder, StageErrorKind};
use sora_models::guiding_texts::GuidingTexts;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::work::WorkJournal;
use super::writer::{FinishedFile, VideoWriter};
use super::{Dispatcher, failure};
use crate::output::{Earlier, OutputError, OutputTarget};
use crate::saved_job::{SavedJob, SavedJobError};
use crate::server::clock;
use crate::server::folder::VideoAsset;
use crate::server::live::{LiveHandle, Stage};
use crate::server::store::{VideoError, VideoRecord};
use crate::sidecar::{SIDECAR_FORMAT, Sidecar, VideoFile, Work};
use crate::sinks::VideoFormat;
use crate::{Job, SubmitError};

/// How long to wait before the graph is asked again whether it has room.
const PAUSE_AT_FULL_GRAPH: Duration = Duration::from_millis(100);

/// What became of a video that was handed to the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobEnd {
    /// It is there.
    Made,
    /// It failed, or was cancelled or deleted.
    Over,
    /// The server stops; the next one goes on.
    LeftForLater,
    /// The graph can work no more; the next server goes on.
    GraphDied,
}

/// How work on a video ended, before that is noted down.
enum WorkEnd {
    Made(FinishedFile),
    Failed(VideoError),
    GivenUp,
    LeftForLater,
    GraphDied,
}

/// Makes a video and notes down what came of it.
pub(super) async fn make(
    dispatcher: &Dispatcher,
    record: &VideoRecord,
    live: &mut LiveHandle<'_>,
) -> JobEnd {
    let id = record.id;
    // Whoever cancelled between the claim and the list of live videos did not find it there.
    let is_wanted = dispatcher.note(id, || dispatcher.store.is_in_progress(id)).await;
    let path = dispatcher.folder.path(id, VideoAsset::Video);
    let journal = match OutputTarget::new(&path) {
        Ok(target) => Arc::new(WorkJournal::new(
            target.saved_job(),
            dispatcher.model.clone(),
            dispatcher.compute.clone(),
        )),
        Err(cause) => {
            let error = failure::of_writing(id, &cause);
            dispatcher.note(id, || dispatcher.store.fail(id, error.clone(), clock::now())).await;
            return JobEnd::Over;
        }
    };
    let end = match is_wanted {
        Some(true) => work(dispatcher, record, live, &journal).await,
        Some(false) => WorkEnd::GivenUp,
        None => WorkEnd::LeftForLater,
    };
    let is_made = match end {
        WorkEnd::Made(FinishedFile { sha256, bytes }) => {
            let complete = || {
                let at = clock::now();
                dispatcher.store.complete(id, sha256.clone(), bytes, at)
            };
            match dispatcher.note(id, complete).await {
                Some(is_made) => is_made,
                None => return JobEnd::LeftForLater,
            }
        }
        WorkEnd::Failed(error) => {
            let fail = || dispatcher.store.fail(id, error.clone(), clock::now());
            if dispatcher.note(id, fail).await.is_none() {
                return JobEnd::LeftForLater;
            }
            false
        }
        WorkEnd::GivenUp => false,
        WorkEnd::LeftForLater => return JobEnd::LeftForLater,
        WorkEnd::GraphDied => return JobEnd::GraphDied,
    };
    journal.close();
    if is_made {
        tracing::info!(%id, "a video is finished");
        return JobEnd::Made;
    }
    dispatcher.folder.remove(id);
    JobEnd::Over
}

async fn work(
    dispatcher: &Dispatcher,
    record: &VideoRecord,
    live: &mut LiveHandle<'_>,
    journal: &Arc<WorkJournal>,
) -> WorkEnd {
    let path = dispatcher.folder.path(record.id, VideoAsset::Video);
    let checkpoint = match earlier(dispatcher, record, &path) {
        // The process ended between the last file and the record.
        Start::Finished(file) => return WorkEnd::Made(file),
        Start::At(checkpoint) => Some(checkpoint),
        Start::Afresh => None,
    };
    let order = match &checkpoint {
        Some(checkpoint) => JobOrder::resume(checkpoint.clone()),
        None => JobOrder::from(record.request.clone()),
    };
    let job = loop {
        if dispatcher.live.is_stopping() {
            return WorkEnd::LeftForLater;
        }
        match dispatcher.pipeline.submit(order.clone().journaled(journal.clone())).await {
            Ok(job) => break job,
            Err(SubmitError::Full { .. }) => sleep(PAUSE_AT_FULL_GRAPH).await,
            Err(SubmitError::Closed { .. } | SubmitError::Gone)
                if dispatcher.live.is_stopping() =>
            {
                return WorkEnd::LeftForLater;
            }
            Err(SubmitError::Closed { .. } | SubmitError::Gone) => return WorkEnd::GraphDied,
            Err(cause) => return WorkEnd::Failed(failure::of_submission(record.id, &cause)),
        }
    };
    live.offer_pictures(job.events.preview_requester());
    let mut follower = Follower {
        dispatcher,
        record,
        captions: checkpoint.as_deref().map(JobCheckpoint::captions).unwrap_or_default(),
        writer: None,
        write_seconds: 0.0,
    };
    loop {
        let event = tokio::select! {
            event = job.events.recv_async() => event,
            // Dropping the job's events cancels it, and dropping the writer removes what it wrote.
            () = live.given_up() => return WorkEnd::GivenUp,
        };
        let Ok(event) = event else { return WorkEnd::LeftForLater };
        if let Some(end) = follower.take(&job, event, live).await {
            return end;
        }
    }
}

/// Where work on a video starts.
enum Start {
    Finished(FinishedFile),
    At(Arc<JobCheckpoint>),
    Afresh,
}

/// What an earlier process left of a video. What cannot be used counts for nothing: the seed is in the record, so the
/// same bytes come out.
fn earlier(dispatcher: &Dispatcher, record: &VideoRecord, path: &str) -> Start {
    let usable = |saved: &SavedJob| -> Result<bool, SavedJobError> {
        let path = Path::new(path);
        saved.check_model(&dispatcher.model, path)?;
        saved.check_compute(&dispatcher.compute, path)?;
        Ok(saved.checkpoint.request == record.request)
    };
    let Ok(target) = OutputTarget::new(path) else { return Start::Afresh };
    match target.earlier() {
        Ok(Earlier::Nothing) => Start::Afresh,
        Ok(Earlier::Finished(video)) => {
            let is_same = video.model.fingerprint == dispatcher.model.fingerprint
                && video.request == record.request;
            let has_pictures = [VideoAsset::Thumbnail, VideoAsset::Spritesheet]
                .iter()
                .all(|&asset| Path::new(&dispatcher.folder.path(record.id, asset)).exists());
            let file = FinishedFile::read(Path::new(path));
            file.ok().filter(|_| is_same && has_pictures).map_or(Start::Afresh, Start::Finished)
        }
        Ok(Earlier::Saved(saved)) if usable(&saved).unwrap_or(false) => {
            Start::At(Arc::new(saved.checkpoint))
        }
        Ok(Earlier::Saved(_)) => {
            tracing::warn!(id = %record.id, "saved work is of another request or model: beginning afresh");
            Start::Afresh
        }
        Err(cause) => {
            tracing::warn!(id = %record.id, %cause, "saved work cannot be used: beginning afresh");
            Start::Afresh
        }
    }
}

/// Follows one job's events.
struct Follower<'a> {
    dispatcher: &'a Dispatcher,
    record: &'a VideoRecord,
    captions: GuidingTexts<Caption>,
    writer: Option<VideoWriter>,
    write_seconds: f64,
}

impl Follower<'_> {
    /// Does what an event asks for; `Some` when it was the last one.
    async fn take(&mut self, job: &Job, event: JobEvent, live: &LiveHandle<'_>) -> Option<WorkEnd> {
        let id = self.record.id;
        match event {
            JobEvent::Queued { .. } => {}
            JobEvent::Embedding => live.update(|progress| progress.stage = Stage::Embedding),
            JobEvent::Embedded { caption: text, tokens, cut, negative, .. } => {
                self.captions = GuidingTexts { prompt: Caption { text, tokens, cut }, negative };
                live.update(|progress| progress.stage = Stage::Denoising);
            }
            JobEvent::Resumed { done, .. } => live.update(|progress| {
                (progress.stage, progress.step) = (Stage::Denoising, done);
            }),
            JobEvent::Step { index, leapt, coasted, steps, .. } => live.update(|progress| {
                let done = if leapt { steps } else { index + 1 + coasted };
                (progress.stage, progress.step) = (Stage::Denoising, done);
            }),
            JobEvent::Preview { picture, .. } => live.show(picture),
            JobEvent::Decoding => live.update(|progress| progress.stage = Stage::Decoding),
            JobEvent::Chunk(chunk) => {
                let frames = chunk.first_frame + chunk.frames.len();
                let (started, folder) = (Instant::now(), self.dispatcher.folder.clone());
                let (writer, format) = (self.writer.take(), VideoFormat::of(&self.record.request));
                let written = spawn_blocking(move || -> Result<VideoWriter, OutputError> {
                    let mut writer = match writer {
                        Some(writer) => writer,
                        None => VideoWriter::begin(&folder, id, format)?,
                    };
                    writer.write_chunk(&chunk)?;
                    Ok(writer)
                });
                match written.await {
                    Ok(Ok(writer)) => self.writer = Some(writer),
                    Ok(Err(cause)) => {
                        return Some(WorkEnd::Failed(failure::of_writing(id, &cause)));
                    }
                    Err(_) => return Some(WorkEnd::Failed(failure::of_panic(id))),
                }
                self.write_seconds += started.elapsed().as_secs_f64();
                live.update(|progress| progress.frames = frames);
            }
            JobEvent::Finished(summary) => return Some(self.complete(summary).await),
            JobEvent::Failed(cause) if cause.kind() == StageErrorKind::StageDied => {
                tracing::error!(%id, %cause, "a stage of the graph died");
                return Some(WorkEnd::GraphDied);
            }
            JobEvent::Failed(cause) => {
                return Some(WorkEnd::Failed(failure::of_stage(id, &cause)));
            }
            JobEvent::Cancelled if self.dispatcher.live.is_stopping() => {
                return Some(WorkEnd::LeftForLater);
            }
            JobEvent::Cancelled if live.is_given_up() => return Some(WorkEnd::GivenUp),
            JobEvent::Cancelled => {
                tracing::error!(%id, job = %job.id, "the graph gave a video up");
                return Some(WorkEnd::Failed(failure::cancelled()));
            }
        }
        None
    }

    async fn complete(&mut self, summary: JobSummary) -> WorkEnd {
        let id = self.record.id;
        let Some(writer) = self.writer.take() else {
            tracing::error!(%id, "the decoder gave no frames");
            return WorkEnd::Failed(VideoError::new("compute", "The decoder gave no frames."));
        };
        let sidecar = self.sidecar(summary);
        match spawn_blocking(move || writer.complete(&sidecar)).await {
            Ok(Ok(file)) => WorkEnd::Made(file),
            Ok(Err(cause)) => WorkEnd::Failed(failure::of_writing(id, &cause)),
            Err(_) => WorkEnd::Failed(failure::of_panic(id)),
        }
    }

    fn sidecar(&self, summary: JobSummary) -> Sidecar {
        let path = self.dispatcher.folder.path(self.record.id, VideoAsset::Video);
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let VideoFormat { width_px, height_px, .. } = VideoFormat::of(&self.record.request);
        Sidecar {
            format: SIDECAR_FORMAT,
            program_version: env!("CARGO_PKG_VERSION"),
            video: VideoFile { name, width_px, height_px },
            request: self.record.request.clone(),
            caption: self.captions.prompt.clone(),
            negative_caption: self.captions.negative.clone(),
            model: self.dispatcher.model.clone(),
            compute: self.dispatcher.compute.clone(),
            work: Work { summary, write_seconds: self.write_seconds },
        }
    }
}
