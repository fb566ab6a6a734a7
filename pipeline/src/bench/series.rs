//! Several tasks, each run several times.

use serde::Serialize;

use super::measurement::Measurement;
use super::task::{BenchTask, NamedTask};
use crate::config::MemoryLimits;

/// One task's runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The task's name.
    pub name: String,
    /// How memory and disk were used.
    pub memory: MemoryLimits,
    /// Prompts in flight.
    pub prompts: usize,
    /// Each figure's median.
    pub median: Measurement,
    /// What each run took.
    pub runs: Vec<Measurement>,
}

/// Runs each of them `repeat` times, at least once, one round after the other, and gives the results of each. `run` also
/// gets the number of the run, from 0.
///
/// # Errors
/// The first one of `run`.
pub fn interleave<W, R, E>(
    each: &[W],
    repeat: usize,
    mut run: impl FnMut(usize, &W) -> Result<R, E>,
) -> Result<Vec<Vec<R>>, E> {
    let mut runs: Vec<Vec<R>> = each.iter().map(|_| Vec::new()).collect();
    for round in 0..repeat.max(1) {
        for (index, what) in each.iter().enumerate() {
            runs[index].push(run(round * each.len() + index, what)?);
        }
    }
    Ok(runs)
}

/// Runs all tasks `repeat` times as [`interleave`] does.
///
/// # Errors
/// The first one of `run`.
pub fn run_interleaved<E>(
    tasks: &[NamedTask],
    repeat: usize,
    run: impl FnMut(usize, &NamedTask) -> Result<Measurement, E>,
) -> Result<Vec<Series>, E> {
    let runs = interleave(tasks, repeat, run)?;
    let series = |(task, runs): (&NamedTask, Vec<Measurement>)| {
        let NamedTask { name, task: BenchTask { memory, prompts, .. } } = task.clone();
        let median = Measurement::median(&runs)?;
        Some(Series { name, memory, prompts, median, runs })
    };
    Ok(tasks.iter().zip(runs).filter_map(series).collect())
}
