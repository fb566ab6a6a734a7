//! What a run took.

use serde::{Deserialize, Serialize};

/// What one run took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// From the first submission to the end of the last job.
    pub seconds: f64,
    /// Embedding all prompts.
    pub embed: StageFigures,
    /// Denoising all videos.
    pub denoise: StageFigures,
    /// Decoding all latents.
    pub decode: StageFigures,
    /// One denoising step of all videos in flight, once the first step is done: medians of its times, the mean of its bytes.
    pub step: StageFigures,
    /// Model evaluations for each video.
    pub evaluations: usize,
    /// The most memory that the process had resident, as the operating system counts it; `None` where it does not tell.
    pub peak_process_bytes: Option<u64>,
    /// The most that the account of memory held.
    pub peak_ledger_bytes: u64,
}

/// What a stage of the work took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageFigures {
    /// From its beginning to its end.
    pub seconds: f64,
    /// Time in computations, all workers together.
    pub compute_seconds: f64,
    /// Time in reads of weights.
    pub load_seconds: f64,
    /// Time in which the stage waited for weights.
    pub wait_seconds: f64,
    /// Weights read, as stored.
    pub read_bytes: u64,
}

impl Measurement {
    /// Each figure's median over several runs; `None` of no runs.
    pub fn median(runs: &[Self]) -> Option<Self> {
        let stage = |of: fn(&Self) -> StageFigures| {
            let figure = |figure: fn(StageFigures) -> f64| median(runs, |run| figure(of(run)));
            Some(StageFigures {
                seconds: figure(|of| of.seconds)?,
                compute_seconds: figure(|of| of.compute_seconds)?,
                load_seconds: figure(|of| of.load_seconds)?,
                wait_seconds: figure(|of| of.wait_seconds)?,
                read_bytes: figure(|of| of.read_bytes as f64)? as u64,
            })
        };
        let known: Option<Vec<u64>> = runs.iter().map(|run| run.peak_process_bytes).collect();
        Some(Self {
            seconds: median(runs, |run| run.seconds)?,
            embed: stage(|run| run.embed)?,
            denoise: stage(|run| run.denoise)?,
            decode: stage(|run| run.decode)?,
            step: stage(|run| run.step)?,
            evaluations: median(runs, |run| run.evaluations as f64)? as usize,
            peak_process_bytes: known
                .and_then(|peaks| median(&peaks, |peak| *peak as f64))
                .map(|m| m as u64),
            peak_ledger_bytes: median(runs, |run| run.peak_ledger_bytes as f64)? as u64,
        })
    }

    /// All stages together.
    pub fn total(&self) -> StageFigures {
        let stages = [self.embed, self.denoise, self.decode];
        let sum = |figure: fn(&StageFigures) -> f64| stages.iter().map(figure).sum();
        StageFigures {
            seconds: self.seconds,
            compute_seconds: sum(|of| of.compute_seconds),
            load_seconds: sum(|of| of.load_seconds),
            wait_seconds: sum(|of| of.wait_seconds),
            read_bytes: stages.iter().map(|of| of.read_bytes).sum(),
        }
    }
}

/// The middle figure, or the mean of the two in the middle; `None` of nothing.
pub(super) fn median<T>(of: &[T], figure: impl Fn(&T) -> f64) -> Option<f64> {
    let mut figures: Vec<f64> = of.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let (below, above) = (figures.len().checked_sub(1)? / 2, figures.len() / 2);
    Some((figures[below] + figures[above]) / 2.0)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A measurement that differs from others in one number.
    pub fn measured(seconds: f64) -> Measurement {
        let figures = |share: f64| StageFigures {
            seconds: share * seconds,
            compute_seconds: 0.7 * share * seconds,
            load_seconds: 0.5 * share * seconds,
            wait_seconds: 0.3 * share * seconds,
            read_bytes: (1e6 * share * seconds) as u64,
        };
        Measurement {
            seconds,
            embed: figures(0.2),
            denoise: figures(0.5),
            decode: figures(0.3),
            step: figures(0.1),
            evaluations: 4,
            peak_process_bytes: Some(seconds as u64 * 1000),
            peak_ledger_bytes: 77,
        }
    }

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let median_of = |seconds: &[f64]| {
            let runs: Vec<_> = seconds.iter().copied().map(measured).collect();
            Measurement::median(&runs)
        };
        assert_eq!(median_of(&[]), None);
        assert_eq!(median_of(&[9.0, 4.0, 5.0]).unwrap(), measured(5.0));
        let even = median_of(&[2.0, 4.0]).unwrap();
        assert_eq!((even.seconds, even.evaluations, even.peak_process_bytes), (3.0, 4, Some(3000)));
    }

    #[test]
    fn a_peak_that_one_run_does_not_know_is_not_known() {
        let mut runs = [measured(1.0), measured(2.0)];
        runs[1].peak_process_bytes = None;
        assert_eq!(Measurement::median(&runs).unwrap().peak_process_bytes, None);
    }

    #[test]
    fn the_total_is_the_sum_of_the_stages() {
        let total = measured(10.0).total();
        assert_eq!((total.seconds, total.read_bytes), (10.0, 10_000_000));
        assert!((total.compute_seconds - 7.0).abs() < 1e-9);
    }
}
