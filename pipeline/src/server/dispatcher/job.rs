//! One video in the graph: from the record to files, or to the reason why there are none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sora_actors::messages::{Caption, JobCheckpoint, JobEvent, JobSummary};
use sora_actors::{JobOrder, StageErrorKind};
use sora_models::guiding_texts::GuidingTexts;
use sora_telemetry::{PromptOutcome, record_first_step};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::failure::{Failure, Fault};
use super::start::{Start, StartSearch};
use super::work::WorkJournal;
use super::writer::VideoWriter;
use super::{Dispatcher, failure};
use crate::output::{OutputError, OutputTarget};
use crate::server::clock;
use crate::server::folder::VideoAsset;
use crate::server::live::{LiveHandle, Stage};
use crate::server::meter::count_video;
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
    /// The server could not make it, and would have to try again.
    Held(Fault),
    /// The server stops; the next one goes on.
    LeftForLater,
    /// The graph can work no more; the next server goes on.
    GraphDied,
}

/// How work on a video ended, before that is noted down.
enum WorkEnd {
    /// With the video's SHA-256.
    Made(String),
    Failed(VideoError),
    Held(Fault),
    GivenUp,
    LeftForLater,
    GraphDied,
}

impl From<Failure> for WorkEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OfVideo(error) => Self::Failed(error),
            Failure::OfServer(fault) => Self::Held(fault),
        }
    }
}

/// Makes a video and notes down what came of it. Whatever waits for the disk does so on a thread for that.
pub(super) async fn make(
    dispatcher: &Dispatcher,
    record: &VideoRecord,
    live: &mut LiveHandle<'_>,
) -> JobEnd {
    let id = record.id;
    // Whoever cancelled between the claim and the list of live videos did not find it there.
    let is_wanted = dispatcher.note(id, || dispatcher.store.is_in_progress(id)).await;
    let path = dispatcher.folder.path(id, VideoAsset::Video);
    let (model, compute) = (dispatcher.model.clone(), dispatcher.compute.clone());
    let journal = OutputTarget::new(&path)
        .map(|target| Arc::new(WorkJournal::new(target.saved_job(), model, compute)));
    let end = match (&journal, is_wanted) {
        (_, None) => WorkEnd::LeftForLater,
        (_, Some(false)) => WorkEnd::GivenUp,
        (Ok(journal), Some(true)) => work(dispatcher, record, live, journal).await,
        (Err(cause), Some(true)) => failure::of_writing(id, cause).into(),
    };
    let journal = journal.ok();
    let is_made = match end {
        WorkEnd::Made(sha256) => {
            let folder = dispatcher.folder.clone();
            let bytes = blocking(move || folder.bytes_of(id)).await.unwrap_or_default();
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
            match dispatcher.note(id, fail).await {
                Some(true) => count_video(PromptOutcome::Failed, record.created_at),
                Some(false) => {}
                None => return JobEnd::LeftForLater,
            }
            false
        }
        WorkEnd::Held(fault) => {
            // What this run saved stays; the next run's saves must not be replaced by it.
            blocking(move || journal.iter().for_each(|journal| journal.close())).await;
            return JobEnd::Held(fault);
        }
        WorkEnd::GivenUp => false,
        WorkEnd::LeftForLater => return JobEnd::LeftForLater,
        WorkEnd::GraphDied => return JobEnd::GraphDied,
    };
    let folder = dispatcher.folder.clone();
    blocking(move || {
        journal.iter().for_each(|journal| journal.remove());
        if !is_made {
            folder.remove(id);
        }
    })
    .await;
    if is_made {
        count_video(PromptOutcome::Finished, record.created_at);
        tracing::info!(%id, "a video is finished");
        return JobEnd::Made;
    }
    JobEnd::Over
}

/// Does what waits for the disk where that holds up nobody; `None` when it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}

async fn work(
    dispatcher: &Dispatcher,
    record: &VideoRecord,
    live: &mut LiveHandle<'_>,
    journal: &Arc<WorkJournal>,
) -> WorkEnd {
    let search = StartSearch {
        id: record.id,
        request: record.request.clone(),
        folder: dispatcher.folder.clone(),
        model: dispatcher.model.clone(),
        compute: dispatcher.compute.clone(),
    };
    let checkpoint = match blocking(|| search.find()).await {
        // The process ended between the last file and the record.
        Some(Start::Finished(sha256)) => return WorkEnd::Made(sha256),
        Some(Start::At(checkpoint)) => Some(checkpoint),
        Some(Start::Afresh) => None,
        Some(Start::Unreadable) => return WorkEnd::Held(Fault::Disk),
        None => return WorkEnd::Failed(failure::of_panic(record.id)),
    };
    let order = match &checkpoint {
        Some(checkpoint) => {
            journal.goes_on_from(checkpoint);
            JobOrder::resume(checkpoint.clone())
        }
        None => JobOrder::from(record.request.clone()),
    };
    // What became of a video is counted here, from when it was accepted.
    let order = order.journaled(journal.clone()).uncounted();
    let job = loop {
        if dispatcher.live.is_stopping() {
            return WorkEnd::LeftForLater;
        }
        match dispatcher.pipeline.submit(order.clone()).await {
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
        has_stepped: checkpoint.as_deref().is_some_and(|checkpoint| checkpoint.steps_done().0 > 0),
        writer: None,
        write_seconds: 0.0,
    };
    let mut is_cleared = false;
    loop {
        let event = tokio::select! {
            event = job.events.recv_async() => event,
            // Dropping the job's events cancels it, and dropping the writer removes what it wrote.
            () = live.given_up() => return WorkEnd::GivenUp,
        };
        let Ok(event) = event else {
            if dispatcher.live.is_stopping() {
                return WorkEnd::LeftForLater;
            }
            tracing::error!(id = %record.id, "the graph forgot a video");
            return WorkEnd::GraphDied;
        };
        if !is_cleared && journal.has_progressed() {
            is_cleared = true;
            if let Err(cause) = dispatcher.store.progressed(record.id).await {
                // It only stays suspected for longer.
                tracing::warn!(id = %record.id, %cause, "that a video makes progress cannot be noted");
            }
        }
        if let Some(end) = follower.take(&job, event, live).await {
            return end;
        }
    }
}

/// Follows one job's events.
struct Follower<'a> {
    dispatcher: &'a Dispatcher,
    record: &'a VideoRecord,
    captions: GuidingTexts<Caption>,
    /// Whether a step was done, in whichever process.
    has_stepped: bool,
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
            JobEvent::Step { index, leapt, coasted, steps, .. } => {
                if !std::mem::replace(&mut self.has_stepped, true) {
                    record_first_step(clock::since(self.record.created_at));
                }
                live.update(|progress| {
                    let done = if leapt { steps } else { index + 1 + coasted };
                    (progress.stage, progress.step) = (Stage::Denoising, done);
                });
            }
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
                        return Some(failure::of_writing(id, &cause).into());
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
            JobEvent::Failed(cause) => return Some(failure::of_stage(id, &cause).into()),
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
            Ok(Ok(sha256)) => WorkEnd::Made(sha256),
            Ok(Err(cause)) => failure::of_writing(id, &cause).into(),
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
