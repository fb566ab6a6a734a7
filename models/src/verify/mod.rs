//! Golden cases: recorded inputs, intermediates and outputs of the reference implementation, run through this crate.
//!
//! A case is a folder with `case.json` and `tensors.safetensors`; `kind` in the former selects the procedure: see
//! [`find_cases`] and [`run_case`].

mod case;
mod compare;
mod conditioning;
mod diffusion;
mod end_to_end;
mod sampling;
mod tables;
mod text;
mod video;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;

use crate::error::{ModelError, Result};

pub use case::{Case, Tolerance};
pub use compare::{CaseCheck, Deviation};

/// What became of one case.
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The procedure that was run.
    pub kind: String,
    /// The tolerance that the case asks for.
    pub tolerance: Tolerance,
    /// The worst deviations seen, and the first tensor out of tolerance; or why the case could not be run.
    pub outcome: Result<CaseCheck>,
    /// How long the case took.
    pub seconds: f64,
}

impl CaseReport {
    /// Whether everything that the case compares was within its tolerance.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|check| check.first_failure().is_none())
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
            outcome: Err(cause),
            seconds: started.elapsed().as_secs_f64(),
        },
        Ok(case) => CaseReport {
            name: case.name.clone(),
            kind: case.kind.clone(),
            tolerance: case.tolerance,
            outcome: run_kind(&case, device),
            seconds: started.elapsed().as_secs_f64(),
        },
    }
}

fn run_kind(case: &Case, device: &Device) -> Result<CaseCheck> {
    match case.kind.as_str() {
        "apply_mask_strategy" => conditioning::run(case, device),
        "e2e" => end_to_end::run(case, device),
        "rflow" => sampling::run_sampling(case, device),
        "rflow_add_noise" => sampling::run_add_noise(case, device),
        "rflow_timesteps" => sampling::run_timesteps(case),
        "sizes" => tables::run(case),
        "stdit3" => diffusion::run(case, device),
        "t5" => text::t5(case, device),
        "tokenizer" => text::tokenizer(case, device),
        "vae_decode" => video::decode(case, device),
        "vae_encode" => video::encode(case, device),
        unknown => Err(case.unusable(format!("its kind `{unknown}` is not known to this version"))),
    }
}
