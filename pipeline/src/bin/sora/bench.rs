//! `sora bench`: what streaming and the shortcuts cost and bring. Each run is a process of its own, since the operating
//! system tells the peak memory of processes.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sora_actors::messages::GenerationRequest;
use sora_models::bundle::ModelBundle;
use sora_models::prompt_notation::PromptScores;
use sora_pipeline::MemoryLimits;
use sora_pipeline::bench::{
    AblationSettings, BenchTask, CidlReadLimits, CidlReport, CidlSettings, Machine, Measurement,
    NamedTask, Series, ablation_table, measure, run_interleaved,
};
use sora_pipeline::plan::ModelMemory;

use crate::arguments::{
    AblationArguments, Bench, BenchArguments, CidlArguments, DEFAULT_SEED, ModelArguments,
    ReadLimitChoice, RunArguments, free_bytes,
};
use crate::exit::Outcome;
use crate::print::result;

/// Runs the benchmark and prints what it found.
///
/// # Errors
/// Something asked for cannot be done, or a run failed.
pub fn run(arguments: &BenchArguments) -> anyhow::Result<Outcome> {
    match &arguments.bench {
        Bench::Ablation(arguments) => ablation(arguments),
        Bench::Cidl(arguments) => cidl(arguments),
        Bench::One(model) => one(model),
    }
}

fn ablation(arguments: &AblationArguments) -> anyhow::Result<Outcome> {
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

fn cidl(arguments: &CidlArguments) -> anyhow::Result<Outcome> {
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
            settings.balanced(&memory, resident.step.compute_seconds)
        }
    };
    let series = runner.run_all(&settings.tasks(&memory, limits)?)?;
    let report = CidlReport::new(limits, series);
    print(&arguments.run, &bundle, &settings.request, &report, || report.text())
}

/// The video that is made again and again.
fn request(
    arguments: &RunArguments,
    bundle: &ModelBundle,
    steps: Option<usize>,
) -> anyhow::Result<GenerationRequest> {
    let defaults = bundle.generation();
    let mut sampling = defaults.sampling();
    sampling.steps = steps.unwrap_or(sampling.steps);
    let request = GenerationRequest {
        prompt: PROMPT.into(),
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
    if arguments.json {
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
    let memory = machine.memory_bytes as f64 / 1e9;
    result(&format!(
        "{}, {} cores, {memory:.1} GB; {model} in {dtype}",
        machine.cpu, machine.cores
    ));
    let size = request.video_settings().size;
    result(&format!(
        "{size}, {} steps; medians of {} runs",
        request.sampling.steps, arguments.repeat
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
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{pos} of {len} runs {wide_bar} {elapsed}, now: {msg}");
        let bar = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        Self { arguments, bar, runs_before }
    }

    fn run_all(&mut self, tasks: &[NamedTask]) -> anyhow::Result<Vec<Series>> {
        let repeat = self.arguments.repeat.get();
        self.bar.set_length((self.runs_before + repeat * tasks.len()) as u64);
        let series = run_interleaved(tasks, repeat, |_, task| self.run_one(task));
        self.bar.finish_and_clear();
        series
    }

    fn run_one(&self, task: &NamedTask) -> anyhow::Result<Measurement> {
        self.bar.set_message(task.name.clone());
        let measurement = in_own_process(&self.arguments.model, &task.task)
            .with_context(|| format!("the run `{}` failed", task.name))?;
        self.bar.inc(1);
        Ok(measurement)
    }
}

fn in_own_process(model: &ModelArguments, task: &BenchTask) -> anyhow::Result<Measurement> {
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

/// The other side of [`in_own_process`].
fn one(model: &ModelArguments) -> anyhow::Result<Outcome> {
    let task: BenchTask = serde_json::from_reader(io::stdin().lock())?;
    let bundle = model.open()?;
    let device = model.device.open()?;
    let measurement =
        actix::System::new().block_on(measure(&bundle, model.dtype, &device, &task))?;
    result(&serde_json::to_string(&measurement)?);
    Ok(Outcome::Done)
}
