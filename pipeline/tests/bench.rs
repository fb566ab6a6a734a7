//! `sora bench` as a user runs it, on the embedded model; figures are looked at only where they are counts.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sora"))
        .arg("bench")
        .args(arguments)
        .args(["--size", "32x24", "--frames", "5", "--repeat", "1", "--device", "cpu", "--json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|of| of["name"] == name).unwrap()
}

#[test]
fn an_ablation_has_every_variant_with_its_evaluations_and_reads() {
    // Of one prompt: how many sweeps several share depends on when each joins.
    let found = bench(&["ablation", "--steps", "4", "--prompts", "1"]);
    let variants = &found["report"];
    let of = |name: &str, figure: &str| {
        named(variants, name)["median"].pointer(figure).unwrap().as_u64().unwrap()
    };
    for (name, evaluations) in
        [("base", 4), ("+LPL", 3), ("+TDTM", 4), ("+CI", 4), ("+CI-DL", 4), ("all", 3)]
    {
        assert_eq!(of(name, "/evaluations"), evaluations, "{name}");
        assert!(of(name, "/peak_ledger_bytes") > 0, "{name}");
        #[cfg(target_os = "linux")]
        assert!(of(name, "/peak_process_bytes") > 1 << 20, "{name}");
    }
    let read = |name| of(name, "/denoise/read_bytes");
    assert!(read("+LPL") < read("base"));
    assert!(read("+CI-DL") < read("+CI"), "what is kept is not read again");
    assert_eq!(of("+CI-DL", "/step/read_bytes"), 0);
    assert!(found["machine"]["cores"].as_u64() > Some(0));
}

#[test]
fn several_prompts_share_the_reads_of_one() {
    let found = bench(&["cidl", "--steps", "6", "--prompts", "3", "--read-limit", "50"]);
    let report = &found["report"];
    let read = |name: &str| {
        named(&report["series"], name)["median"]["step"]["read_bytes"].as_u64().unwrap()
    };
    assert_eq!((read("resident"), read("concurrent, all kept")), (0, 0));
    assert!(read("concurrent, kept what fits") < read("concurrent"));
    assert_eq!(read("3 prompts"), read("1 prompt"));
    // All that was read, the first step and what was read ahead at the end included: at most one sweep more.
    let in_all = |name: &str| {
        named(&report["series"], name)["median"]["denoise"]["read_bytes"].as_u64().unwrap()
    };
    let (one, three) = (in_all("1 prompt"), in_all("3 prompts"));
    assert!(three <= one + 2 * read("1 prompt"), "{three} bytes against {one}");
    assert_eq!(report["prompts"]["prompts"], 3);
}

#[test]
fn what_cannot_be_measured_is_told() {
    for (arguments, told) in [
        (&["cidl", "--steps", "1"][..], "at least 2"),
        (&["cidl", "--read-limit", "fast"], "auto"),
        (&["ablation", "--memory", "10MB"], "the run `base` failed"),
        (&["ablation", "--model", "no/such/model"], "no/such/model"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sora"))
            .arg("bench")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
        assert!(printed.contains(told), "{arguments:?}: {printed}");
    }
}
