//! `sora generate`: everything that can be wrong is found first, then all prompts go through one graph.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, bail};
use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;
use sora_pipeline::output::{Earlier, NamingFacts, OutputTarget, PreviewFile};
use sora_pipeline::plan::{MemoryPlan, ModelMemory, PlannedGraph};
use sora_pipeline::saved_job::FileJournal;
use sora_pipeline::{GraphLimits, PipelineHandle, SubmitError};
use tokio::task::JoinSet;

use crate::arguments::{DEFAULT_SEED, GenerateArguments};
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::job::{JobEnd, RunFacts, VideoTask};
use crate::metrics::MetricsOutput;
use crate::print::note;
use crate::report::{self, JobLabel};
use crate::resume::{self, Start, Tally};
use crate::{prompts, request};

/// Makes a video of each prompt.
///
/// # Errors
/// Whatever can be found out before the work: bad settings, a model that cannot be used, outputs that cannot be
/// written. What fails later fails one video, and is told where it happens.
pub fn run(arguments: GenerateArguments) -> anyhow::Result<Outcome> {
    let prompts = prompts(&arguments)?;
    let targets = name(&arguments, &prompts)?;
    let bundle = Arc::new(arguments.model.open()?);
    let plans = plans(&arguments, &prompts, targets, bundle.generation())?;
    let limits = arguments.memory.graph_limits(arguments.workers, &bundle)?;
    let device = arguments.model.device.open()?;
    let metrics = MetricsOutput::open(&arguments.metrics, arguments.json)?;
    let report = report::choose(arguments.json, arguments.quiet);
    let facts = RunFacts::new(&bundle, &device, arguments.model.dtype, report)?;
    // After all else that can be refused, since it creates folders.
    let tasks = tasks(&arguments, plans, &facts)?;
    if tasks.is_empty() {
        return Ok(Outcome::Done);
    }
    let memory = ModelMemory::of(&bundle, arguments.model.dtype, &device)?;
    facts.report.plan(&memory_plan(&memory, &limits, &tasks)?);
    actix::System::new().block_on(async move {
        let pipeline = PipelineHandle::open_sora(&bundle, memory, &device, &limits)?;
        let _printed = metrics.print_to(facts.report.clone());
        Ok(make_all(pipeline, tasks, facts).await)
    })
}

/// What the most demanding video takes.
fn memory_plan(
    memory: &ModelMemory,
    limits: &GraphLimits,
    tasks: &[VideoTask],
) -> anyhow::Result<MemoryPlan> {
    let graph =
        PlannedGraph { workers: limits.workers, videos: tasks.len().min(limits.token_slots) };
    let of_task =
        |task: &VideoTask| MemoryPlan::new(memory, &task.label.request, graph, &limits.memory);
    let plans = tasks.iter().map(of_task).collect::<sora_models::Result<Vec<_>>>()?;
    let largest = plans.into_iter().max_by_key(MemoryPlan::smallest_bytes);
    let largest = largest.context("there is no video to make")?;
    if !largest.fits() {
        bail!("{}", SubmitError::OverBudget(Box::new(largest)));
    }
    Ok(largest)
}

fn prompts(arguments: &GenerateArguments) -> anyhow::Result<Vec<String>> {
    let GenerateArguments { prompts, prompts_file, output, resume, .. } = arguments;
    if *resume && prompts.is_empty() && prompts_file.is_none() {
        return Ok(vec![resume::prompt_of(output.as_deref())?]);
    }
    prompts::collect(prompts, prompts_file.as_deref())
}

/// Where the video of each prompt goes.
fn name(arguments: &GenerateArguments, prompts: &[String]) -> anyhow::Result<Vec<OutputTarget>> {
    let (wish, first_seed) = (arguments.output.as_deref(), arguments.seed);
    let names = |(index, prompt): (u64, &String)| NamingFacts {
        prompt: prompt.clone(),
        seed: first_seed.unwrap_or(DEFAULT_SEED).wrapping_add(index),
    };
    let facts: Vec<NamingFacts> = (0..).zip(prompts).map(names).collect();
    Ok(if arguments.resume {
        let any_seed = first_seed.is_none() && prompts.len() == 1;
        OutputTarget::find_all(wish, &facts, any_seed)?
    } else {
        OutputTarget::name_all(wish, &facts)?
    })
}

/// A video as it shall be, and what there is of it.
struct Plan {
    request: GenerationRequest,
    target: OutputTarget,
    earlier: Earlier,
}

/// A plan for each prompt, after checking that any model could fulfil it.
fn plans(
    arguments: &GenerateArguments,
    prompts: &[String],
    targets: Vec<OutputTarget>,
    defaults: &GenerationConfig,
) -> anyhow::Result<Vec<Plan>> {
    let plan = |(index, (prompt, target)): (u64, (&String, OutputTarget))| {
        let earlier = resume::look(&target, arguments.resume)?;
        let request = request::request(arguments, index, prompt, earlier.request(), defaults)?;
        resume::check_settings(&target, &earlier, &request)?;
        request.check()?;
        Ok(Plan { request, target, earlier })
    };
    (0..).zip(prompts.iter().zip(targets)).map(plan).collect()
}

/// One task for each video that is not finished, after checking that it can be written where it goes.
fn tasks(
    arguments: &GenerateArguments,
    plans: Vec<Plan>,
    facts: &RunFacts,
) -> anyhow::Result<Vec<VideoTask>> {
    let count = plans.len();
    let mut tally = Tally::default();
    let mut tasks = Vec::with_capacity(count);
    for (index, Plan { request, target, earlier }) in plans.into_iter().enumerate() {
        let checkpoint = match tally.start(&target, earlier, facts)? {
            Start::Finished => continue,
            Start::At(checkpoint) => Some(checkpoint),
            Start::Afresh => None,
        };
        let journal =
            FileJournal::new(target.saved_job(), facts.model.clone(), facts.compute.clone());
        tasks.push(VideoTask {
            label: JobLabel { number: index + 1, count, request },
            target,
            checkpoint,
            journal: Some(Arc::new(journal)),
            keep_latent: arguments.keep_latent,
            preview: arguments.preview.as_deref().map(PreviewFile::new),
        });
    }
    for task in &tasks {
        task.target.check(task.format())?;
    }
    if arguments.resume && !arguments.quiet {
        tally.tell();
    }
    Ok(tasks)
}

/// Keeps the pipeline's queue full until all videos are made, or the user stops.
async fn make_all(pipeline: PipelineHandle, tasks: Vec<VideoTask>, facts: RunFacts) -> Outcome {
    let report = facts.report.clone();
    let interrupt = Interrupt::listen(move || report.stopping());
    let journals: Vec<_> = tasks.iter().filter_map(|task| task.journal.clone()).collect();
    let mut waiting = VecDeque::from(tasks);
    let mut running = JoinSet::new();
    let mut failed = 0;
    loop {
        while !interrupt.is_asked()
            && let Some(task) = waiting.pop_front()
        {
            match pipeline.submit(task.order()).await {
                Ok(job) => {
                    running.spawn_local(task.follow(job, facts.clone(), interrupt.clone()));
                }
                Err(SubmitError::Full { .. }) if !running.is_empty() => {
                    waiting.push_front(task);
                    break;
                }
                Err(cause) => {
                    task.refused(&facts, &cause);
                    failed += 1;
                }
            }
        }
        match running.join_next().await {
            None => break,
            Some(Ok(JobEnd::Written | JobEnd::Cancelled)) => {}
            Some(Ok(JobEnd::Failed)) => failed += 1,
            Some(Err(panicked)) => {
                note(&format!(
                    "error: following a video failed (this is a bug, please report it): {panicked}"
                ));
                failed += 1;
            }
        }
    }
    if interrupt.is_asked() {
        waiting.iter().for_each(|task| task.cancelled(&facts));
        // When it has stopped, all that was done is saved.
        pipeline.stop().await;
        tell_what_is_saved(&journals);
        return Outcome::Interrupted;
    }
    pipeline.drain().await;
    if failed == 0 {
        return Outcome::Done;
    }
    tell_what_is_saved(&journals);
    Outcome::SomeFailed
}

/// Tells how to go on, when something is left of the videos that are not finished.
fn tell_what_is_saved(journals: &[Arc<FileJournal>]) {
    if journals.iter().any(|journal| journal.is_left()) {
        note("the work so far is saved: go on with the same command and --resume");
    }
}
