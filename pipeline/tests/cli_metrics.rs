//! What `sora generate` tells while it works: metrics as lines, pushed metrics, previews.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use serde_json::Value;

const VIDEO: [&str; 7] = ["a red ball", "--steps", "30", "--frames", "5", "--size", "32x32"];

fn generate(folder: &Path, arguments: &[&str]) -> Output {
    let mut sora = Command::new(env!("CARGO_BIN_EXE_sora"));
    // A gateway on this machine is asked directly.
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        sora.env_remove(proxy);
    }
    if !arguments.contains(&"-o") {
        sora.args(["generate", "-o", "video.gif"]);
    } else {
        sora.arg("generate");
    }
    sora.args(VIDEO).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The value of a series in a line of metrics.
fn value(line: &Value, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
    let samples = line["samples"].as_array()?;
    let found = samples.iter().find(|sample| {
        sample["name"] == name && label.is_none_or(|(label, of)| sample["labels"][label] == of)
    });
    found?["value"].as_f64()
}

#[test]
fn lines_of_json_tell_all_metrics_up_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        generate(folder.path(), &["--json", "--metrics", "json", "--metrics-every", "0.1"]);
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap());
    let metrics: Vec<Value> = lines.filter(|line: &Value| line["event"] == "metrics").collect();
    let last = metrics.last().unwrap();
    assert_eq!(value(last, "sora_denoise_steps_computed_total", None), Some(30.0));
    assert_eq!(value(last, "sora_prompts_total", Some(("outcome", "finished"))), Some(1.0));
    assert_eq!(value(last, "sora_prompt_seconds_count", None), Some(1.0));
    assert_eq!(value(last, "sora_prompt_first_step_seconds_count", None), Some(1.0));
    assert_eq!(value(last, "sora_build_info", None), Some(1.0));
    let decoded = ("stage", "vae_decoder");
    assert!(value(last, "sora_stage_busy_seconds_sum", Some(decoded)) > Some(0.0));
    assert!(value(last, "process_resident_memory_bytes", None) > Some(1e6));
}

#[test]
fn a_line_for_people_ends_the_run_and_stays_out_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = generate(folder.path(), &["--quiet", "--metrics", "stdout"]);
    assert!(output.status.success(), "{output:?}");
    let line = text(&output.stdout).lines().last().unwrap();
    assert!(line.contains("steps 30 computed") && line.contains("prompts 1 finished"), "{line}");

    let refused = generate(folder.path(), &["--json", "--metrics", "stdout"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--metrics json"), "{refused:?}");
}

/// Takes pushes until one tells that the prompt is over; gives that one back.
fn gateway(listener: TcpListener) -> JoinHandle<String> {
    thread::spawn(move || {
        loop {
            let push = take_push(listener.accept().unwrap().0);
            if push.contains("sora_prompts_total{outcome=\"finished\"} 1") {
                return push;
            }
        }
    })
}

fn take_push(mut stream: TcpStream) -> String {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let head = text(&request).split_once("\r\n\r\n");
        if let Some((head, body)) = head {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap() {
                break;
            }
        }
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "the push ended early");
        request.extend_from_slice(&part[..read]);
    }
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    text(&request).to_string()
}

#[test]
fn the_end_of_a_run_is_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let pushes = gateway(listener);
    let output = generate(folder.path(), &["--quiet", "--metrics-push", &url]);
    assert!(output.status.success(), "{output:?}");
    let last = pushes.join().unwrap();
    assert!(last.starts_with("PUT /metrics/job/sora/instance/"), "{last}");
    assert!(last.contains("# TYPE sora_stage_busy_seconds histogram"));
}

#[test]
fn a_gateway_that_is_down_is_told_once_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and let go, so that nobody listens there.
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let arguments = ["--quiet", "--metrics-push", &url, "--metrics-push-every", "0.1"];
    let output = generate(folder.path(), &arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(folder.path().join("video.gif").is_file());
    assert_eq!(text(&output.stderr).matches("warning: metrics cannot be pushed").count(), 1);
    let refused = generate(folder.path(), &["--metrics-push", "https://gateway"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("http://gateway:9091"), "{refused:?}");
}

#[test]
fn a_preview_is_a_picture_beside_the_same_video() {
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = generate(with.path(), &["--preview", "preview.png"]);
    assert!(output.status.success(), "{output:?}");
    assert!(generate(without.path(), &[]).status.success());
    let video = |folder: &Path| fs::read(folder.join("video.gif")).unwrap();
    assert_eq!(video(with.path()), video(without.path()));
    let picture = fs::read(with.path().join("preview.png")).unwrap();
    let reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info().unwrap();
    assert_eq!(reader.info().size(), (32, 32));

    let nowhere = generate(with.path(), &["--preview", "no/folder/preview.png", "-o", "other.gif"]);
    assert!(nowhere.status.success(), "a preview that cannot be written is no reason to fail");
    assert_eq!(text(&nowhere.stderr).matches("there will be no previews").count(), 1);
}
