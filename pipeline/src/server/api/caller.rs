//! Who calls: the owner of the key that came with the request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use super::error::{ApiError, ApiResult};
use super::state::ApiState;
use crate::server::ids::VideoId;
use crate::server::store::Owner;

/// The owner of what the request is about. Handlers that take one refuse requests without a key, where keys are asked
/// for.
pub(super) struct Caller(pub(super) Owner);

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request))
    }
}

fn caller(request: &HttpRequest) -> ApiResult<Caller> {
    let refused = |code, message| Err(ApiError::new(StatusCode::UNAUTHORIZED, code, message));
    let Some(state) = request.app_data::<Data<ApiState>>() else {
        return refused("no_api_key", "The server is not ready.");
    };
    if state.keys.is_open() {
        return Ok(Caller(Owner::default()));
    }
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = token else {
        return refused(
            "no_api_key",
            "An API key is needed: send it as `Authorization: Bearer KEY`.",
        );
    };
    match state.keys.owner_of(token) {
        Some(owner) => Ok(Caller(owner)),
        None => refused("invalid_api_key", "The API key is not known."),
    }
}

/// The video that the address names.
pub(super) struct NamedVideo(pub(super) VideoId);

impl FromRequest for NamedVideo {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| id.parse().ok());
        ready(id.map(Self).ok_or_else(ApiError::no_such_video))
    }
}
