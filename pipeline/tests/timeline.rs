//! The timeline of a run, as `sora generate --trace` writes it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a thread did, and from when until when, in microseconds.
struct Span {
    row: String,
    name: String,
    arguments: BTreeMap<String, String>,
    begin: f64,
    end: f64,
}

impl Span {
    fn block(&self) -> usize {
        self.arguments["block"].parse().unwrap()
    }

    fn overlaps(&self, other: &Span) -> bool {
        self.begin < other.end && other.begin < self.end
    }
}

/// All spans of a file, in the order in which they end; every one that begins must end.
fn read(file: &Path) -> Vec<Span> {
    let events: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let (mut rows, mut open, mut spans) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for event in events {
        let thread = event["tid"].as_u64().unwrap();
        let stack: &mut Vec<Span> = open.entry(thread).or_default();
        let name = event["name"].as_str().unwrap().to_string();
        let moment = || event["ts"].as_f64().unwrap();
        match event["ph"].as_str().unwrap() {
            "M" => drop(rows.insert(thread, event["args"]["name"].as_str().unwrap().to_string())),
            "B" => stack.push(Span {
                row: rows[&thread].clone(),
                arguments: serde_json::from_value(event["args"].clone()).unwrap(),
                begin: moment(),
                end: f64::NAN,
                name,
            }),
            "E" => {
                let mut span = stack.pop().unwrap();
                assert_eq!(span.name, name);
                span.end = moment();
                spans.push(span);
            }
            other => panic!("an event of phase {other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "spans without an end");
    spans
}

fn generate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora"));
    command
        .current_dir(folder)
        .args(["generate", "a red circle", "-o", "film.gif", "--trace", "run.json"])
        .args(["--size", "32x24", "--frames", "5", "--device", "cpu"])
        .stdin(Stdio::null());
    command
}

/// A run in which every block is read in every step, at a disk's pace.
fn streamed(read_ahead: &str) -> Vec<Span> {
    let folder = tempfile::tempdir().unwrap();
    let output = generate(folder.path())
        .args(["--steps", "3", "--no-retain", "--read-limit", "20", "--read-ahead", read_ahead])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    read(&folder.path().join("run.json"))
}

/// The loads and the computes of the transformer's blocks.
fn transformer(spans: &[Span]) -> (Vec<&Span>, Vec<&Span>) {
    let of = |row: &str, name: &str| {
        spans.iter().filter(|span| span.row == row && span.name == name).collect::<Vec<_>>()
    };
    (of("sora-block_loader_stdit_worker_0", "load"), of("sora-stdit_worker_0", "compute"))
}

#[test]
fn every_stage_has_a_row_and_the_next_block_is_read_while_one_computes() {
    let spans = streamed("1");
    let rows: BTreeSet<&str> = spans.iter().map(|span| span.row.as_str()).collect();
    for stage in [
        "prompt_embedder",
        "denoise_controller",
        "stdit_worker_0",
        "vae_decoder",
        "block_loader_prompt_embedder",
        "block_loader_stdit_worker_0",
        "block_loader_vae_decoder",
    ] {
        assert!(rows.contains(format!("sora-{stage}").as_str()), "no row {stage}: {rows:?}");
    }
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let expected = [
        "begin",
        "compute",
        "decode",
        "finish",
        "frames",
        "load",
        "save",
        "wait",
        "wait for consumer",
        "wait for memory",
        "wait for slot",
        "write",
    ];
    assert_eq!(names, BTreeSet::from(expected));

    let (loads, computes) = transformer(&spans);
    let blocks = 1 + computes.iter().map(|span| span.block()).max().unwrap();
    assert_eq!(computes.len(), 3 * blocks);
    assert!(loads.len() >= computes.len());
    let read: u64 = loads[..blocks]
        .iter()
        .map(|span| span.arguments["stored_bytes"].parse::<u64>().unwrap())
        .sum();
    assert!(read > 0);
    assert!(computes.iter().all(|span| span.arguments["job"] == "0"));
    let hidden = computes.iter().any(|compute| {
        let next = loads.iter().filter(|load| load.block() == (compute.block() + 1) % blocks);
        next.into_iter().any(|load| load.overlaps(compute))
    });
    assert!(hidden, "no block was read while the one before it computed");
}

#[test]
fn without_reading_ahead_nothing_is_read_while_a_block_computes() {
    let spans = streamed("0");
    let (loads, computes) = transformer(&spans);
    assert!(!loads.is_empty() && !computes.is_empty());
    for compute in computes {
        assert!(!loads.iter().any(|load| load.overlaps(compute)), "block {}", compute.block());
    }
}

#[cfg(unix)]
#[test]
fn the_timeline_of_a_run_that_is_stopped_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = generate(folder.path())
        .args(["--steps", "1000", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let stepped = lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"step\""));
    assert!(stepped, "no step was reported");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    lines.map_while(Result::ok).for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!read(&folder.path().join("run.json")).is_empty());
}

#[test]
fn a_timeline_that_cannot_be_written_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("run.json")).unwrap();
    let output = generate(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.starts_with("error: cannot write the timeline run.json"), "{told}");
}
