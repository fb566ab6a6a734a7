//! `sora bench block` and its like as a user runs them, on tiny parts; figures are looked at only where they are counts.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sora(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sora"))
        .arg("bench")
        .args(arguments)
        .args(["--repeat", "1", "--iterations", "1", "--device", "cpu", "--threads", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn bench(arguments: &[&str]) -> Value {
    let output = sora(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = sora(arguments);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
    printed
}

/// A small block: 2 rows of 4 frames of 2x2 tokens.
const BLOCK: &[&str] =
    &["block", "--preset", "tiny", "--frames", "4", "--height", "4", "--width", "4"];

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|figure| figure > 0.0 && figure.is_finite())
}

#[test]
fn every_part_is_timed_beside_a_matrix_product() {
    // In 48 channels: two blocks, 32 tokens, 14 products each; 8 and, of half of the tokens, 6 where they are merged.
    let products = |each: usize| (2 * 2 * 32 * each * 48 * 48) as f64 / 1e9;
    let t5 = (2 * 9 * (4 * 32 * 32 + 3 * 32 * 64)) as f64 / 1e9;
    for (arguments, gflop) in [
        (BLOCK.to_vec(), Some(products(14))),
        ([BLOCK, &["--tdtm"]].concat(), Some(products(11))),
        (vec!["t5-block", "--preset", "tiny", "--tokens", "9"], Some(t5)),
        (vec!["vae-spatial", "--preset", "tiny", "--size", "16"], None),
        (vec!["vae-temporal", "--preset", "tiny", "--size", "16"], None),
    ] {
        let found = bench(&arguments);
        assert_eq!((&found["what"], &found["threads"]), (&arguments[0].into(), &1.into()));
        assert_eq!(found["gflop"].as_f64(), gflop, "{found}");
        assert_eq!(positive(&found["gflop_s"]), gflop.is_some(), "{found}");
        assert_eq!(positive(&found["of_matmul"]), gflop.is_some(), "{found}");
        assert!(positive(&found["median_s"]) && positive(&found["max_s"]), "{found}");
        assert!(positive(&found["matmul"]["gflop_s"]), "{found}");
        #[cfg(target_os = "linux")]
        assert!(positive(&found["peak_rss_mib"]), "{found}");
        assert!(positive(&found["machine"]["cores"]), "{found}");
        assert!(found["against"].is_null() && found["time_ratio"].is_null(), "{found}");
    }
}

#[test]
fn the_matrix_product_is_compared_with_nothing_but_another_program() {
    let found = bench(&["matmul"]);
    assert_eq!(found["gflop"].as_f64(), Some(2.0 * 2048f64.powi(3) / 1e9));
    assert!(positive(&found["gflop_s"]) && found["matmul"].is_null(), "{found}");
}

#[test]
fn whole_videos_are_timed() {
    let found = bench(&["e2e", "--size", "32x24", "--frames", "5", "--steps", "2"]);
    assert_eq!(found["task"]["request"]["sampling"]["steps"], 2);
    assert!(positive(&found["median_s"]) && positive(&found["matmul"]["median_s"]), "{found}");
    assert!(found["gflop"].is_null(), "{found}");
}

#[cfg(unix)]
#[test]
fn another_program_is_compared_with() {
    let command =
        r#"echo "{\"median_s\": {threads}000, \"peak_rss_mib\": 1000000, \"gflop_s\": 2}""#;
    let found = bench(&[BLOCK, &["--against", command]].concat());
    let against = &found["against"];
    assert_eq!((against["median_s"].as_f64(), against["gflop_s"].as_f64()), (Some(1e3), Some(2.0)));
    for (ratio, ours, theirs) in
        [("time_ratio", "median_s", 1e3), ("memory_ratio", "peak_rss_mib", 1e6)]
    {
        let [ratio, ours] = [ratio, ours].map(|name| found[name].as_f64().unwrap());
        // The parser of JSON may read each of them with an error of its last bit.
        assert!((ratio * theirs / ours - 1.0).abs() < 4.0 * f64::EPSILON, "{found}");
    }
    assert!(found["against_command"].as_str().unwrap().contains("1000"));

    let output = sora(&[BLOCK, &["--against", command]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    for told in [
        "f32 on cpu, threads: 1",
        "STDiT3 pair",
        "against `echo",
        "matmul",
        "of the other program: time",
    ] {
        assert!(table.contains(told), "{told} in {table}");
    }
}

#[cfg(unix)]
#[test]
fn another_program_that_fails_or_prints_something_else_is_told() {
    for (command, told) in [
        ("echo no such module >&2; exit 3", "exit status: 3: no such module"),
        ("echo ready", "printed `ready`"),
        ("true", "printed nothing"),
    ] {
        let printed = refusal(&[BLOCK, &["--against", command]].concat());
        assert!(printed.contains(told), "{printed}");
        assert!(printed.contains("the run `against` failed"), "{printed}");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for (arguments, told) in [
        (&["block", "--frames", "0"][..], "1..=4096"),
        (&["block", "--tokens", "301"], "1..=300"),
        (&["vae-spatial", "--size", "250"], "a multiple of 8"),
        (&["t5-block", "--preset", "huge"], "opensora-v1.2"),
        (&["e2e", "--steps", "0"], "steps"),
    ] {
        let printed = refusal(arguments);
        assert!(printed.contains(told), "{arguments:?}: {printed}");
    }
}
