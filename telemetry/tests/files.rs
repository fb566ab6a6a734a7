//! What is written about metrics outside of the code (dashboard, rules, documentation) names those that there are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sora_telemetry::names::{METRICS, Metric, metric_of_series};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// All words that begin like a metric (`sora_`, `process_`) or like a recorded rule (`sora:`).
fn named(text: &str) -> BTreeSet<&str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !in_name(c)).filter(|word| {
        ["sora_", "process_", "sora:"].iter().any(|prefix| word.starts_with(prefix))
    });
    words.map(|word| word.trim_end_matches(':')).collect()
}

#[test]
fn dashboard_rules_and_page_name_only_what_there_is() {
    let rules = read("prometheus/rules.yml");
    let recorded: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    assert!(recorded.len() > 3, "{recorded:?}");
    for path in [
        "grafana/on-device-sora.json",
        "prometheus/alerts.yml",
        "prometheus/rules.yml",
        "prometheus/rules_test.yml",
        "../pipeline/src/server/page/machine.js",
    ] {
        let text = read(path);
        let names = named(&text);
        assert!(names.len() > 5, "{path}: {names:?}");
        for name in names {
            let known = recorded.contains(name) || metric_of_series(name).is_some();
            assert!(known, "{path} names {name}, which neither names.rs nor rules.yml has");
        }
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    /// The first is for alerts; the second means something to whoever looks for a leak of addresses.
    const ELSEWHERE: [&str; 2] = ["process_start_time_seconds", "process_virtual_memory_bytes"];
    let text = read("grafana/on-device-sora.json");
    let shown: BTreeSet<_> =
        named(&text).into_iter().filter_map(metric_of_series).map(|metric| metric.name).collect();
    for metric in METRICS.iter().filter(|metric| !ELSEWHERE.contains(&metric.name)) {
        assert!(shown.contains(metric.name), "{} is on no panel", metric.name);
    }
}

#[test]
fn the_dashboard_is_one_that_can_be_imported() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("grafana/on-device-sora.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are distinct");
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let place = &panel["gridPos"];
        let side = |name: &str| place[name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24 && side("h") > 0, "{title}: {place}");
        if panel["type"] != "row" {
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
            for target in panel["targets"].as_array().unwrap() {
                let source = target["datasource"]["uid"].as_str();
                assert_eq!(
                    source,
                    Some("${datasource}"),
                    "{title}: every source is the chosen one"
                );
                assert!(target["expr"].as_str().unwrap().contains("$instance"), "{title}");
            }
        }
    }
}

fn documented(metric: &Metric) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let (name, kind, labels) = (metric.name, metric.kind.as_str(), labels.join(", "));
    format!("| `{name}` | {kind} | {labels} | {} |", metric.help)
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let text = read("../docs/metrics.md");
    let lines: BTreeSet<_> = text.lines().collect();
    for metric in METRICS {
        let line = documented(metric);
        assert!(lines.contains(line.as_str()), "docs/metrics.md lacks the line\n{line}");
    }
    let rows =
        text.lines().filter(|line| line.starts_with("| `sora_") || line.starts_with("| `process_"));
    assert_eq!(rows.count(), METRICS.len(), "docs/metrics.md tells of metrics that are no more");
    for name in named(&text) {
        assert!(metric_of_series(name).is_some(), "docs/metrics.md names {name}");
    }
}
