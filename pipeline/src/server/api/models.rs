//! The models that are served: one, under one or several names.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::state::ApiState;

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

fn model(id: &str, state: &ApiState) -> Model {
    Model {
        id: id.to_string(),
        object: "model",
        created: state.started_at,
        owned_by: "on-device-sora",
    }
}

/// The names that can be asked for.
#[utoipa::path(
    get, path = "/v1/models", tag = "models", operation_id = "listModels",
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
    )
)]
pub(super) async fn list(_: Caller, state: Data<ApiState>) -> ApiResult {
    let data = state.model_names.iter().map(|name| model(name, &state)).collect();
    Ok(HttpResponse::Ok().json(ModelList { object: "list", data }))
}

/// A model.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "models", operation_id = "retrieveModel",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = "4XX", description = "There is no such model", body = ErrorBody),
    )
)]
pub(super) async fn retrieve(_: Caller, name: Path<String>, state: Data<ApiState>) -> ApiResult {
    match state.model_names.iter().find(|known| **known == *name) {
        Some(name) => Ok(HttpResponse::Ok().json(model(name, &state))),
        None => {
            let message = "There is no such model.";
            Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"))
        }
    }
}
