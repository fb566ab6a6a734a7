//! `sora eval` as a user runs it, on the embedded model.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn eval(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora"));
    command.current_dir(folder).args(["eval", "--device", "cpu"]).args(arguments);
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["report"].take()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The model obeys prompts that it was not trained on. 80 percent of 24 leave room for chance in a model that is right
/// in more than nine of ten.
#[test]
fn the_embedded_model_obeys_its_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        eval(folder.path(), &["--limit", "24", "--require", "80", "--timed", "0", "--json"]);
    let all = &report(&output)["settings"][0]["accuracy"]["all"];
    assert_eq!(all["asked"], 24);
}

#[test]
fn settings_are_compared_at_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--limit",
        "2",
        "--setting",
        "default",
        "--setting",
        "coast=10",
        "--setting",
        "lpl=fixed:9",
        "--setting",
        "steps=30",
    ];
    let report =
        report(&eval(folder.path(), &[&arguments[..], &["--timed", "1", "--json"]].concat()));
    let settings = report["settings"].as_array().unwrap();
    let names: Vec<_> = settings.iter().map(|of| of["setting"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "coast=10", "lpl=fixed:9", "steps=30"]);
    let psnr = |index: usize| settings[index]["psnr_db"]["mean"].as_f64();
    assert!(psnr(0).is_none() && psnr(1) > psnr(2), "{settings:?}");
    // The model's own steps, named: the same clips to the last bit.
    assert_eq!(psnr(3), Some(100.0));
    assert_eq!(settings[1]["evaluations"]["mean"], 10.0);
    assert_eq!(settings[0]["drift_cosines"].as_array().unwrap().len(), 29);
    assert!(settings.iter().all(|of| of["seconds"].as_f64() > Some(0.0)));
}

#[test]
fn prompts_without_attributes_are_compared_but_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.txt");
    fs::write(&prompts, "# two\na red circle\n{\"prompt\": \"a box\", \"seed\": 7}\n").unwrap();
    let file = prompts.to_str().unwrap();
    let arguments = ["--prompts", file, "--setting", "steps=2", "--timed", "0"];
    let output = eval(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("PSNR dB") && !printed.contains("colour"), "{printed}");
    let refused = eval(folder.path(), &[&arguments[..], &["--require", "80"]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("name colour"), "{}", text(&refused.stderr));
}

#[test]
fn what_cannot_be_done_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.txt"), "# nothing\n").unwrap();
    fs::write(folder.path().join("blank.txt"), "a cat\n{\"prompt\": \"\"}\n").unwrap();
    for (arguments, told) in [
        (&["--prompts", "missing.txt"][..], "missing.txt"),
        (&["--setting", "coast=31"], "2 to 30"),
        (&["--setting", "lpl=dynamic coast=9"], "not both"),
        (&["--setting", "speed=9"], "steps, cfg, lpl, coast or tdtm"),
        (&["--model", "."], "t5"),
        (&["--limit", "0"], "--limit"),
        (&["--require", "nan"], "0 to 100"),
        (&["--prompts", "empty.txt"], "nothing to evaluate"),
        (&["--prompts", "blank.txt"], "prompt is empty"),
    ] {
        let output = eval(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(told), "{arguments:?}: {}", text(&output.stderr));
    }
}
