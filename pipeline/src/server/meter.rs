//! What the server tells the metrics: its requests by address, and how many videos wait.

use std::time::Duration;

use actix_web::http::Method;
use sora_telemetry::{PromptOutcome, record_http_request, record_prompt, record_server_queue};

use super::clock;
use super::live::LiveVideos;
use super::store::Store;
use super::{api, page};

/// The route of addresses that the server does not know.
const NO_ROUTE: &str = "none";

/// How often the queue is counted at most: a burst of prompts is one change.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Counts a request that was answered; `pattern` is that of the address, if the server knows it.
pub(super) fn count_request(
    pattern: Option<&str>,
    method: &Method,
    status: u16,
    duration: Duration,
) {
    record_http_request(route(pattern), method_word(method), status, duration);
}

/// Counts a video that is over: from when it was accepted, by whichever process.
pub(super) fn count_video(outcome: PromptOutcome, created_at: i64) {
    record_prompt(outcome, clock::since(created_at));
}

/// Counts what waits, after each change, for ever.
pub(super) async fn count_queue(store: &Store, live: &LiveVideos) {
    let mut changes = live.changes();
    loop {
        match store.waiting().await {
            Ok(videos) => record_server_queue(videos),
            Err(cause) => tracing::warn!(%cause, "the queue cannot be counted"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Patterns are few and the server's own, so that nobody can make up series of metrics.
fn route(pattern: Option<&str>) -> &'static str {
    let mut known = api::ADDRESSES.into_iter().chain(page::addresses());
    known.find(|known| Some(*known) == pattern).unwrap_or(NO_ROUTE)
}

fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_addresses_and_methods_become_labels() {
        for known in ["/v1/videos/{id}/content", "/", "/page.js", "/metrics"] {
            assert_eq!(route(Some(known)), known);
        }
        assert_eq!((route(Some("/v1/videos/video_1")), route(None)), (NO_ROUTE, NO_ROUTE));
        assert_eq!((method_word(&Method::GET), method_word(&Method::TRACE)), ("GET", "other"));
    }
}
