//! Errors as the API tells them.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::server::store::StoreError;

/// When to come again, after the server had no room.
///
/// # Units
/// Seconds. Our choice: about what a small video takes.
const RETRY_AFTER_SECONDS: u32 = 5;

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
    allow: Option<&'static str>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For people.
    message: String,
    /// The class of the error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Which parameter it is about.
    #[schema(required)]
    param: Option<String>,
    /// For programs.
    #[schema(required)]
    code: Option<&'static str>,
}

/// What handlers answer.
pub type ApiResult<T = HttpResponse> = Result<T, ApiError>;

impl ApiError {
    /// An error with this status; its class follows from that.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let detail = ErrorDetail { message: message.into(), kind, param: None, code: Some(code) };
        Self { status, detail, allow: None }
    }

    /// A parameter that cannot be used.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).about(param)
    }

    /// A body that cannot be read.
    pub fn bad_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", message)
    }

    /// There is no such video, or it is another's.
    pub fn no_such_video() -> Self {
        Self::new(StatusCode::NOT_FOUND, "video_not_found", "There is no such video.")
    }

    /// No room now, but later.
    pub fn busy(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The server stops.
    pub fn shutting_down() -> Self {
        Self::busy("shutting_down", "The server is stopping.")
    }

    /// The same, about a parameter.
    #[must_use]
    pub fn about(mut self, param: &str) -> Self {
        self.detail.param = Some(param.to_string());
        self
    }

    /// A method that this address does not take.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This address takes {allow} alone.");
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { allow: Some(allow), ..error }
    }

    /// What a status says that the web framework answered by itself.
    pub fn of_status(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("The request cannot be answered");
        let code = match status {
            StatusCode::RANGE_NOT_SATISFIABLE => "range_not_satisfiable",
            StatusCode::PRECONDITION_FAILED => "precondition_failed",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request",
        };
        Self::new(status, code, format!("{reason}."))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            StatusCode::UNAUTHORIZED => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        response.json(ErrorBody { error: self.detail.clone() })
    }
}

impl From<StoreError> for ApiError {
    fn from(cause: StoreError) -> Self {
        tracing::error!(%cause, "the database refuses");
        let message = match cause.is_disk_full() {
            true => "The server's disk is full.",
            false => "The server cannot read or write its record of videos.",
        };
        Self::busy("storage_unavailable", message)
    }
}
