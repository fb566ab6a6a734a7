//! `sora generate --resume` and `sora decode` as a user runs them, on the embedded model.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// A small video, so that a step takes milliseconds.
const SMALL: [&str; 6] = ["--size", "32x24", "--frames", "17", "--device", "cpu"];
const PROMPT: &str = "a red circle";

/// So many that a run is stopped long before its end.
const MANY_STEPS: &str = "200";

/// What a line about a step holds.
const STEP: &str = "\"event\":\"step\"";

fn sora(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

fn generate(folder: &Path, arguments: &[&str]) -> Output {
    sora(folder, &[&["generate"], arguments, &SMALL].concat()).output().unwrap()
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", told(output));
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into());
    let mut names: Vec<PathBuf> = names.collect();
    names.sort();
    names
}

/// A run whose steps are followed, so that it can be stopped at one of them.
fn begin(folder: &Path, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let all = [&["generate", "--json"], arguments, &SMALL].concat();
    let child = sora(folder, &all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn read_until(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) {
    assert!(lines.map_while(Result::ok).any(|line| line.contains(part)), "no {part}");
}

/// Runs until some more steps are done and kills it, as the system does when memory is short.
fn killed_after(steps: usize, folder: &Path, arguments: &[&str]) {
    let (mut child, mut lines) = begin(folder, arguments);
    (0..steps).for_each(|_| read_until(&mut lines, STEP));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What is beside a video, without the seconds.
fn settings(path: &Path) -> Value {
    let mut sidecar = json(path);
    let work = sidecar["work"].as_object_mut().unwrap();
    for seconds in ["stage_seconds", "seconds", "write_seconds"] {
        assert!(work.remove(seconds).is_some(), "{seconds}");
    }
    sidecar
}

/// Two folders: one in which a video is made in one go, and one for the same video with interruptions.
fn folders(arguments: &[&str]) -> (tempfile::TempDir, tempfile::TempDir) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeeds(&generate(whole.path(), arguments));
    (whole, parts)
}

fn are_alike(whole: &Path, parts: &Path, stem: &str, extension: &str) {
    let bytes = |folder: &Path| fs::read(folder.join(format!("{stem}.{extension}"))).unwrap();
    assert!(bytes(whole) == bytes(parts), "the resumed video has other bytes");
    let sidecar = |folder: &Path| settings(&folder.join(format!("{stem}.json")));
    assert_eq!(sidecar(whole), sidecar(parts));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let lpl = "dynamic:from=190,tolerance=0.5";
    let common = [PROMPT, "-o", "film.mp4", "--steps", MANY_STEPS, "--lpl", lpl, "--tdtm", "9"];
    let (whole, parts) = folders(&common);
    killed_after(4, parts.path(), &common);
    let saved = parts.path().join("film.mp4.sora-job");
    assert!(saved.exists(), "{:?}", entries(parts.path()));
    // What is left open is the saved job's.
    let again = [PROMPT, "-o", "film.mp4", "--resume"];
    killed_after(4, parts.path(), &again);
    let last = generate(parts.path(), &["--resume", "-o", "film.mp4"]);
    succeeds(&last);
    assert!(told(&last).contains("going on after"), "{}", told(&last));
    are_alike(whole.path(), parts.path(), "film", "mp4");
    assert!(!saved.exists(), "the saved job is left");
    let finished = generate(parts.path(), &again);
    succeeds(&finished);
    assert!(told(&finished).contains("finished already"), "{}", told(&finished));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on_and_protects_its_work() {
    let common = [PROMPT, "-o", "film.gif", "--steps", MANY_STEPS, "--coast", "150"];
    let (whole, parts) = folders(&common);
    let (child, mut lines) = begin(parts.path(), &common);
    read_until(&mut lines, STEP);
    let asked = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(asked.unwrap().success());
    lines.map_while(Result::ok).for_each(drop);
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130));
    assert!(told(&stopped).contains("--resume"), "{}", told(&stopped));
    assert_eq!(entries(parts.path()), [PathBuf::from("film.gif.sora-job")]);

    let afresh = generate(parts.path(), &common);
    assert_eq!(afresh.status.code(), Some(2));
    assert!(told(&afresh).contains("of 200 steps"), "{}", told(&afresh));
    for (other, named) in [
        (&["a blue ball", "-o", "film.gif"][..], "prompt was `a red circle`"),
        (&[PROMPT, "-o", "film.gif", "--steps", "50"], "steps was 200, and is 50"),
        (&[PROMPT, "-o", "film.gif", "--seed", "7"], "seed was 42, and is 7"),
        (&[PROMPT, "-o", "film.gif", "--dtype", "bf16"], "--dtype f32"),
    ] {
        let refused = generate(parts.path(), &[other, &["--resume"]].concat());
        assert_eq!(refused.status.code(), Some(2), "{other:?}");
        assert!(told(&refused).contains(named), "{other:?}: {}", told(&refused));
    }
    succeeds(&generate(parts.path(), &[&common[..], &["--resume"]].concat()));
    are_alike(whole.path(), parts.path(), "film", "gif");
}

#[test]
fn of_several_videos_only_the_unfinished_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = [PROMPT, "a blue ball", "--steps", "40"];
    // The names follow from the prompts; the second one is begun when the first is.
    let (mut child, mut lines) = begin(folder.path(), &prompts);
    read_until(&mut lines, "\"job\":1,\"event\":\"written\"");
    child.kill().unwrap();
    child.wait().unwrap();
    let first = fs::metadata(folder.path().join("a-red-circle.mp4")).unwrap();
    let second_done = folder.path().join("a-blue-ball.mp4").exists();
    let resumed = generate(folder.path(), &[&prompts[..], &["--resume"]].concat());
    succeeds(&resumed);
    let expected = if second_done { "2 videos finished" } else { "1 videos finished" };
    assert!(told(&resumed).contains(expected), "{}", told(&resumed));
    let after = fs::metadata(folder.path().join("a-red-circle.mp4")).unwrap();
    assert_eq!(first.modified().unwrap(), after.modified().unwrap(), "it was made again");
    assert!(folder.path().join("a-blue-ball.mp4").exists());
    assert!(!folder.path().join("a-red-circle-2.mp4").exists());
    // Without --resume it is another run, beside the first.
    succeeds(&generate(folder.path(), &[PROMPT, "--steps", "1"]));
    assert!(folder.path().join("a-red-circle-2.mp4").exists());
}

#[test]
fn a_kept_latent_is_decoded_to_the_same_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let common = [PROMPT, "--steps", "2", "-o", "film.gif"];
    succeeds(&generate(folder.path(), &[&common[..], &["--keep-latent"]].concat()));
    let decode = |arguments: &[&str]| {
        let all = [&["decode", "film.gif.sora-job", "--device", "cpu"], arguments].concat();
        sora(folder.path(), &all).output().unwrap()
    };
    succeeds(&decode(&["-o", "again.gif"]));
    assert!(fs::read(path("film.gif")).unwrap() == fs::read(path("again.gif")).unwrap());
    let (mut film, mut again) = (settings(&path("film.json")), settings(&path("again.json")));
    film["video"].take();
    again["video"].take();
    assert_eq!(film, again);
    fs::remove_file(path("film.gif")).unwrap();
    succeeds(&decode(&[]));
    assert!(path("film.gif").exists() && path("film.gif.sora-job").exists());
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/weights");
    copy(&weights, &path("other"));
    let config = fs::read_to_string(path("other/generation_config.json")).unwrap();
    let renamed = config.replace("on-device-sora-demo", "another");
    fs::write(path("other/generation_config.json"), renamed).unwrap();
    let other = decode(&["--model", "other", "-o", "other.gif"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        told(&other).contains("other weights (model `on-device-sora-demo`)"),
        "{}",
        told(&other)
    );
    let resumed = ["--resume", "-o", "film.gif", "--model", "other"];
    assert_eq!(generate(folder.path(), &resumed).status.code(), Some(2));
    // A kept latent of a finished video is in nobody's way.
    succeeds(&generate(folder.path(), &common));
    assert!(!path("film.gif.sora-job").exists());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    killed_after(3, folder.path(), &[PROMPT, "-o", "film.gif", "--steps", MANY_STEPS]);
    let good = fs::read(path("film.gif.sora-job")).unwrap();
    let decode = |saved: &str, arguments: &[&str]| {
        let output = sora(folder.path(), &[&["decode", saved], arguments].concat()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        told(&output)
    };
    let text = decode("film.gif.sora-job", &[]);
    assert!(text.contains("of 200 steps") && text.contains("--resume"), "{text}");
    assert!(decode("missing.sora-job", &[]).contains("missing.sora-job"));
    let model = path("a.safetensors");
    fs::write(&model, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    assert!(decode("a.safetensors", &["-o", "x.gif"]).contains("no saved job"));

    let go_on = ["--resume", "-o", "film.gif"];
    let flipped = {
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    for (bytes, reason) in [
        (&good[..good.len() - 1], "damaged"),
        (&flipped, "checksum"),
        (&good[..100], "no saved job"),
    ] {
        fs::write(path("film.gif.sora-job"), bytes).unwrap();
        for arguments in [&go_on[..], &[PROMPT, "-o", "film.gif"]] {
            let refused = generate(folder.path(), arguments);
            assert_eq!(refused.status.code(), Some(2), "{reason}");
            assert!(told(&refused).contains(reason), "{reason}: {}", told(&refused));
        }
    }
    fs::remove_file(path("film.gif.sora-job")).unwrap();
    let nothing = generate(folder.path(), &go_on);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(told(&nothing).contains("nothing is saved"), "{}", told(&nothing));
    let nameless = generate(folder.path(), &["--resume"]);
    assert!(told(&nameless).contains("-o"), "{}", told(&nameless));
    let afresh = generate(folder.path(), &[PROMPT, "-o", "film.gif", "--steps", "1", "--resume"]);
    succeeds(&afresh);
    assert!(told(&afresh).contains("beginning afresh"), "{}", told(&afresh));
}
