//! What cannot be made, or is more than the server gives, is refused before it is accepted.

use actix_web::http::StatusCode;
use sora_actors::messages::GenerationRequest;
use sora_models::ModelError;
use sora_models::sizes::VideoSize;
use tokio::task::spawn_blocking;

use super::error::{ApiError, ApiResult};
use super::state::ApiState;
use crate::SubmitError;
use crate::server::folder::VideoAsset;
use crate::server::limits::RequestLimits;
use crate::sinks::{SinkError, SinkKind, VideoFormat};

/// Refuses a request that is more than the server gives, or cannot be made. `length` is the parameter that its number of
/// frames came by.
///
/// # Errors
/// 400, with the parameter that is to blame; 503 when the server stops.
pub(super) async fn check(
    request: &GenerationRequest,
    length: &'static str,
    state: &ApiState,
) -> ApiResult<()> {
    check_limits(request, length, &state.limits)?;
    check_texts(request).await?;
    match state.pipeline.check(request).await {
        Ok(()) => {}
        Err(SubmitError::Invalid(cause)) => {
            let message = cause.to_string();
            let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", message);
            return Err(match to_blame(request, length) {
                Some(name) => error.about(name),
                None => error,
            });
        }
        Err(cause @ SubmitError::OverBudget(_)) => {
            let message = cause.to_string();
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "over_budget", message));
        }
        Err(_) => return Err(ApiError::shutting_down()),
    }
    check_format(VideoFormat::of(request))
}

fn check_limits(
    request: &GenerationRequest,
    length: &'static str,
    limits: &RequestLimits,
) -> ApiResult<()> {
    let negative = request.negative_prompt.as_deref().unwrap_or_default();
    let camera = request.scores.camera_motion.as_deref().unwrap_or_default();
    let too_large = [
        ("prompt", request.prompt.chars().count(), limits.prompt_chars, "characters"),
        ("negative_prompt", negative.chars().count(), limits.prompt_chars, "characters"),
        ("camera_motion", camera.chars().count(), limits.prompt_chars, "characters"),
        ("steps", request.sampling.steps, limits.steps, "steps"),
        (length, request.num_frames, limits.frames, "frames"),
        ("size", request.width_px.saturating_mul(request.height_px), limits.frame_pixels, "pixels"),
    ];
    match too_large.into_iter().find(|(_, found, most, _)| found > most) {
        None => Ok(()),
        Some((name, found, most, unit)) => {
            let message =
                format!("`{name}`: {found} {unit} are more than the {most} that are allowed.");
            Err(ApiError::invalid(name, message))
        }
    }
}

/// Refuses texts of which cleaning leaves nothing, however long they are: a long one takes a while, and nobody waits for it
/// but who sent it.
async fn check_texts(request: &GenerationRequest) -> ApiResult<()> {
    if request.prompt.trim().is_empty() {
        let message = "The prompt is empty: say what the video shall show.";
        return Err(ApiError::invalid("prompt", message));
    }
    let negative = request.negative_prompt.as_deref().unwrap_or_default();
    for (name, text) in [("prompt", request.prompt.as_str()), ("negative_prompt", negative)] {
        if text.contains('\0') {
            return Err(ApiError::invalid(name, format!("`{name}` holds a NUL character.")));
        }
    }
    let request = request.clone();
    let cleaned = spawn_blocking(move || {
        let told = |name| move |cause: ModelError| ApiError::invalid(name, cause.to_string());
        request.caption().map_err(told("prompt"))?;
        request.negative_caption().map_err(told("negative_prompt"))?;
        Ok(())
    });
    cleaned.await.unwrap_or_else(|_| Err(ApiError::bad_body("The prompt cannot be read.")))
}

/// The parameter without which the model would not refuse a request, if it is one alone.
fn to_blame(request: &GenerationRequest, length: &'static str) -> Option<&'static str> {
    let sampling = &request.sampling;
    let size = request.video_settings().size;
    let one_frame = VideoSize { frames: 1, ..size };
    [
        ("steps", sampling.steps == 0),
        ("cfg_scale", !(sampling.guidance_scale.is_finite() && sampling.guidance_scale >= 0.0)),
        ("fps", !(request.fps.is_finite() && request.fps > 0.0)),
        ("size", one_frame.latent().is_err()),
        (length, size.latent().is_err()),
        ("coast", sampling.coast.check(sampling.steps).is_err()),
        ("lpl", sampling.leap.check(sampling.steps).is_err()),
    ]
    .into_iter()
    .find_map(|(name, is_bad)| is_bad.then_some(name))
}

/// Refuses what the kind of file cannot hold.
fn check_format(format: VideoFormat) -> ApiResult<()> {
    /// A frame rate that every kind of file holds.
    const USUAL_FPS: f64 = 8.0;
    let target = VideoAsset::Video.as_str().as_ref();
    let check = |format| SinkKind::DEFAULT.check(format, target);
    check(format).map_err(|cause| match cause {
        SinkError::Format { reason, .. } => {
            let is_fps = check(VideoFormat { fps: USUAL_FPS, ..format }).is_ok();
            let name = if is_fps { "fps" } else { "size" };
            ApiError::invalid(name, format!("The video: {reason}."))
        }
        other => ApiError::bad_body(other.to_string()),
    })
}
