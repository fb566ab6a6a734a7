//! `sora serve` as its clients see it: the real program on the embedded model, over HTTP.
#![cfg(feature = "serve")]
#![allow(clippy::unwrap_used)]

mod api;
mod bad_input;
mod security;
mod server;
mod survival;

/// What needs Python and its package index: the `openai` client, a fuzzer, many kills, many clients.
#[test]
#[ignore = "left out: needs Python and PyPI; .ci/clients runs it"]
fn clients_in_python() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/clients");
    let status = std::process::Command::new(script).status().unwrap();
    assert!(status.success());
}
