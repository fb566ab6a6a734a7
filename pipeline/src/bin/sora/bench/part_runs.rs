//! Benchmarks of one thing at a time: a part of the model, or whole videos; beside a matrix product, and beside another
//! program if one is named.

use anyhow::Context;
use serde::Serialize;
use sora_models::DeviceChoice;
use sora_models::checkpoint_tools::Preset;
use sora_pipeline::MemoryLimits;
use sora_pipeline::bench::{
    BenchStages, BenchTask, Machine, ModelPart, OtherProgram, PartTask, ProcessTiming,
    SquareMatmul, TimeFigures, TimeReport, TimedRun, interleave,
};

use super::graph_runs::request;
use super::own_process::{ProcessTask, in_own_process};
use super::run_bar::run_bar;
use crate::arguments::{
    E2eArguments, ModelArguments, PartArguments, RepeatArguments, TimingArguments, free_bytes,
};
use crate::compute_threads;
use crate::exit::Outcome;
use crate::print::result;

/// Times a part of the model.
///
/// # Errors
/// A run failed, of this program or of the other one.
pub fn part(name: &str, part: ModelPart, arguments: &PartArguments) -> anyhow::Result<Outcome> {
    let PartArguments { preset, device, dtype, timing, repeat } = arguments;
    let task = PartTask { preset: *preset, part };
    let bench = TimeBench {
        name,
        description: task.description(),
        gflop: task.gflop()?,
        is_reference: part == ModelPart::Matmul(SquareMatmul::REFERENCE),
        model: ModelArguments { folder: None, device: opened(*device)?, dtype: *dtype },
        timing,
        repeat,
    };
    let iterations = timing.iterations;
    bench.run(&ProcessTask::TimePart { task, iterations }, &task)
}

/// Times whole videos.
///
/// # Errors
/// The video cannot be made, or a run failed, of this program or of the other one.
pub fn whole_videos(arguments: &E2eArguments) -> anyhow::Result<Outcome> {
    let E2eArguments { run, steps, metrics, timing } = arguments;
    let bundle = run.model.open()?;
    let task = Box::new(BenchTask {
        request: request(run, &bundle, *steps)?,
        prompts: 1,
        workers: run.workers.get(),
        memory: MemoryLimits { budget_bytes: free_bytes(), ..MemoryLimits::default() },
        stages: BenchStages::All,
    });
    let (model, size) = (&bundle.generation().name, task.request.video_settings().size);
    let bench = TimeBench {
        name: "e2e",
        description: format!("{size}, {} steps, by {model}", task.request.sampling.steps),
        gflop: None,
        is_reference: false,
        model: ModelArguments {
            folder: run.model.folder.clone(),
            device: opened(run.model.device)?,
            dtype: run.model.dtype,
        },
        timing,
        repeat: &run.repeat,
    };
    let iterations = timing.iterations;
    let process = ProcessTask::TimeVideos { task: task.clone(), iterations, metrics: *metrics };
    bench.run(&process, &task)
}

/// The device that `choice` stands for, so that it is named, and refused if there is none, before any run.
fn opened(choice: DeviceChoice) -> sora_models::Result<DeviceChoice> {
    choice.open().map(|device| DeviceChoice::of(&device))
}

/// Something that is timed.
struct TimeBench<'a> {
    /// The name on the command line.
    name: &'a str,
    description: String,
    gflop: Option<f64>,
    /// Whether it is itself what the machine is judged by.
    is_reference: bool,
    model: ModelArguments,
    timing: &'a TimingArguments,
    repeat: &'a RepeatArguments,
}

/// Who takes turns.
enum Contestant<'a> {
    Work(&'a ProcessTask),
    Other(OtherProgram),
    Matmul(PartTask),
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Printed<'a, T> {
    what: &'a str,
    task: &'a T,
    dtype: &'a str,
    device: String,
    threads: usize,
    iterations: usize,
    machine: Machine,
    against_command: Option<&'a str>,
    #[serde(flatten)]
    report: &'a TimeReport,
}

impl TimeBench<'_> {
    fn run<T: Serialize>(&self, process: &ProcessTask, task: &T) -> anyhow::Result<Outcome> {
        let threads = compute_threads::in_use();
        let other = self.timing.against.as_ref().map(|command| OtherProgram::new(command, threads));
        let mut contestants = vec![Contestant::Work(process)];
        contestants.extend(other.clone().map(Contestant::Other));
        if !self.is_reference {
            contestants.push(Contestant::Matmul(MATMUL));
        }
        let report = self.report(&contestants)?;
        let printed = Printed {
            what: self.name,
            task,
            dtype: self.model.dtype.as_str(),
            device: self.model.device.to_string(),
            threads,
            iterations: self.timing.iterations.get(),
            machine: Machine::this(),
            against_command: other.as_ref().map(OtherProgram::command),
            report: &report,
        };
        if self.repeat.json {
            result(&serde_json::to_string(&printed)?);
        } else {
            self.print(&printed);
        }
        Ok(Outcome::Done)
    }

    /// Lets the contestants take turns.
    fn report(&self, contestants: &[Contestant]) -> anyhow::Result<TimeReport> {
        let rounds = self.repeat.runs.get();
        let bar = run_bar(rounds * contestants.len());
        let runs = interleave(contestants, rounds, |_, contestant| {
            let name = self.name_of(contestant);
            bar.set_message(name.to_string());
            let run = self.run_one(contestant);
            bar.inc(1);
            run.with_context(|| format!("the run `{name}` failed"))
        });
        bar.finish_and_clear();
        let (mut work, mut matmul, mut against) = (None, None, None);
        for (contestant, runs) in contestants.iter().zip(runs?) {
            let place = match contestant {
                Contestant::Work(_) => &mut work,
                Contestant::Other(_) => &mut against,
                Contestant::Matmul(_) => &mut matmul,
            };
            *place = TimeFigures::of(runs);
        }
        let work = work.context("there was no run")?;
        Ok(TimeReport::new(work, self.gflop, matmul, against))
    }

    fn name_of(&self, contestant: &Contestant) -> &str {
        match contestant {
            Contestant::Work(_) => self.name,
            Contestant::Other(_) => "against",
            Contestant::Matmul(_) => "matmul",
        }
    }

    fn run_one(&self, contestant: &Contestant) -> anyhow::Result<TimedRun> {
        match contestant {
            Contestant::Work(task) => self.in_process(task, self.gflop),
            Contestant::Other(other) => Ok(other.run()?.into()),
            Contestant::Matmul(task) => {
                let iterations = self.timing.iterations;
                self.in_process(&ProcessTask::TimePart { task: *task, iterations }, task.gflop()?)
            }
        }
    }

    fn in_process(&self, task: &ProcessTask, gflop: Option<f64>) -> anyhow::Result<TimedRun> {
        let timing: ProcessTiming = in_own_process(&self.model, task)?;
        Ok(TimedRun::of_process(timing, gflop))
    }

    fn print<T>(&self, printed: &Printed<'_, T>) {
        let Printed { dtype, device, threads, iterations, machine, report, .. } = printed;
        result(&format!("{machine}; {dtype} on {device}, threads: {threads}"));
        let operations = report.gflop.map(|gflop| format!("; {gflop:.1} GFLOP"));
        result(&format!("{}{}", self.description, operations.unwrap_or_default()));
        if let Some(command) = printed.against_command {
            result(&format!("against `{command}`"));
        }
        let runs = self.repeat.runs;
        result(&format!(
            "runs: {runs}, timed iterations of each: {iterations}, after one that is not counted"
        ));
        result(report.table(self.name).trim_end());
    }
}

/// What other work is compared with.
const MATMUL: PartTask =
    PartTask { preset: Preset::OpenSoraV12, part: ModelPart::Matmul(SquareMatmul::REFERENCE) };
