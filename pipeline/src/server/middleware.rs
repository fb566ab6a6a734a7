//! What happens to every request and answer: a line in the log, headers that keep browsers careful, and refusal of what
//! other web pages send.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpResponse, ResponseError};

use super::api::{ApiError, ApiState};
use super::meter;

/// Headers of every answer. Scripts, styles and pictures come from this server alone, and no page may frame it.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; \
      object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The longest part of an address that goes to the log.
const LOGGED_CHARS: usize = 120;

/// Guards, answers, counts and logs a request. Neither its query nor its body goes to the log.
pub(super) async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let path: String = request.path().chars().take(LOGGED_CHARS).collect();
    let answered = match guard(&request) {
        Ok(()) => match next.call(request).await {
            Ok(response) => response.map_into_boxed_body(),
            Err(cause) => return Err(cause),
        },
        Err(refused) => request.into_response(refused.error_response()),
    };
    let mut answered = in_words(answered);
    for (name, value) in HEADERS {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        answered.headers_mut().insert(name, value);
    }
    let (status, duration) = (answered.status().as_u16(), started.elapsed());
    let pattern = answered.request().match_pattern();
    meter::count_request(pattern.as_deref(), &method, status, duration);
    let ms = duration.as_millis() as u64;
    tracing::info!(%method, %path, status, ms, "request");
    Ok(answered)
}

/// Gives errors that the framework answers without words the API's body.
fn in_words(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !is_error || is_json {
        return response;
    }
    let range = response.headers().get(CONTENT_RANGE).cloned();
    let mut worded: HttpResponse = ApiError::of_status(status).error_response();
    if let Some(range) = range {
        worded.headers_mut().insert(CONTENT_RANGE, range);
    }
    response.into_response(worded)
}

/// Refuses what a page of another site makes a browser send: it could use a server that asks for no key.
fn guard(request: &ServiceRequest) -> Result<(), ApiError> {
    let refused = |code, message| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    let headers = request.headers();
    let is_open = request.app_data::<Data<ApiState>>().is_some_and(|state| state.keys.is_open());
    // A name that an attacker has lead here (DNS rebinding) makes the page of that name this server's own.
    if is_open && !text(headers, &HOST).is_none_or(is_own_name) {
        return refused("unknown_host", "The server without keys answers to localhost alone.");
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && let Some(origin) = text(headers, &ORIGIN) {
        let origin_host = origin.split_once("://").map(|(_, host)| host);
        if origin_host.is_none() || origin_host != text(headers, &HOST) {
            return refused("cross_origin", "Requests of other sites' pages are not taken.");
        }
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_s_names_are_its_own() {
        for own in ["localhost", "LOCALHOST:80", "127.0.0.1:9", "127.3.2.1", "[::1]:8000", "[::1]"]
        {
            assert!(is_own_name(own), "{own}");
        }
        for other in ["", "example.org", "localhost.example.org:80", "10.0.0.1:8000", "127.0.0.1.x"]
        {
            assert!(!is_own_name(other), "{other}");
        }
    }
}
