//! Bodies of requests: JSON, multipart forms and URL-encoded forms, all of them to the same fields.

use std::time::Duration;

use actix_multipart::{Multipart, MultipartError};
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{Bytes, Payload};
use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::error::{ApiError, ApiResult};
use super::fields::Fields;

/// How long a client may take to send a body. Our choice: prompts are short.
const PATIENCE: Duration = Duration::from_secs(30);

/// How deep fields of forms nest (`a[b][c]`). Our choice: nothing that is known nests deeper than once.
const DEEPEST: usize = 4;

/// The field that a picture to begin from comes in.
pub(super) const INPUT_REFERENCE: &str = "input_reference";

/// Reads a body's fields.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    limit_bytes: usize,
) -> ApiResult<Fields> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit_bytes) {
        return Err(too_large(limit_bytes));
    }
    let reading = parse(request, limited(payload, limit_bytes), limit_bytes);
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| {
        let message = "The request's body did not come in time.";
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
    })
}

async fn parse(
    request: &HttpRequest,
    body: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
    limit_bytes: usize,
) -> ApiResult<Fields> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let map = match essence.as_str() {
        "application/json" => from_json(&collected(body, limit_bytes).await?)?,
        "application/x-www-form-urlencoded" => {
            from_urlencoded(&collected(body, limit_bytes).await?)?
        }
        "multipart/form-data" => from_multipart(request, body, limit_bytes).await?,
        _ => {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The content type must be application/json or multipart/form-data.",
            ));
        }
    };
    Ok(Fields::new(map))
}

fn from_json(bytes: &[u8]) -> ApiResult<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ApiError::bad_body("The body must be a JSON object.")),
        Err(cause) => Err(ApiError::bad_body(format!("The body is not JSON: {cause}."))),
    }
}

fn from_urlencoded(bytes: &[u8]) -> ApiResult<Map<String, Value>> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes)
        .map_err(|_| ApiError::bad_body("The body is not a URL-encoded form."))?;
    let mut fields = Map::new();
    for (name, value) in pairs {
        insert(&mut fields, &name, value)?;
    }
    Ok(fields)
}

async fn from_multipart(
    request: &HttpRequest,
    body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    limit_bytes: usize,
) -> ApiResult<Map<String, Value>> {
    let refused = |cause: MultipartError| match cause {
        MultipartError::Payload(cause) => unreadable(&cause, limit_bytes),
        cause => ApiError::bad_body(format!("The multipart form cannot be read: {cause}.")),
    };
    let mut fields = Map::new();
    let mut parts = Multipart::new(request.headers(), body);
    while let Some(part) = parts.next().await {
        let mut part = part.map_err(refused)?;
        let name = part.name().unwrap_or_default().to_string();
        if name.is_empty() {
            return Err(ApiError::bad_body("A part of the multipart form has no name."));
        }
        let is_file =
            part.content_disposition().is_some_and(|value| value.get_filename().is_some());
        if is_file {
            let message = match name.as_str() {
                INPUT_REFERENCE => super::create::NO_INPUT_REFERENCE,
                _ => "A file is not expected here.",
            };
            return Err(ApiError::invalid(&name, message));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = part.next().await {
            bytes.extend_from_slice(&chunk.map_err(refused)?);
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| ApiError::invalid(&name, "The field is not text in UTF-8."))?;
        insert(&mut fields, &name, text)?;
    }
    Ok(fields)
}

/// Puts a form's field where its name says: `a[b]` is field `b` of `a`.
fn insert(fields: &mut Map<String, Value>, name: &str, value: String) -> ApiResult<()> {
    let bad_name = || ApiError::invalid(name, "The field's name cannot be understood.");
    let (first, rest) = name.split_once('[').map_or((name, None), |(a, b)| (a, Some(b)));
    let mut path = vec![first];
    if let Some(rest) = rest {
        path.extend(rest.strip_suffix(']').ok_or_else(bad_name)?.split("]["));
    }
    if path.len() > DEEPEST || path.iter().any(|part| part.is_empty()) {
        return Err(bad_name());
    }
    let (last, outer) = path.split_last().ok_or_else(bad_name)?;
    let mut place = fields;
    for part in outer {
        let inner = place.entry(*part).or_insert_with(|| Value::Object(Map::new()));
        place = inner.as_object_mut().ok_or_else(bad_name)?;
    }
    match place.insert((*last).to_string(), Value::String(value)) {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(name, "The field is given twice.")),
    }
}

/// A body that ends with an error beyond `limit_bytes`.
fn limited(
    payload: Payload,
    limit_bytes: usize,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
    let mut bytes = 0usize;
    payload.map(move |chunk| {
        let chunk = chunk?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes > limit_bytes { Err(PayloadError::Overflow) } else { Ok(chunk) }
    })
}

async fn collected(
    mut body: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    limit_bytes: usize,
) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|cause| unreadable(&cause, limit_bytes))?);
    }
    Ok(bytes)
}

fn unreadable(cause: &PayloadError, limit_bytes: usize) -> ApiError {
    match cause {
        PayloadError::Overflow => too_large(limit_bytes),
        _ => ApiError::bad_body("The request's body is not complete."),
    }
}

fn too_large(limit_bytes: usize) -> ApiError {
    let message = format!("The request's body is larger than {limit_bytes} bytes.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_of_form_fields_nest() {
        let mut fields = Map::new();
        for (name, value) in [("seed", "42"), ("metadata[a]", "1"), ("metadata[b]", "2")] {
            insert(&mut fields, name, value.into()).unwrap();
        }
        let expected = serde_json::json!({"seed": "42", "metadata": {"a": "1", "b": "2"}});
        assert_eq!(Value::Object(fields.clone()), expected);
        for bad in ["a[", "a[]", "[a]", "a[b][c][d][e]", "seed[a]", "seed", "a[b]c"] {
            assert!(insert(&mut fields, bad, String::new()).is_err(), "{bad}");
        }
    }
}
