//! Looking at videos, cancelling and deleting them.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use sora_telemetry::PromptOutcome;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::caller::{Caller, NamedVideo};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::query::Query;
use super::state::ApiState;
use super::unbroken::to_its_end;
use super::video_object::Video;
use crate::server::clock;
use crate::server::dispatcher::cancelled;
use crate::server::ids::VideoId;
use crate::server::meter::count_video;
use crate::server::store::{Cancellation, Page, VideoRecord};

/// How many videos a list has when nothing is said, and at most.
const DEFAULT_LIMIT: usize = 20;
const MOST: usize = 100;

/// How soon a client that polls should ask again.
///
/// # Units
/// Milliseconds. Our choice: a step of the embedded model takes less, one of a large model much more.
const POLL_AFTER_MS: u32 = 500;

/// The header that clients of this API honour.
const POLL_AFTER: &str = "openai-poll-after-ms";

/// A part of the list of videos.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VideoList {
    object: &'static str,
    data: Vec<Video>,
    has_more: bool,
    #[schema(required, value_type = Option<String>)]
    first_id: Option<VideoId>,
    #[schema(required, value_type = Option<String>)]
    last_id: Option<VideoId>,
}

/// A video that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedVideo {
    #[schema(value_type = String)]
    id: VideoId,
    object: &'static str,
    deleted: bool,
}

/// A video as it is now.
#[utoipa::path(
    get, path = "/v1/videos/{id}", tag = "videos", operation_id = "retrieveVideo",
    params(("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video")),
    responses(
        (status = 200, description = "The video", body = Video),
        (status = "4XX", description = "There is no such video", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn retrieve(
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    let live = state.live.progress(id);
    let record = state.store.get(&caller.0, id).await?.ok_or_else(ApiError::no_such_video)?;
    let mut response = HttpResponse::Ok();
    if !record.status.is_over() {
        response.insert_header((POLL_AFTER, POLL_AFTER_MS));
    }
    Ok(response.json(Video::of(record, live, &state)))
}

/// The caller's videos, page by page.
#[utoipa::path(
    get, path = "/v1/videos", tag = "videos", operation_id = "listVideos",
    params(
        ("after" = Option<String>, Query, description = "The last video of the page before"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 100, description = "Videos in a page, by default 20"),
        ("order" = Option<String>, Query, pattern = "^(asc|desc)$", description = "`asc`: the oldest first; `desc`, the default: the newest"),
    ),
    responses(
        (status = 200, description = "A page of videos", body = VideoList),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, caller: Caller, state: Data<ApiState>) -> ApiResult {
    let query = Query::of(&request, &["after", "limit", "order"])?;
    let unknown = || ApiError::invalid("after", "`after` must be the id of one of your videos.");
    let after = query.get("after").map(|id| id.parse().map_err(|_| unknown())).transpose()?;
    let limit = match query.get("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
            limit.ok_or_else(|| {
                ApiError::invalid(
                    "limit",
                    format!("`limit` must be a whole number from 1 to {MOST}."),
                )
            })?
        }
    };
    let ascending = match query.get("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(ApiError::invalid("order", "`order` must be `asc` or `desc`.")),
    };
    let page = Page { after, limit, ascending };
    let live = state.live.all_progress();
    let listing = state.store.list(&caller.0, page).await?.ok_or_else(unknown)?;
    let video = |record: VideoRecord| {
        let live = live.get(&record.id).copied();
        Video::of(record, live, &state)
    };
    let data: Vec<Video> = listing.videos.into_iter().map(video).collect();
    let (first_id, last_id) =
        (data.first().map(|video| video.id), data.last().map(|video| video.id));
    let list = VideoList { object: "list", data, has_more: listing.has_more, first_id, last_id };
    Ok(HttpResponse::Ok().json(list))
}

/// Deletes a video and its files; one that is being made is given up.
#[utoipa::path(
    delete, path = "/v1/videos/{id}", tag = "videos", operation_id = "deleteVideo",
    params(("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video")),
    responses(
        (status = 200, description = "It is deleted", body = DeletedVideo),
        (status = "4XX", description = "There is no such video", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    to_its_end(async move {
        let deleted = state.store.delete(&caller.0, id).await?;
        let record = deleted.ok_or_else(ApiError::no_such_video)?;
        if !record.status.is_over() {
            count_video(PromptOutcome::Cancelled, record.created_at);
        }
        state.live.give_up(id);
        state.live.changed();
        let folder = state.folder.clone();
        // The record is gone already; what is left of the files is found at the next start.
        let _ = spawn_blocking(move || folder.remove(id)).await;
        Ok(HttpResponse::Ok().json(DeletedVideo { id, object: "video.deleted", deleted: true }))
    })
    .await
}

/// Cancels a video that is not over; it becomes `failed`, with the code `cancelled`.
#[utoipa::path(
    post, path = "/v1/videos/{id}/cancel", tag = "videos", operation_id = "cancelVideo",
    params(("id" = String, Path, pattern = "^video_[0-9a-f]{32}$", description = "The video")),
    responses(
        (status = 200, description = "The video; one that was over is as it was", body = Video),
        (status = "4XX", description = "There is no such video", body = ErrorBody),
        (status = 503, description = "Try again later", body = ErrorBody),
    )
)]
pub(super) async fn cancel(
    caller: Caller,
    NamedVideo(id): NamedVideo,
    state: Data<ApiState>,
) -> ApiResult {
    to_its_end(async move {
        let record = match state.store.cancel(&caller.0, id, cancelled(), clock::now()).await? {
            Cancellation::Unknown => return Err(ApiError::no_such_video()),
            Cancellation::Over(record) => record,
            Cancellation::Cancelled(record) => {
                count_video(PromptOutcome::Cancelled, record.created_at);
                state.live.give_up(id);
                state.live.changed();
                record
            }
        };
        Ok(HttpResponse::Ok().json(Video::of(record, None, &state)))
    })
    .await
}
