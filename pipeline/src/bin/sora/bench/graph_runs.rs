//! Benchmarks of the graph: what streaming and the shortcuts cost and bring.

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Serialize;
use sora_actors::messages::GenerationRequest;
use sora_models::bundle::ModelBundle;
use sora_models::prompt_notation::PromptScores;
use sora_pipeline::MemoryLimits;
use sora_pipeline::bench::{
    AblationSettings, CidlReadLimits, CidlReport, CidlSettings, Machine, Measurement, NamedTask,
    Series, ablation_table, run_interleaved,
};
use sora_pipeline::plan::ModelMemory;

use super::own_process::{ProcessTask, in_own_process};
use super::run_bar::run_bar;
use crate::arguments::{
    AblationArguments, CidlArguments, DEFAULT_SEED, ReadLimitChoice, RunArguments, free_bytes,
};
use crate::exit::Outcome;
use crate::print::result;

/// Measures each of the paper's techniques.
///
/// # Errors
/// The video cannot be made, or a run failed.
pub fn ablation(arguments: &AblationArguments) -> anyhow::Result<Outcome> {
    let bundle = arguments.run.model.open()?;
    let request = request(&arguments.run, &bundle, arguments.steps)?;
    let steps = request.sampling.steps;
    let settings = AblationSettings {
        request,
        prompts: arguments.prompts.get(),
        workers: arguments.run.workers.get(),
        memory: MemoryLimits {
            budget_bytes: arguments.memory.map_or_else(free_bytes, |memory| memory.as_u64()),
            read_limit: arguments.read_limit,
            ..MemoryLimits::default()
        },
        leap: arguments.lpl.unwrap_or_else(|| AblationSettings::paper_leap(steps)),
        merging: arguments.tdtm,
    };
    let series = Runner::new(&arguments.run, 0).run_all(&settings.tasks())?;
    print(&arguments.run, &bundle, &settings.request, &series, || ablation_table(&series))
}

/// Measures blocks that are read in different ways.
///
/// # Errors
/// The video cannot be made, or a run failed.
pub fn cidl(arguments: &CidlArguments) -> anyhow::Result<Outcome> {
    let bundle = arguments.run.model.open()?;
    if arguments.steps < 2 {
        bail!(
            "--steps {}: at least 2 are needed, since the first one is not counted",
            arguments.steps
        );
    }
    let settings = CidlSettings {
        request: request(&arguments.run, &bundle, Some(arguments.steps))?,
        prompts: arguments.prompts.get(),
        workers: arguments.run.workers.get(),
        budget_bytes: arguments.memory.map(|memory| memory.as_u64()),
    };
    let device = arguments.run.model.device.open()?;
    let memory = ModelMemory::of(&bundle, arguments.run.model.dtype, &device)?;
    let mut runner = Runner::new(&arguments.run, 1);
    let limits = match arguments.read_limit {
        ReadLimitChoice::Fixed(limit) => {
            CidlReadLimits { one_prompt: limit, several_prompts: limit }
        }
        ReadLimitChoice::Auto => {
            let resident = runner.run_one(&settings.resident())?;
            settings.read_limits(&memory, resident.step.compute_seconds)
        }
    };
    let series = runner.run_all(&settings.tasks(&memory, limits)?)?;
    let report = CidlReport::new(limits, series);
    print(&arguments.run, &bundle, &settings.request, &report, || report.text())
}

/// The video that is made again and again.
///
/// # Errors
/// The model cannot make it.
pub(super) fn request(
    arguments: &RunArguments,
    bundle: &ModelBundle,
    steps: Option<usize>,
) -> anyhow::Result<GenerationRequest> {
    let defaults = bundle.generation();
    let mut sampling = defaults.sampling();
    sampling.steps = steps.unwrap_or(sampling.steps);
    let request = GenerationRequest {
        prompt: PROMPT.into(),
        negative_prompt: None,
        seed: DEFAULT_SEED,
        width_px: arguments.size.map_or(defaults.width, |size| size.width_px),
        height_px: arguments.size.map_or(defaults.height, |size| size.height_px),
        num_frames: arguments.frames.unwrap_or(defaults.num_frames),
        fps: f64::from(defaults.fps),
        sampling,
        scores: PromptScores::default(),
    };
    request.check()?;
    Ok(request)
}

/// What is embedded; any prompt takes as long as another of its length.
const PROMPT: &str = "a red circle moving left to right on a blue background";

fn print<T: Serialize>(
    arguments: &RunArguments,
    bundle: &ModelBundle,
    request: &GenerationRequest,
    report: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<Outcome> {
    let machine = Machine::this();
    let model = &bundle.generation().name;
    let (dtype, device) = (arguments.model.dtype.as_str(), arguments.model.device.to_string());
    if arguments.repeat.json {
        let line = serde_json::json!({
            "machine": machine,
            "model": model,
            "dtype": dtype,
            "device": device,
            "request": request,
            "report": report,
        });
        result(&line.to_string());
        return Ok(Outcome::Done);
    }
    result(&format!("{machine}; {model} in {dtype}"));
    let size = request.video_settings().size;
    result(&format!(
        "{size}, {} steps; medians of {} runs",
        request.sampling.steps, arguments.repeat.runs
    ));
    result(text().trim_end());
    Ok(Outcome::Done)
}

/// Makes runs, each in a process of its own, and shows how far it is.
struct Runner<'a> {
    arguments: &'a RunArguments,
    bar: ProgressBar,
    runs_before: usize,
}

impl<'a> Runner<'a> {
    /// A runner that makes so many runs before all others.
    fn new(arguments: &'a RunArguments, runs_before: usize) -> Self {
        Self { arguments, bar: run_bar(0), runs_before }
    }

    fn run_all(&mut self, tasks: &[NamedTask]) -> anyhow::Result<Vec<Series>> {
        let repeat = self.arguments.repeat.runs.get();
        self.bar.set_length((self.runs_before + repeat * tasks.len()) as u64);
        let series = run_interleaved(tasks, repeat, |_, task| self.run_one(task));
        self.bar.finish_and_clear();
        series
    }

    fn run_one(&self, task: &NamedTask) -> anyhow::Result<Measurement> {
        self.bar.set_message(task.name.clone());
        let process = ProcessTask::Measure(Box::new(task.task.clone()));
        let measurement = in_own_process(&self.arguments.model, &process)
            .with_context(|| format!("the run `{}` failed", task.name))?;
        self.bar.inc(1);
        Ok(measurement)
    }
}
