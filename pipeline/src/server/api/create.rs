//! Asking for videos.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use sora_actors::messages::GenerationRequest;
use sora_models::sizes::parse_frames;
use sora_models::stdit3::Merging;
use sora_telemetry::record_refusal;
use utoipa::ToSchema;

use super::body::{self, INPUT_REFERENCE};
use super::caller::{Caller, NamedVideo};
use super::check::check;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::fields::Fields;
use super::state::ApiState;
use super::unbroken::to_its_end;
use super::video_object::Video;
use crate::request_settings::{RequestSettings, default_request};
use crate::server::clock;
use crate::server::ids::{VideoId, random_seed};
use crate::server::store::{Acceptance, NewVideo, Owner, VideoRecord};

/// Videos of higher priority are made first. Our choice of bounds: enough to tell apart what is urgent.
const PRIORITIES: std::ops::RangeInclusive<i64> = -10..=10;

/// The longest idempotency key.
const LONGEST_KEY: usize = 255;

/// Why a picture to begin from is refused.
pub(super) const NO_INPUT_REFERENCE: &str =
    "Videos from a picture are not supported: this server makes videos from text alone.";

/// What a video is asked for with. Numbers may come as text, too. For a remix, what is left out is as in the first video.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreateVideo {
    /// What the video shall show.
    #[schema(min_length = 1)]
    prompt: String,
    /// What it shall not show: guidance leads away from it, in place of the model's null caption.
    negative_prompt: Option<String>,
    /// The model's name; the one that is served when left out.
    model: Option<String>,
    /// Length in seconds.
    #[schema(pattern = r"^[1-9][0-9]?(\.[0-9])?$", example = "2")]
    seconds: Option<String>,
    /// Size of a frame, as `WIDTHxHEIGHT` in pixels.
    #[schema(pattern = "^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$", example = "64x64")]
    size: Option<String>,
    /// Seed of the noise; the server chooses one when left out.
    seed: Option<u64>,
    /// Denoising steps.
    #[schema(minimum = 1)]
    steps: Option<usize>,
    /// How closely to follow the prompt.
    #[schema(minimum = 0)]
    cfg_scale: Option<f64>,
    /// When to leap to the end of denoising: `off`, `fixed:N`, `dynamic`, or a switch.
    #[schema(pattern = "^(off|dynamic|fixed:[0-9]{1,3}|dynamic:.+)$")]
    lpl: Option<String>,
    /// How many steps to evaluate: `off` or a number.
    #[schema(pattern = "^(off|[1-9][0-9]{0,2})$")]
    coast: Option<String>,
    /// In which steps to merge tokens: `off`, `all`, a number of steps, or a switch.
    #[schema(pattern = "^(off|all|[0-9]{1,3})(,keep-last|,drop-last)?$")]
    tdtm: Option<String>,
    /// Number of frames, in place of `seconds`; or `2s`, `4s`, `8s`, `16s`.
    #[schema(pattern = "^([1-9][0-9]{0,2}|(1|2|4|8|16)[sx])$")]
    frames: Option<String>,
    /// Frames a second.
    fps: Option<f64>,
    /// Aesthetic score to ask for, about 4 to 7.
    aesthetic_score: Option<f64>,
    /// Amount of motion to ask for.
    motion_score: Option<f64>,
    /// Camera motion to ask for, such as `pan left`.
    camera_motion: Option<String>,
    /// Videos of higher priority are made first.
    #[schema(minimum = -10, maximum = 10)]
    priority: Option<i64>,
    /// Texts to keep with the video.
    metadata: Option<BTreeMap<String, String>>,
}

/// What is asked for, before it is known whether it can be done.
struct Asked {
    prompt: String,
    settings: RequestSettings,
    seconds: Option<f64>,
    priority: Option<i64>,
    metadata: Option<BTreeMap<String, String>>,
}

/// Asks for a video. It is on the server's disk when the answer comes.
#[utoipa::path(
    post, path = "/v1/videos", tag = "videos", operation_id = "createVideo",
    request_body(content(
        (CreateVideo = "application/json"),
        (CreateVideo = "multipart/form-data"),
        (CreateVideo = "application/x-www-form-urlencoded"),
    )),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again means the same video.")),
    responses(
        (status = 200, description = "The video, queued", body = Video),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = 503, description = "No room now: try again after `Retry-After` seconds", body = ErrorBody),
    )
)]
pub(super) async fn create(
    request: HttpRequest,
    payload: Payload,
    caller: Caller,
    state: Data<ApiState>,
) -> ApiResult {
    let mut fields = body::read(&request, payload, state.limits.body_bytes).await?;
    let asked = Asked::read(&mut fields, &state)?;
    fields.finish()?;
    let seed = match asked.settings.seed {
        Some(seed) => seed,
        None => random_seed().map_err(|_| no_random_numbers())?,
    };
    let base = default_request(&asked.prompt, seed, &state.defaults);
    submit(&request, &state, caller.0, base, asked, None).await
}

/// Asks for a video like another one, with another prompt.
#[utoipa::path(
    post, path = "/v1/videos/{id}/remix", tag = "videos", operation_id = "remixVideo",
    params(
        ("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The first video"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again means the same video."),
    ),
    request_body(content(
        (CreateVideo = "application/json"),
        (CreateVideo = "multipart/form-data"),
        (CreateVideo = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "The new video, queued", body = Video),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = 503, description = "No room now: try again after `Retry-After` seconds", body = ErrorBody),
    )
)]
pub(super) async fn remix(
    request: HttpRequest,
    payload: Payload,
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    let before = state.store.get(&caller.0, id).await?.ok_or_else(ApiError::no_such_video)?;
    let mut fields = body::read(&request, payload, state.limits.body_bytes).await?;
    let mut asked = Asked::read(&mut fields, &state)?;
    fields.finish()?;
    asked.priority = asked.priority.or(Some(before.priority));
    let base = GenerationRequest { prompt: asked.prompt.clone(), ..before.request };
    submit(&request, &state, caller.0, base, asked, Some(id)).await
}

async fn submit(
    request: &HttpRequest,
    state: &Data<ApiState>,
    owner: Owner,
    mut base: GenerationRequest,
    asked: Asked,
    remixed_from: Option<VideoId>,
) -> ApiResult {
    asked.settings.apply(&mut base);
    if let Some(seconds) = asked.seconds {
        base.num_frames = frames_of(seconds, base.fps);
    }
    let length = if asked.seconds.is_some() { "seconds" } else { "frames" };
    check(&base, length, state).await?;
    if state.live.is_stopping() {
        return Err(ApiError::shutting_down());
    }
    let video = NewVideo {
        id: VideoId::random().map_err(|_| no_random_numbers())?,
        owner,
        priority: asked.priority.unwrap_or_default(),
        request: base,
        model: state.model_names.first().cloned().unwrap_or_default(),
        fingerprint: state.fingerprint.clone(),
        metadata: asked.metadata,
        remixed_from,
        idempotency_key: idempotency_key(request)?,
        created_at: clock::now(),
    };
    let is_seed_chosen = asked.settings.seed.is_none() && remixed_from.is_none();
    to_its_end(accept(video, is_seed_chosen, state.clone())).await
}

/// Puts a video on the disk and wakes whoever makes it. A seed that the server chose is another one each time.
async fn accept(video: NewVideo, is_seed_chosen: bool, state: Data<ApiState>) -> ApiResult {
    let accepted = state.store.accept(video.clone(), state.limits.queue).await;
    let record = match accepted.inspect_err(|_| record_refusal())? {
        Acceptance::Accepted(record) => {
            if state.log_prompts {
                tracing::info!(id = %record.id, prompt = %record.request.prompt, "accepted");
            }
            record
        }
        Acceptance::Before(record) if is_same(&record, video, is_seed_chosen) => record,
        Acceptance::Before(_) => {
            let message =
                "The idempotency key came before with another request: choose another key.";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotency_key_reused", message));
        }
        Acceptance::QueueFull => {
            record_refusal();
            let waiting = state.limits.queue.waiting;
            return Err(ApiError::busy("queue_full", format!("{waiting} videos wait already.")));
        }
        Acceptance::OwnerFull => {
            record_refusal();
            let most = state.limits.queue.of_owner;
            let message = format!("This key has {most} unfinished videos already.");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_videos", message));
        }
    };
    // Also for one that came before: whoever was to be woken then may have been lost with its connection.
    state.live.changed();
    let live = state.live.progress(record.id);
    Ok(HttpResponse::Ok().json(Video::of(record, live, &state)))
}

/// Whether a request asks for the video that its idempotency key came with before.
fn is_same(before: &VideoRecord, video: NewVideo, is_seed_chosen: bool) -> bool {
    let NewVideo { mut request, remixed_from, priority, metadata, .. } = video;
    if is_seed_chosen {
        request.seed = before.request.seed;
    }
    // One that cannot be read is not asked for again.
    !before.is_readable
        || (request, remixed_from, priority, metadata)
            == (
                before.request.clone(),
                before.remixed_from,
                before.priority,
                before.metadata.clone(),
            )
}

impl Asked {
    fn read(fields: &mut Fields, state: &ApiState) -> ApiResult<Self> {
        check_model(fields, state)?;
        if fields.take(INPUT_REFERENCE).is_some() {
            return Err(ApiError::invalid(INPUT_REFERENCE, NO_INPUT_REFERENCE));
        }
        let prompt = fields.text("prompt")?.ok_or_else(|| {
            let error = ApiError::new(
                StatusCode::BAD_REQUEST,
                "missing_required_parameter",
                "`prompt` is missing: say what the video shall show.",
            );
            error.about("prompt")
        })?;
        let frames = fields.text("frames")?.map(|text| {
            let parsed = parse_frames(text.trim());
            parsed.map_err(|cause| ApiError::invalid("frames", cause.to_string()))
        });
        let seconds: Option<f64> = fields.parsed("seconds")?;
        if seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds > 0.0)) {
            return Err(ApiError::invalid("seconds", "`seconds` must be a number above 0."));
        }
        if frames.is_some() && seconds.is_some() {
            return Err(ApiError::invalid("frames", "Give either `frames` or `seconds`."));
        }
        let priority: Option<i64> = fields.parsed("priority")?;
        if priority.is_some_and(|priority| !PRIORITIES.contains(&priority)) {
            let (low, high) = (PRIORITIES.start(), PRIORITIES.end());
            let message = format!("`priority` must be a whole number from {low} to {high}.");
            return Err(ApiError::invalid("priority", message));
        }
        let settings = RequestSettings {
            negative_prompt: fields.text("negative_prompt")?,
            seed: fields.parsed("seed")?,
            steps: fields.parsed("steps")?,
            cfg_scale: fields.parsed("cfg_scale")?,
            lpl: fields.switched("lpl", "off", "dynamic")?,
            coast: fields.parsed("coast")?,
            tdtm: fields.switched::<Merging>("tdtm", "off", "all")?,
            size: fields.parsed("size")?,
            frames: frames.transpose()?,
            fps: fields.parsed("fps")?,
            aesthetic_score: score(fields, "aesthetic_score")?,
            motion_score: score(fields, "motion_score")?,
            camera_motion: fields.text("camera_motion")?,
        };
        let metadata = fields.metadata("metadata")?;
        Ok(Self { prompt, settings, seconds, priority, metadata })
    }
}

fn score(fields: &mut Fields, name: &str) -> ApiResult<Option<f64>> {
    let score: Option<f64> = fields.parsed(name)?;
    match score {
        Some(score) if !score.is_finite() => {
            Err(ApiError::invalid(name, format!("`{name}` must be a number.")))
        }
        score => Ok(score),
    }
}

fn check_model(fields: &mut Fields, state: &ApiState) -> ApiResult<()> {
    let Some(model) = fields.text("model")? else { return Ok(()) };
    if state.model_names.contains(&model) {
        return Ok(());
    }
    let known = state.model_names.join("`, `");
    let message = format!("The model is not served here: known is `{known}`.");
    Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"))
}

/// Frames of so many seconds, at least one; what is too many is found by the check of all settings.
fn frames_of(seconds: f64, fps: f64) -> usize {
    // A product that is no number becomes 0, and one that is too large the largest number.
    ((seconds * fps).round() as usize).max(1)
}

fn idempotency_key(request: &HttpRequest) -> ApiResult<Option<String>> {
    const NAME: &str = "Idempotency-Key";
    let Some(value) = request.headers().get(NAME) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=LONGEST_KEY).contains(&text.len()));
    let message = "The key must be 1 to 255 visible characters.";
    text.map(|text| Some(text.to_string())).ok_or_else(|| ApiError::invalid(NAME, message))
}

fn no_random_numbers() -> ApiError {
    ApiError::busy("no_random_numbers", "The operating system has no random numbers.")
}
