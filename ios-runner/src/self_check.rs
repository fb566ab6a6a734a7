//! Whether this device computes what the reference does, and how fast.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use sora_actors::Pace;
use sora_models::checkpoint_tools::Preset;
use sora_models::device_work::{free_dropped, releasing};
use sora_models::verify::{CaseReport, find_cases, run_case};
use sora_pipeline::bench::{
    ModelPart, PartTask, StditPair, T5BlockPart, VaeSpatialPart, time_part,
};

use crate::error::RunnerError;

/// What became of one golden case: inputs and results of the reference, computed again here.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct GoldenCase {
    /// Its name.
    pub name: String,
    /// The procedure that was run.
    pub kind: String,
    /// Whether everything was within its tolerance.
    pub passed: bool,
    /// Largest absolute difference.
    pub worst_absolute: f64,
    /// Largest relative difference.
    pub worst_relative: f64,
    /// How long it took.
    pub seconds: f64,
    /// Why it did not pass.
    pub reason: Option<String>,
}

impl From<CaseReport> for GoldenCase {
    fn from(report: CaseReport) -> Self {
        let failed = report.check.first_failure().map(|deviation| {
            let reason = deviation.failure.as_deref().unwrap_or_default();
            format!("{}: {reason}", deviation.tensor)
        });
        let cause = report.outcome.as_ref().err().map(ToString::to_string);
        Self {
            passed: report.passed(),
            worst_absolute: report.check.worst_absolute(),
            worst_relative: report.check.worst_relative(),
            reason: failed.or(cause),
            name: report.name,
            kind: report.kind,
            seconds: report.seconds,
        }
    }
}

/// Runs all cases of a folder, each in a turn of its own.
pub(crate) fn golden_cases(
    folder: &Path,
    device: &Device,
    pace: &Pace,
) -> Result<Vec<GoldenCase>, RunnerError> {
    let run = |case: &PathBuf| {
        let _turn = pace.turn();
        let report = releasing(|| run_case(case, device));
        // Results were compared on the CPU, so nothing is under way; what is left of them goes.
        free_dropped(device);
        GoldenCase::from(report)
    };
    Ok(find_cases(folder)?.iter().map(run).collect())
}

/// How fast a part of the model is here, with random weights.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct BlockTiming {
    /// What was timed.
    pub what: String,
    /// The median, without a first run that warms up.
    pub seconds: f64,
    /// 10^9 floating point operations a second of its dense layers, where these are most of it.
    pub gflop_per_second: Option<f64>,
    /// Why it could not be timed.
    pub failure: Option<String>,
}

/// The parts that are timed: a pair of blocks for the paper's smaller video, a short prompt, a picture of its frames.
///
/// # Source
/// arXiv 2502.04363: 192x192, 68 frames, which are latents of 20x24x24.
fn parts(preset: Preset) -> [ModelPart; 3] {
    let (frames, side) = if preset == Preset::Tiny { (4, 6) } else { (20, 24) };
    [
        ModelPart::StditPair(StditPair {
            frames,
            height: side,
            width: side,
            tokens: 20,
            merge: false,
        }),
        ModelPart::T5Block(T5BlockPart { tokens: 20 }),
        ModelPart::VaeSpatial(VaeSpatialPart { side_px: 8 * side }),
    ]
}

/// What timing takes of memory at most: one part's weights and activations. Our choice: the text encoder's block has 200 million
/// weights, which are 0.8 GB in 32 bits, and a fifth more is what it works in; the small parts are rounded up.
pub(crate) fn benchmark_bytes(preset: Preset) -> u64 {
    if preset == Preset::Tiny { 16 << 20 } else { 1 << 30 }
}

/// Times the heavy parts of a model, `iterations` times each; each time is a turn of its own.
pub(crate) fn time_parts(
    preset: Preset,
    dtype: DType,
    device: &Device,
    iterations: NonZeroUsize,
    pace: &Pace,
) -> Vec<BlockTiming> {
    let time = |part| {
        let task = PartTask { preset, part };
        let what = task.description();
        let timed = time_part(&task, dtype, device, iterations, || pace.turn());
        free_dropped(device);
        match timed {
            Ok(timing) => {
                let seconds = median(timing.seconds);
                let gflop = task.gflop().ok().flatten();
                let gflop_per_second = gflop.map(|gflop| gflop / seconds);
                BlockTiming { what, seconds, gflop_per_second, failure: None }
            }
            Err(cause) => {
                let failure = Some(cause.to_string());
                BlockTiming { what, seconds: 0.0, gflop_per_second: None, failure }
            }
        }
    };
    parts(preset).into_iter().map(time).collect()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    match (seconds.get(middle), seconds.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => (value + seconds[middle - 1]) / 2.0,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            [median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0]), median(vec![])],
            [2.0, 2.5, 0.0]
        );
    }
}
