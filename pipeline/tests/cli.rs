//! The `sora` command as a user runs it, on the embedded model.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Few steps: these tests are about the command, not about the pictures.
const FEW_STEPS: [&str; 4] = ["--steps", "2", "--device", "cpu"];

fn sora(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora"));
    command.current_dir(folder).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    command
}

fn generate(folder: &Path, arguments: &[&str]) -> Output {
    sora(folder).arg("generate").args(arguments).args(FEW_STEPS).output().unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_command_makes_a_video_named_after_its_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let output = generate(folder.path(), &["A red circle, moving!"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let stem = "a-red-circle-moving";
    assert!(printed.starts_with(stem) && printed.lines().count() == 1, "{printed}");
    assert!(fs::metadata(folder.path().join(printed.trim())).unwrap().len() > 1000);
    let sidecar = fs::read_to_string(folder.path().join(format!("{stem}.json"))).unwrap();
    let sidecar: Value = serde_json::from_str(&sidecar).unwrap();
    assert_eq!(sidecar["request"]["seed"], 42);
    assert_eq!(sidecar["request"]["prompt"], "A red circle, moving!");
    assert_eq!(sidecar["work"]["steps_computed"], 2);
    assert_eq!(entries(folder.path()).len(), 2);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let video = |name: &str, seed: &str, threads: &str| {
        let output = generate(
            folder.path(),
            &["a blue square", "-o", name, "--seed", seed, "--threads", threads],
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        fs::read(folder.path().join(name)).unwrap()
    };
    let first = video("a.gif", "7", "1");
    assert!(first == video("b.gif", "7", "2"), "two runs with one seed differ");
    assert!(first != video("c.gif", "8", "1"), "the seed has no effect");
}

#[test]
fn prompts_from_standard_input_become_videos_and_lines_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = sora(folder.path())
        .args(["generate", "--prompts", "-", "-o", "new/{index}.png", "--json"])
        .args(FEW_STEPS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a red circle\n\n# a comment\na green ball\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for job in [1, 2] {
        let names: Vec<&str> = events
            .iter()
            .filter(|event| event["job"] == job)
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        let order = ["queued", "embedding", "embedded", "step", "step", "decoding", "chunk"];
        assert_eq!(names[..order.len()], order, "job {job}");
        assert_eq!(names[names.len() - 2..], ["finished", "written"], "job {job}");
    }
    let expected = ["1.json", "1.png", "2.json", "2.png"].map(PathBuf::from);
    assert_eq!(entries(&folder.path().join("new")), expected);
}

#[test]
fn what_cannot_be_done_is_told_before_the_work_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, told) in [
        (&[][..], "no prompt"),
        (&[" "], "prompt is empty"),
        (&["@home"], "nothing is left of the prompt"),
        (&["x", "-o", "film.avi"], "known are"),
        (&["x", "-o", "."], "in the way"),
        (&["x", "-o", "{name}.gif"], "{index}"),
        (&["x", "y", "-o", "{seed}-{name}.gif"], "{prompt}"),
        (&["x", "--lpl", "fixed:2"], "leap at step 2"),
        (&["x", "--cfg-scale", "-1"], "guidance scale"),
        (&["x", "--fps", "0"], "frames a second"),
        (&["x", "--fps", "10000"], "240"),
        (&["x", "--model", "/no/such/model"], "/no/such/model"),
        (&["x", "--resolution", "123p"], "240p"),
        (&["x", "--size", "7x64"], "WIDTHxHEIGHT"),
        (&["x", "--prompts", "/no/such/file"], "cannot read /no/such/file"),
        (&["x", "-o", "new/a.gif", "--workers", "1000"], "workers"),
    ] {
        let output = generate(folder.path(), arguments);
        let told_user = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told_user}");
        assert!(told_user.starts_with("error: "), "{arguments:?}: {told_user}");
        assert!(told_user.contains(told), "{arguments:?}: {told_user}");
        assert!(!told_user.contains("panicked") && !told_user.contains("backtrace"), "{told_user}");
    }
    let no_device = ["generate", "x", "-o", "new/a.gif", "--device", "cuda:99"];
    let output = sora(folder.path()).args(no_device).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cuda:99"), "{}", text(&output.stderr));
    assert!(entries(folder.path()).is_empty(), "{:?}", entries(folder.path()));
}

#[test]
fn one_video_that_fails_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = sora(folder.path())
        .args(["generate", "a red circle", "a blue ball", "-o", "{index}.gif", "--json"])
        .args(["--steps", "20", "--device", "cpu"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut events = vec![lines.next().unwrap()];
    // It comes in between after the outputs were checked: no file can take the name of a folder.
    fs::create_dir(folder.path().join("1.json")).unwrap();
    events.extend(lines);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let last = |job: usize| {
        let mut events = events.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.rfind(|event| event["job"] == job).unwrap()
    };
    assert_eq!((&last(1)["event"], &last(1)["stage"]), (&"failed".into(), &"write".into()));
    assert_eq!(last(2)["event"], "written");
    // What was computed of the one that failed is left, to go on with.
    let left = ["1.gif.sora-job", "1.json", "2.gif", "2.json"].map(PathBuf::from);
    assert_eq!(entries(folder.path()), left);
}

#[cfg(unix)]
#[test]
fn a_full_disk_fails_the_video_and_removes_what_was_written() {
    // The shell's limit of a file's size (in blocks of 512 or 1024 bytes) stands for a full disk; without the signal
    // that comes with it, writing fails as it does there. The saved latent is smaller than the video.
    for (blocks, name, left) in [
        ("1", "film.gif.sora-job", None),
        ("48", "film.gif", Some(PathBuf::from("film.gif.sora-job"))),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"ulimit -f "$1"; trap '' XFSZ; exec "$0" generate "a red circle" -o film.gif --steps 2"#;
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_sora"), blocks])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("cannot write {name}")), "{told}");
        assert_eq!(told.contains("--resume"), left.is_some(), "{told}");
        assert_eq!(entries(folder.path()), left.into_iter().collect::<Vec<_>>());
    }
}

#[cfg(unix)]
#[test]
fn asked_to_stop_it_ends_with_130_and_leaves_saved_work_alone() {
    // Not `-HUP`: under nohup, or a runner that does as it does, a hangup is rightly ignored.
    for signal in ["-INT", "-TERM"] {
        stops_in_order(signal);
    }
}

#[cfg(unix)]
fn stops_in_order(signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = sora(folder.path())
        .args(["generate", "a red circle", "a blue ball", "-o", "film.gif", "--json"])
        .args(["--steps", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let stepped = lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"step\""));
    assert!(stepped, "no step was reported");
    let interrupted = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    // Read on, as a terminal would, or the child may wait for room in the pipe.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
    for job in ["1", "2"] {
        let cancelled = format!(r#"{{"job":{job},"event":"cancelled"}}"#);
        assert!(rest.contains(&cancelled), "{signal}: no end of job {job} in {rest:?}");
    }
    let saved = entries(folder.path());
    let is_saved = |name: &PathBuf| name.extension().is_some_and(|is| is == "sora-job");
    assert!(!saved.is_empty() && saved.iter().all(is_saved), "{saved:?}");
}

mod verify {
    use super::*;

    fn verify(folder: &Path, arguments: &[&str]) -> Output {
        sora(folder).arg("verify").args(arguments).args(["--device", "cpu"]).output().unwrap()
    }

    /// The smallest file that holds no tensor.
    const NO_TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

    #[test]
    fn an_unknown_kind_fails() {
        let folder = tempfile::tempdir().unwrap();
        let case = folder.path().join("cases/new");
        fs::create_dir_all(&case).unwrap();
        let document = r#"{"schema": 1, "set": "x", "name": "new", "kind": "telepathy"}"#;
        fs::write(case.join("case.json"), document).unwrap();
        fs::write(case.join("tensors.safetensors"), NO_TENSORS).unwrap();
        let output = verify(folder.path(), &["cases"]);
        let printed = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[0].contains("telepathy") && lines[0].ends_with("FAIL"), "{printed}");
        assert_eq!(lines[1..], ["0 passed, 1 failed"]);
    }

    #[test]
    fn a_recorded_case_passes_and_a_falsified_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let recorded =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/rflow-timesteps");
        for name in ["a-recorded", "b-falsified"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            for file in ["case.json", "tensors.safetensors"] {
                fs::copy(recorded.join(file), folder.path().join(name).join(file)).unwrap();
            }
        }
        let falsified = folder.path().join("b-falsified/tensors.safetensors");
        let mut bytes = fs::read(&falsified).unwrap();
        // The exponent of the last number.
        *bytes.last_mut().unwrap() ^= 0x40;
        fs::write(&falsified, bytes).unwrap();
        let output = verify(folder.path(), &["."]);
        let printed = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[0].ends_with("pass"), "{printed}");
        assert!(lines[1].contains("first wrong") && lines[1].ends_with("FAIL"), "{printed}");
        assert_eq!(lines[2..], ["1 passed, 1 failed"]);
    }

    #[test]
    fn a_reader_that_went_away_ends_it_quietly() {
        let folder = tempfile::tempdir().unwrap();
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = sora(folder.path())
            .args(["verify", &cases.join("rflow-timesteps").to_string_lossy(), "--device", "cpu"])
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(130)));
    }

    #[test]
    fn no_cases_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let output = verify(folder.path(), &["."]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("case.json"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_made_up_model_can_be_packed_verified_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = sora(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let done = |arguments: &[&str], printed: &str| {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.trim()), (Some(0), printed), "{arguments:?}: {stderr}");
    };
    done(&["synth", "--preset", "tiny", "--out", "random"], "random");
    done(&["pack", "random", "--out", "packed", "--dtype", "bf16"], "packed");
    done(&["pack", "--verify", "packed"], "packed");
    done(&["generate", "a ball", "--model", "packed", "-o", "a.gif", "--device", "cpu"], "a.gif");

    let (code, _, stderr) = run(&["synth", "--preset", "tiny", "--out", "random"]);
    assert!(code == Some(2) && stderr.contains("--force"), "{stderr}");
    fs::write(folder.path().join("packed/vae/config.json"), "{}").unwrap();
    let (code, stdout, _) = run(&["pack", "--verify", "packed"]);
    assert_eq!((code, stdout.as_str()), (Some(1), "vae/config.json is not what was written\n"));
}

#[test]
fn the_model_in_the_program_can_be_quantised_measured_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = sora(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, stdout, stderr) = run(&["quantize", "--type", "q8_0", "--out", "small"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "small\n"), "{stderr}");
    assert!(stderr.contains("stdit3: 84 tensors in Q8_0\n"), "{stderr}");
    let (code, _, stderr) = run(&["pack", "--verify", "small"]);
    assert_eq!(code, Some(0), "{stderr}");

    let compared = ["verify", "--model", "small", "--against", "embedded", "--device", "cpu"];
    let (code, stdout, stderr) = run(&compared);
    assert_eq!(code, Some(0), "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("t5 ") && lines[1].starts_with("stdit3 "), "{stdout}");
    assert!(lines.iter().all(|line| line.ends_with("pass") && line.contains("Q8_0")), "{stdout}");
    let (code, stdout, _) = run(&[&compared[..], &["--json"]].concat());
    let network: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!((code, &network["passed"]), (Some(0), &true.into()));
    assert!(network["worst_relative"].as_f64().unwrap() < 0.01, "{network}");
    let (code, _, stderr) = run(&["verify", "--model", "small"]);
    assert!(code == Some(2) && stderr.contains("--against"), "{stderr}");

    let video = ["generate", "a ball", "--steps", "2", "--model", "small", "-o", "a.gif"];
    let (code, stdout, stderr) = run(&[&video[..], &["--device", "cpu"]].concat());
    assert_eq!((code, stdout.as_str()), (Some(0), "a.gif\n"), "{stderr}");
    let (code, _, stderr) = run(&["quantize", "--model", "small", "--type", "q4_k", "--out", "x"]);
    assert!(code == Some(2) && stderr.contains("quantised already"), "{stderr}");
    assert!(!folder.path().join("x").exists() && !folder.path().join("x.partial").exists());
}
