//! Every golden case of the repository, at the tolerances recorded with it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::Device;
use sora_models::verify::{find_cases, run_case};

/// How many cases the repository holds: a case that gets lost is noticed.
const CASES: usize = 47;

#[test]
fn all_golden_cases_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = find_cases(&dir).unwrap();
    assert_eq!(cases.len(), CASES);
    let mut failures = Vec::new();
    for case in cases {
        let report = run_case(&case, &Device::Cpu);
        if !report.passed() {
            let (wrong, outcome) = (report.check.first_failure(), &report.outcome);
            failures.push(format!("{}: first wrong {wrong:?}, {outcome:?}", report.name));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn an_unknown_kind_does_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let head = r#"{"schema": 1, "name": "odd", "kind": "no_such_kind"}"#;
    std::fs::write(dir.path().join("case.json"), head).unwrap();
    let report = run_case(dir.path(), &Device::Cpu);
    assert!(!report.passed());
    let cause = report.outcome.err().unwrap().to_string();
    assert!(cause.contains("no_such_kind"), "{cause}");
}
