//! The files of a finished video.

use std::io::ErrorKind;
use std::path::Path;

use actix_files::NamedFile;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, ContentDisposition, DispositionParam, DispositionType, HeaderValue,
};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use sora_actors::messages::VideoChunk;
use tokio::task::spawn_blocking;

use super::caller::{Caller, NamedVideo};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::query::Query;
use super::state::ApiState;
use crate::server::folder::VideoAsset;
use crate::server::store::VideoStatus;
use crate::sinks::picture_png;

/// A finished video's file, or a part of it.
#[utoipa::path(
    get, path = "/v1/videos/{id}/content", tag = "videos", operation_id = "downloadVideo",
    params(
        ("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video"),
        ("variant" = Option<String>, Query, pattern = "^(video|thumbnail|spritesheet)$", description = "`video` (the default), `thumbnail` or `spritesheet`"),
        ("Range" = Option<String>, Header, description = "Which bytes, as in `bytes=0-99`"),
    ),
    responses(
        (status = 200, description = "The file", content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"))),
        (status = 206, description = "A part of it", content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"))),
        (status = 304, description = "It is as the client has it"),
        (status = "4XX", description = "There is no such video or file", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn content(
    request: HttpRequest,
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    let query = Query::of(&request, &["variant"])?;
    let asset = match query.get("variant") {
        None => VideoAsset::Video,
        Some(word) => {
            let known = VideoAsset::ALL.into_iter().find(|asset| asset.as_str() == word);
            known.ok_or_else(|| {
                let message = "`variant` must be `video`, `thumbnail` or `spritesheet`.";
                ApiError::invalid("variant", message)
            })?
        }
    };
    let record = state.store.get(&caller.0, id).await?.ok_or_else(ApiError::no_such_video)?;
    if record.status != VideoStatus::Completed {
        let message = format!("The video is {}: there is no file yet.", record.status.as_str());
        return Err(ApiError::new(StatusCode::NOT_FOUND, "video_not_ready", message));
    }
    let path = state.folder.path(id, asset);
    let name = Path::new(&path).file_name().unwrap_or_default();
    let disposition = ContentDisposition {
        disposition: DispositionType::Inline,
        parameters: vec![DispositionParam::Filename(name.to_string_lossy().into_owned())],
    };
    let file = NamedFile::open(&path).map_err(|cause| {
        tracing::error!(%id, %cause, "the file of a finished video cannot be read");
        match cause.kind() {
            ErrorKind::NotFound => {
                ApiError::new(StatusCode::NOT_FOUND, "file_not_found", "The video's file is gone.")
            }
            _ => ApiError::busy("storage_unavailable", "The server cannot read the video's file."),
        }
    })?;
    let mut response = file.set_content_disposition(disposition).into_response(&request);
    // It never changes, but it is its owner's alone.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    Ok(response)
}

/// A frame of a video that is being made, as it would be if it were finished now. Asking has the next one made after one
/// of the next steps, so the first answer to come is that there is none yet.
#[utoipa::path(
    get, path = "/v1/videos/{id}/preview", tag = "videos", operation_id = "previewVideo",
    params(("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video")),
    responses(
        (status = 200, description = "A frame", body = Vec<u8>, content_type = "image/png"),
        (status = "4XX", description = "There is no such video, or no frame of it", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn preview(
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult<HttpResponse> {
    state.store.get(&caller.0, id).await?.ok_or_else(ApiError::no_such_video)?;
    let Some(picture) = state.live.picture(id) else {
        let message = "There is no frame of the video to show yet.";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no_preview", message));
    };
    let png = spawn_blocking(move || first_frame_png(&picture)).await;
    let png = png.ok().flatten().ok_or_else(|| {
        tracing::error!(%id, "a preview cannot be made a picture");
        ApiError::new(StatusCode::NOT_FOUND, "no_preview", "The frame cannot be shown.")
    })?;
    let no_store = HeaderValue::from_static("no-store");
    Ok(HttpResponse::Ok()
        .content_type("image/png")
        .insert_header((CACHE_CONTROL, no_store))
        .body(png))
}

fn first_frame_png(picture: &VideoChunk) -> Option<Vec<u8>> {
    let frame = picture.frames.first()?;
    picture_png(Path::new("preview"), picture.width_px, picture.height_px, frame).ok()
}
