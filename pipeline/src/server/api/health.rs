//! Whether the server lives and works, and its metrics.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::state::ApiState;

/// The server's state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(
    get, path = "/healthz", tag = "server", operation_id = "health",
    responses((status = 200, description = "It does", body = Health))
)]
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Whether prompts are taken and videos made.
#[utoipa::path(
    get, path = "/readyz", tag = "server", operation_id = "readiness",
    responses(
        (status = 200, description = "They are", body = Health),
        (status = 503, description = "They are not", body = ErrorBody),
    )
)]
pub(super) async fn ready(state: Data<ApiState>) -> ApiResult {
    let snapshot = state.pipeline.observe().await;
    let is_ready = !state.live.is_stopping()
        && snapshot.is_some_and(|pipeline| {
            pipeline.accepting && pipeline.stages.iter().all(|stage| stage.death.is_none())
        });
    if !is_ready {
        return Err(ApiError::busy("not_ready", "The server takes no prompts."));
    }
    if let Some(trouble) = state.live.trouble() {
        return Err(ApiError::busy("not_ready", trouble));
    }
    Ok(HttpResponse::Ok().json(Health { status: "ready" }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server", operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
    )
)]
pub(super) async fn metrics(_: Caller, state: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(state.metrics.render())
}
