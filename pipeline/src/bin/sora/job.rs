//! One video: its events shown, its frames written.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use sora_actors::JobOrder;
use sora_actors::messages::{Caption, JobCheckpoint, JobEvent, JobSummary, VideoChunk};
use sora_models::bundle::ModelBundle;
use sora_models::guiding_texts::GuidingTexts;
use sora_pipeline::output::{OutputError, OutputTarget, PendingVideo, PreviewFile};
use sora_pipeline::saved_job::FileJournal;
use sora_pipeline::sidecar::{Compute, ModelIdentity, SIDECAR_FORMAT, Sidecar, VideoFile, Work};
use sora_pipeline::sinks::VideoFormat;
use sora_pipeline::{Job, SubmitError};
use sora_telemetry::timeline;
use tokio::task::spawn_blocking;

use crate::interrupt::Interrupt;
use crate::print::note;
use crate::report::{Failure, JobLabel, Report};

/// What became of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// It is in place.
    Written,
    /// It is not, and the user was told why.
    Failed,
    /// The user stopped it.
    Cancelled,
}

/// What all videos of a run share.
#[derive(Clone)]
pub struct RunFacts {
    /// The weights.
    pub model: ModelIdentity,
    /// Device and dtype.
    pub compute: Compute,
    /// Where to show events.
    pub report: Rc<dyn Report>,
}

impl RunFacts {
    /// Of a run with this model on this device.
    ///
    /// # Errors
    /// The model's files cannot be read.
    pub fn new(
        bundle: &ModelBundle,
        device: &Device,
        dtype: DType,
        report: Rc<dyn Report>,
    ) -> sora_models::Result<Self> {
        let (model, compute) = (ModelIdentity::of(bundle)?, Compute::of(device, dtype));
        Ok(Self { model, compute, report })
    }
}

/// One video to be made.
pub struct VideoTask {
    /// Its request and its place among the others.
    pub label: JobLabel,
    /// Where it goes.
    pub target: OutputTarget,
    /// Where to go on, if it was saved before.
    pub checkpoint: Option<Arc<JobCheckpoint>>,
    /// Where its work is saved until it is finished.
    pub journal: Option<Arc<FileJournal>>,
    /// Whether to leave the saved latent there.
    pub keep_latent: bool,
    /// Where previews are shown, if anywhere.
    pub preview: Option<PreviewFile>,
}

impl VideoTask {
    /// What to submit.
    pub fn order(&self) -> JobOrder {
        let order = match &self.checkpoint {
            Some(checkpoint) => JobOrder::resume(checkpoint.clone()),
            None => JobOrder::from(self.label.request.clone()),
        };
        match &self.journal {
            Some(journal) => order.journaled(journal.clone()),
            None => order,
        }
    }

    /// The frames that will come: pixels beyond a whole latent value are not generated.
    pub fn format(&self) -> VideoFormat {
        VideoFormat::of(&self.label.request)
    }

    /// Tells that the pipeline did not take the request.
    pub fn refused(&self, facts: &RunFacts, cause: &SubmitError) {
        let kind = if matches!(cause, SubmitError::Invalid(_)) { "bad_input" } else { "refused" };
        let failure =
            Failure { stage: "submit".into(), kind: kind.into(), message: cause.to_string() };
        facts.report.failed(&self.label, &failure);
    }

    /// Tells that the user gave the video up.
    pub fn cancelled(&self, facts: &RunFacts) {
        facts.report.event(&self.label, &JobEvent::Cancelled);
    }

    /// Follows an accepted job to its end. When the user asks to stop, what was written so far is removed.
    pub async fn follow(self, job: Job, facts: RunFacts, mut interrupt: Interrupt) -> JobEnd {
        // Dropping the other branch drops the job's events, which cancels it, and the unfinished file.
        let made = tokio::select! {
            made = self.make(&job, &facts) => made,
            () = interrupt.asked() => {
                self.cancelled(&facts);
                return JobEnd::Cancelled;
            }
        };
        match made {
            Ok(end) => end,
            Err(failure) => {
                facts.report.failed(&self.label, &failure);
                JobEnd::Failed
            }
        }
    }

    async fn make(&self, job: &Job, facts: &RunFacts) -> Result<JobEnd, Failure> {
        let mut captions = self.captions_before();
        let mut video = None;
        let mut write_seconds = 0.0;
        let mut preview = self.preview.clone();
        let id = job.id.0;
        loop {
            let event = job.events.recv_async().await.map_err(|cause| Failure {
                stage: "graph".into(),
                kind: "stage_died".into(),
                message: cause.to_string(),
            })?;
            facts.report.event(&self.label, &event);
            match event {
                JobEvent::Embedded { caption: text, tokens, cut, negative, .. } => {
                    captions = GuidingTexts { prompt: Caption { text, tokens, cut }, negative };
                    if preview.is_some() {
                        job.events.request_preview();
                    }
                }
                JobEvent::Chunk(chunk) => {
                    let started = Instant::now();
                    let pending = match video.take() {
                        Some(pending) => pending,
                        None => self.target.begin(self.format()).map_err(writing_failed)?,
                    };
                    video = Some(
                        unblocked(move || {
                            let _writing = timeline::write_frames(id);
                            let mut pending: PendingVideo = pending;
                            pending.write_chunk(&chunk).map(|()| pending)
                        })
                        .await?,
                    );
                    write_seconds += started.elapsed().as_secs_f64();
                }
                JobEvent::Finished(summary) => {
                    let started = Instant::now();
                    let pending = video.ok_or_else(|| Failure {
                        stage: "vae_decoder".into(),
                        kind: "compute".into(),
                        message: "the decoder gave no frames".into(),
                    })?;
                    let seconds = summary.seconds;
                    let mut sidecar = self.sidecar(facts, captions, summary, write_seconds);
                    unblocked(move || {
                        let _writing = timeline::write_frames(id);
                        sidecar.work.write_seconds += started.elapsed().as_secs_f64();
                        pending.complete(&sidecar)
                    })
                    .await?;
                    self.remove_saved_work();
                    let seconds = seconds + started.elapsed().as_secs_f64();
                    let (video, sidecar) = (self.target.video(), self.target.sidecar());
                    facts.report.video_written(&self.label, video, sidecar, seconds);
                    return Ok(JobEnd::Written);
                }
                JobEvent::Failed(cause) => {
                    return Err(Failure {
                        stage: cause.stage.to_string(),
                        kind: cause.kind().as_str().into(),
                        message: cause.to_string(),
                    });
                }
                JobEvent::Cancelled => return Ok(JobEnd::Cancelled),
                JobEvent::Step { .. } if preview.is_some() => job.events.request_preview(),
                JobEvent::Preview { picture, .. } => {
                    if let Some(file) = preview.take() {
                        preview = show_preview(file, picture).await;
                    }
                }
                JobEvent::Queued { .. }
                | JobEvent::Embedding
                | JobEvent::Resumed { .. }
                | JobEvent::Step { .. }
                | JobEvent::Decoding => {}
            }
        }
    }

    /// The captions of texts that were embedded in an earlier run.
    fn captions_before(&self) -> GuidingTexts<Caption> {
        let checkpoint = self.checkpoint.as_deref();
        checkpoint.map(JobCheckpoint::captions).unwrap_or_default()
    }

    fn remove_saved_work(&self) {
        if let Some(journal) = self.journal.as_ref().filter(|_| !self.keep_latent)
            && let Err(cause) = journal.remove()
        {
            let path = journal.path().display();
            note(&format!("warning: the video is finished, but {path} cannot be removed: {cause}"));
        }
    }

    fn sidecar(
        &self,
        facts: &RunFacts,
        captions: GuidingTexts<Caption>,
        summary: JobSummary,
        write_seconds: f64,
    ) -> Sidecar {
        let VideoFormat { width_px, height_px, .. } = self.format();
        Sidecar {
            format: SIDECAR_FORMAT,
            program_version: env!("CARGO_PKG_VERSION"),
            video: VideoFile { name: self.target.video_name(), width_px, height_px },
            request: self.label.request.clone(),
            caption: captions.prompt,
            negative_caption: captions.negative,
            model: facts.model.clone(),
            compute: facts.compute.clone(),
            work: Work { summary, write_seconds },
        }
    }
}

/// Shows a preview, and gives back where to show the next one: nowhere, after a failure, which is no reason to end the video.
async fn show_preview(file: PreviewFile, picture: VideoChunk) -> Option<PreviewFile> {
    let shown = spawn_blocking(move || file.show(&picture).map(|()| file)).await.ok()?;
    shown.inspect_err(|cause| note(&format!("warning: there will be no previews: {cause}"))).ok()
}

/// Encodes and writes beside the event loop, so that other jobs' events go on.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OutputError> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(writing_failed),
        Err(panicked) => Err(Failure {
            stage: "write".into(),
            kind: "compute".into(),
            message: format!(
                "writing the video panicked (this is a bug, please report it): {panicked}"
            ),
        }),
    }
}

fn writing_failed(cause: OutputError) -> Failure {
    Failure { stage: "write".into(), kind: "output".into(), message: cause.to_string() }
}
