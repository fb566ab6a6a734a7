//! What a server counts of its requests and its queue, and whether it can work.

#![allow(clippy::disallowed_macros)]

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::names;

/// A request was answered: `route` is the pattern of its path that the server knows (one constant for all paths that it
/// does not know), so that nobody from outside can make up series.
pub fn record_http_request(
    route: &'static str,
    method: &'static str,
    status: u16,
    duration: Duration,
) {
    let status = status.to_string();
    counter!(
        names::HTTP_REQUESTS,
        names::LABEL_ROUTE => route,
        names::LABEL_METHOD => method,
        names::LABEL_STATUS => status,
    )
    .increment(1);
    histogram!(
        names::HTTP_REQUEST_SECONDS,
        names::LABEL_ROUTE => route,
        names::LABEL_METHOD => method,
    )
    .record(duration.as_secs_f64());
}

/// So many prompts are on the server's disk and wait for their turn.
pub fn record_server_queue(prompts: usize) {
    gauge!(names::SERVER_QUEUE_PROMPTS).set(prompts as f64);
}

/// The server can make no video at the moment, or can again.
pub fn record_server_trouble(is_in_trouble: bool) {
    gauge!(names::SERVER_TROUBLE).set(f64::from(u8::from(is_in_trouble)));
}
