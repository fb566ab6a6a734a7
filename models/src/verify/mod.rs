//! Golden cases: recorded inputs, intermediates and outputs of the reference implementation, run through this crate.
//!
//! Beside that, [`compare_quantised`] measures what quantised weights cost.
//!
//! A case is a folder with `case.json` and `tensors.safetensors`; `kind` in the former selects the procedure: see
//! [`find_cases`] and [`run_case`].

mod case;
mod compare;
mod conditioning;
mod diffusion;
mod end_to_end;
mod quantised;
mod sampling;
mod tables;
mod text;
mod video;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;

use crate::error::{ModelError, Result};

use self::compare::Comparison;

pub use case::{Case, Tolerance};
pub use compare::{CaseCheck, Deviation};
pub use quantised::{BlockDeviation, NetworkDeviation, compare_quantised};

/// What became of one case.
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The procedure that was run.
    pub kind: String,
    /// The tolerance that the case asks for.
    pub tolerance: Tolerance,
    /// The worst deviations seen, and the first tensor out of tolerance: of all that was compared before the case
    /// ended, or could not go on.
    pub check: CaseCheck,
    /// Why the case could not be run to its end.
    pub outcome: Result<()>,
    /// How long the case took.
    pub seconds: f64,
}

impl CaseReport {
    /// Whether everything that the case compares was within its tolerance.
    pub fn passed(&self) -> bool {
        self.outcome.is_ok() && self.check.first_failure().is_none()
    }
}

/// The case folders directly under `dir` (or `dir` itself), by name.
///
/// # Errors
/// The folder cannot be read, or holds no case.
pub fn find_cases(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join("case.json").is_file() {
        return Ok(vec![dir.to_path_buf()]);
    }
    let io = |source| ModelError::Io { file: dir.to_path_buf(), source };
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.join("case.json").is_file() {
            cases.push(path);
        }
    }
    cases.sort();
    if cases.is_empty() {
        return Err(ModelError::MissingFile {
            file: dir.join("*/case.json"),
            hint: "expected a folder of golden cases, each with a case.json".into(),
        });
    }
    Ok(cases)
}

/// Runs one case on `device`.
pub fn run_case(dir: &Path, device: &Device) -> CaseReport {
    let started = Instant::now();
    let fallback = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match Case::open(dir) {
        Err(cause) => CaseReport {
            name: fallback,
            kind: "?".into(),
            tolerance: Tolerance::default(),
            check: CaseCheck::default(),
            outcome: Err(cause),
            seconds: started.elapsed().as_secs_f64(),
        },
        Ok(case) => {
            let mut comparison = Comparison::new(&case);
            let outcome =
                without_panic(&case.name, || run_to_the_end(&case, device, &mut comparison));
            CaseReport {
                name: case.name.clone(),
                kind: case.kind.clone(),
                tolerance: case.tolerance,
                check: comparison.into_check(),
                outcome,
                seconds: started.elapsed().as_secs_f64(),
            }
        }
    }
}

/// Runs `work`; a panic in it becomes its error, so that other cases go on.
fn without_panic(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let texts = (panic.downcast_ref::<&str>().copied(), panic.downcast_ref::<String>());
        let message = texts.0.or(texts.1.map(String::as_str)).unwrap_or("no reason given");
        Err(ModelError::Panicked { what: format!("case `{name}`"), message: message.into() })
    })
}

fn run_to_the_end(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    run_kind(case, device, comparison)?;
    comparison.demand_the_rest();
    match comparison.is_empty() {
        true => Err(case.unusable("it compares nothing, so it shows nothing".into())),
        false => Ok(()),
    }
}

fn run_kind(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    match case.kind.as_str() {
        "apply_mask_strategy" => conditioning::run(case, device, comparison),
        "e2e" => end_to_end::run(case, device, comparison),
        "rflow" => sampling::run_sampling(case, device, comparison),
        "rflow_add_noise" => sampling::run_add_noise(case, device, comparison),
        "rflow_timesteps" => sampling::run_timesteps(case, comparison),
        "sizes" => tables::run(case, comparison),
        "stdit3" => diffusion::run(case, device, comparison),
        "t5" => text::t5(case, device, comparison),
        "tokenizer" => text::tokenizer(case, device, comparison),
        "vae_decode" => video::decode(case, device, comparison),
        "vae_encode" => video::encode(case, device, comparison),
        unknown => Err(case.unusable(format!("its kind `{unknown}` is not known to this version"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(document: &str) -> CaseReport {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("case.json"), document).unwrap();
        run_case(folder.path(), &Device::Cpu)
    }

    #[test]
    fn what_was_compared_before_an_error_is_kept() {
        let report = report(
            r#"{"schema": 1, "name": "odd", "kind": "sizes",
            "tables": {"aspect_ratio_keys": {"9:16": "0.57"}, "no_such_table": {"a": 1}}}"#,
        );
        assert!(!report.passed());
        assert_eq!(report.check.first_failure().unwrap().tensor, "aspect_ratio_keys");
        let cause = report.outcome.unwrap_err().to_string();
        assert!(cause.contains("no_such_table"), "{cause}");
    }

    #[test]
    fn a_case_that_compares_nothing_does_not_pass() {
        let head = r#"{"schema": 1, "name": "odd", "kind": "sizes", "tables": TABLES}"#;
        let compared =
            report(&head.replace("TABLES", r#"{"aspect_ratio_keys": {"9:16": "0.56"}}"#));
        assert!(compared.passed());
        let empty = report(&head.replace("TABLES", "{}"));
        assert!(!empty.passed());
        assert!(empty.outcome.unwrap_err().to_string().contains("compares nothing"));
    }

    #[test]
    fn a_panic_is_the_failure_of_its_case() {
        let error = without_panic("odd", || panic!("index {} is out", 7)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Compute);
        let text = error.to_string();
        assert!(text.contains("odd") && text.contains("index 7 is out"), "{text}");
    }

    #[test]
    fn configs_of_cases_are_checked() {
        let config = r#"{"vocab_size": 384, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128,
            "num_layers": 1000000000, "feed_forward_proj": "gated-gelu"}"#;
        let report =
            report(&format!(r#"{{"schema": 1, "name": "odd", "kind": "t5", "config": {config}}}"#));
        let cause = report.outcome.unwrap_err().to_string();
        assert!(cause.contains("num_layers is 1000000000"), "{cause}");
    }
}
