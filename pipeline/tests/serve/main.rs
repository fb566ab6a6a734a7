//! `sora serve` as its clients see it: the real program on the embedded model, over HTTP.
#![cfg(feature = "serve")]
#![allow(clippy::unwrap_used)]

mod api;
mod bad_input;
mod security;
mod server;
mod survival;

/// What needs Python, its package index and a browser: the `openai` client, the page, a fuzzer, many kills, many clients.
#[test]
#[ignore = "left out: needs Python, PyPI and Chromium; .ci/clients runs it"]
fn clients_in_python_and_the_page_in_chromium() {
    assert!(script_succeeds("clients"));
}

/// What needs a real Prometheus: rules, and the pages of `sora generate` and `sora serve`.
#[test]
#[ignore = "left out: needs Prometheus, promtool and curl; .ci/metrics runs it"]
fn metrics_in_prometheus() {
    assert!(script_succeeds("metrics"));
}

fn script_succeeds(name: &str) -> bool {
    let script = format!("{}/../.ci/{name}", env!("CARGO_MANIFEST_DIR"));
    std::process::Command::new(script).status().unwrap().success()
}
