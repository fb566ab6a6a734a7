//! Runs in processes of their own: this program, started again with a task on its standard input.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sora_pipeline::bench::{BenchTask, PartTask, measure, time_part, time_videos};

use crate::arguments::ModelArguments;
use crate::exit::Outcome;
use crate::print::result;

/// What a process does.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessTask {
    /// One run of the graph; its result is a `Measurement`.
    Measure(Box<BenchTask>),
    /// The same again and again; its result is a `ProcessTiming`.
    TimeVideos {
        /// One time.
        task: Box<BenchTask>,
        /// Timed iterations.
        iterations: NonZeroUsize,
        /// Whether to collect metrics meanwhile, and to read them every second.
        metrics: bool,
    },
    /// A part of the model again and again; its result is a `ProcessTiming`.
    TimePart {
        /// The part.
        task: PartTask,
        /// Timed iterations.
        iterations: NonZeroUsize,
    },
}

/// Runs `task` in a process of its own and returns its result.
///
/// # Errors
/// The process cannot be started, or ended otherwise than with a result.
pub fn in_own_process<R: DeserializeOwned>(
    model: &ModelArguments,
    task: &ProcessTask,
) -> anyhow::Result<R> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(["bench", "one", "--dtype", model.dtype.as_str(), "--device"]);
    command.arg(model.device.to_string());
    if let Some(folder) = &model.folder {
        command.arg("--model").arg(folder);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(task)?)?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        // It has said why on standard error.
        bail!("its process ended with {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Collects metrics until the process ends, and reads them as often as a short interval of Prometheus would.
fn collect_metrics() -> anyhow::Result<()> {
    let page = sora_telemetry::install()?;
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            page.render();
        }
    });
    Ok(())
}

/// The other side of [`in_own_process`].
///
/// # Errors
/// Standard input holds no task, or the run failed.
pub fn run(model: &ModelArguments) -> anyhow::Result<Outcome> {
    let task: ProcessTask = serde_json::from_reader(io::stdin().lock())?;
    let device = model.device.open()?;
    let dtype = model.dtype;
    let found = match task {
        ProcessTask::Measure(task) => {
            let bundle = model.open()?;
            let run = measure(&bundle, dtype, &device, &task);
            serde_json::to_string(&actix::System::new().block_on(run)?)
        }
        ProcessTask::TimeVideos { task, iterations, metrics } => {
            if metrics {
                collect_metrics()?;
            }
            let bundle = model.open()?;
            let runs = time_videos(&bundle, dtype, &device, &task, iterations);
            serde_json::to_string(&actix::System::new().block_on(runs)?)
        }
        ProcessTask::TimePart { task, iterations } => {
            serde_json::to_string(&time_part(&task, dtype, &device, iterations, || ())?)
        }
    };
    result(&found?);
    Ok(Outcome::Done)
}
