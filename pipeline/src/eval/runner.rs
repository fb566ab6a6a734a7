//! Makes every clip of a plan through the graph and judges it.

use std::sync::Arc;
use std::time::Instant;

use sora_actors::messages::{GenerationRequest, JobEvent};
use sora_models::bundle::GenerationConfig;
use sora_models::prompt_notation::PromptScores;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::clip::{Clip, ClipError};
use super::detector::{Agreement, Detection, detect};
use super::metrics::{
    MetricError, high_frequency_energy, mean_frame_difference, psnr_db, ssim, temporal_flickering,
};
use super::prompt_set::PromptCase;
use super::setting::EvalSetting;
use crate::handle::PipelineHandle;

/// What to make.
#[derive(Debug, Clone)]
pub struct EvalPlan {
    /// The prompts.
    pub cases: Vec<PromptCase>,
    /// The settings; all are compared with the first one at the same seed.
    pub settings: Vec<EvalSetting>,
    /// A prompt without a seed of its own takes this number plus its place in the set.
    pub first_seed: u64,
    /// The model's own settings.
    pub defaults: GenerationConfig,
    /// Clips that are under way at a time; the pipeline's queue must hold as many.
    pub in_flight: usize,
    /// With how many prompts each setting is timed, one clip at a time, after everything else.
    pub timed_prompts: usize,
    /// Of how many prompts the clips themselves are kept.
    pub kept_prompts: usize,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Judged {
    /// For each prompt, for each setting.
    pub scores: Vec<Vec<ClipScore>>,
    /// For each setting, the seconds from submission to the last frame of every timed clip.
    pub seconds: Vec<Vec<f64>>,
    /// The clips of the first prompts, for each setting.
    pub clips: Vec<Vec<Clip>>,
}

/// What one clip is like.
#[derive(Debug, Clone)]
pub struct ClipScore {
    /// What it shows.
    pub seen: Detection,
    /// Whether that is what its prompt names.
    pub agreement: Agreement,
    /// Likeness to the first setting's clip: PSNR in dB and SSIM; `None` for that clip itself, and SSIM of tiny clips.
    pub likeness: Option<(f64, Option<f64>)>,
    /// VBench's temporal flickering.
    pub temporal_flickering: Option<f64>,
    /// Mean difference of consecutive frames, in levels of 255.
    pub mean_frame_difference: Option<f64>,
    /// How sharp it is.
    pub high_frequency_energy: Option<f64>,
    /// Evaluations of the model.
    pub evaluations: usize,
    /// The drift cosine of each evaluated step that has one.
    pub cosines: Vec<(usize, f64)>,
}

/// Why an evaluation ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The plan has nothing in it.
    #[error("there is nothing to evaluate: at least one prompt and one setting are needed")]
    Empty,

    /// A clip could not be made.
    #[error("`{prompt}` with `{setting}` failed: {reason}")]
    Failed {
        /// The prompt.
        prompt: String,
        /// The setting.
        setting: String,
        /// Why.
        reason: String,
    },

    /// A clip's frames do not fit together.
    #[error(transparent)]
    Clip(#[from] ClipError),

    /// Two clips cannot be compared.
    #[error(transparent)]
    Metric(#[from] MetricError),

    /// Following or judging a clip panicked.
    #[error("judging a clip panicked (this is a bug, please report it): {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// A clip as it came out of the graph.
struct Made {
    clip: Clip,
    cosines: Vec<(usize, f64)>,
    evaluations: usize,
}

/// What makes one clip.
struct Task {
    request: GenerationRequest,
    setting: String,
}

/// Makes and judges all clips of a plan; `progress` is told after each prompt how many clips are done. Call it within an actix
/// system.
///
/// # Errors
/// The first clip that cannot be made ends it.
pub async fn evaluate(
    pipeline: &PipelineHandle,
    plan: &EvalPlan,
    progress: impl Fn(usize),
) -> Result<Judged, EvalError> {
    plan.check()?;
    let places = Arc::new(Semaphore::new(plan.in_flight.max(1)));
    let mut running = JoinSet::new();
    let mut prompts: Vec<Option<(Vec<ClipScore>, Vec<Clip>)>> = vec![None; plan.cases.len()];
    let mut next = 0;
    let mut done = 0;
    // One more than fill all places, since one of them may wait for its last clips.
    let prompts_at_a_time = 1 + plan.in_flight.div_ceil(plan.settings.len());
    loop {
        while next < plan.cases.len() && running.len() < prompts_at_a_time {
            let tasks = plan.settings.iter().map(|setting| plan.task(next, setting)).collect();
            let judging =
                judge_prompt(pipeline.clone(), tasks, plan.cases[next].clone(), places.clone());
            let index = next;
            running.spawn_local(async move { judging.await.map(|judged| (index, judged)) });
            next += 1;
        }
        let Some(finished) = running.join_next().await else { break };
        let (index, (scores, mut clips)) = finished??;
        done += scores.len();
        progress(done);
        if index >= plan.kept_prompts {
            clips.clear();
        }
        prompts[index] = Some((scores, clips));
    }
    let (scores, mut clips): (Vec<_>, Vec<_>) = prompts.into_iter().flatten().unzip();
    clips.truncate(plan.kept_prompts);
    Ok(Judged { scores, seconds: time_alone(pipeline, plan).await?, clips })
}

impl EvalPlan {
    /// Finds out, before any work, whether every clip can be asked for.
    ///
    /// # Errors
    /// [`EvalError::Empty`], or [`EvalError::Failed`] for the first clip that cannot be made.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.cases.is_empty() || self.settings.is_empty() {
            return Err(EvalError::Empty);
        }
        for index in 0..self.cases.len() {
            for setting in &self.settings {
                let Task { request, setting } = self.task(index, setting);
                if let Err(cause) = request.check() {
                    let (prompt, reason) = (request.prompt, cause.to_string());
                    return Err(EvalError::Failed { prompt, setting, reason });
                }
            }
        }
        Ok(())
    }

    /// How many clips are judged; those that are only timed come on top.
    pub fn clips(&self) -> usize {
        self.cases.len() * self.settings.len()
    }

    fn task(&self, index: usize, setting: &EvalSetting) -> Task {
        let (case, defaults) = (&self.cases[index], &self.defaults);
        let request = GenerationRequest {
            prompt: case.prompt.clone(),
            negative_prompt: None,
            seed: case.seed.unwrap_or_else(|| self.first_seed.wrapping_add(index as u64)),
            width_px: defaults.width,
            height_px: defaults.height,
            num_frames: defaults.num_frames,
            fps: f64::from(defaults.fps),
            sampling: setting.sampling(defaults),
            scores: PromptScores {
                aesthetic: defaults.aesthetic_score.map(f64::from),
                ..PromptScores::default()
            },
        };
        Task { request, setting: setting.name().to_string() }
    }
}

/// Clips of one prompt under all settings, each judged by itself and against the first.
async fn judge_prompt(
    pipeline: PipelineHandle,
    tasks: Vec<Task>,
    case: PromptCase,
    places: Arc<Semaphore>,
) -> Result<(Vec<ClipScore>, Vec<Clip>), EvalError> {
    let mut running = JoinSet::new();
    for (index, task) in tasks.into_iter().enumerate() {
        let (pipeline, places) = (pipeline.clone(), places.clone());
        running.spawn_local(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            make(&pipeline, task).await.map(|made| (index, made))
        });
    }
    let mut all = Vec::new();
    while let Some(finished) = running.join_next().await {
        all.push(finished??);
    }
    all.sort_by_key(|(index, _)| *index);
    spawn_blocking(move || judge(all.into_iter().map(|(_, made)| made), &case)).await?
}

fn judge(
    all: impl Iterator<Item = Made>,
    case: &PromptCase,
) -> Result<(Vec<ClipScore>, Vec<Clip>), EvalError> {
    let (mut scores, mut clips) = (Vec::new(), Vec::<Clip>::new());
    for Made { clip, cosines, evaluations } in all {
        let likeness = match clips.first() {
            Some(first) => Some((psnr_db(&clip, first)?, ssim(&clip, first).ok())),
            None => None,
        };
        let seen = detect(&clip);
        scores.push(ClipScore {
            seen,
            agreement: seen.agrees(&case.attributes),
            likeness,
            temporal_flickering: temporal_flickering(&clip),
            mean_frame_difference: mean_frame_difference(&clip),
            high_frequency_energy: high_frequency_energy(&clip),
            evaluations,
            cosines,
        });
        clips.push(clip);
    }
    Ok((scores, clips))
}

/// Every setting in turn for each of the timed prompts, so that a busy moment of the machine hits all alike.
async fn time_alone(
    pipeline: &PipelineHandle,
    plan: &EvalPlan,
) -> Result<Vec<Vec<f64>>, EvalError> {
    let mut seconds = vec![Vec::new(); plan.settings.len()];
    for index in 0..plan.timed_prompts.min(plan.cases.len()) {
        for (setting, seconds) in plan.settings.iter().zip(&mut seconds) {
            let started = Instant::now();
            make(pipeline, plan.task(index, setting)).await?;
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}

async fn make(pipeline: &PipelineHandle, task: Task) -> Result<Made, EvalError> {
    let Task { request, setting } = task;
    let prompt = request.prompt.clone();
    let failed = |reason: String| EvalError::Failed {
        prompt: prompt.clone(),
        setting: setting.clone(),
        reason,
    };
    let job = pipeline.submit(request).await.map_err(|cause| failed(cause.to_string()))?;
    let (mut cosines, mut frames, mut size) = (Vec::new(), Vec::new(), (0, 0));
    loop {
        match job.events.recv_async().await.map_err(|cause| failed(cause.to_string()))? {
            JobEvent::Step { index, cosine, .. } => {
                cosines.extend(cosine.map(|cosine| (index, cosine)));
            }
            JobEvent::Chunk(chunk) => {
                size = (chunk.width_px, chunk.height_px);
                frames.extend(chunk.frames.into_iter().map(|frame| frame.0));
            }
            JobEvent::Finished(summary) => {
                let clip = Clip::new(size.0, size.1, frames)?;
                return Ok(Made { clip, cosines, evaluations: summary.steps_computed });
            }
            JobEvent::Failed(cause) => return Err(failed(cause.to_string())),
            JobEvent::Cancelled => return Err(failed("it was cancelled".into())),
            JobEvent::Queued { .. }
            | JobEvent::Embedding
            | JobEvent::Embedded { .. }
            | JobEvent::Resumed { .. }
            | JobEvent::Preview { .. }
            | JobEvent::Decoding => {}
        }
    }
}
