//! `sora generate`: everything that can be wrong is found first, then all prompts go through one graph.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sora_actors::messages::GenerationRequest;
use sora_pipeline::output::{NamingFacts, OutputTarget};
use sora_pipeline::sidecar::{Compute, ModelIdentity};
use sora_pipeline::{GraphLimits, PipelineHandle, SubmitError, open_sora};
use tokio::task::JoinSet;

use crate::arguments::GenerateArguments;
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::job::{JobEnd, RunFacts, VideoTask};
use crate::print::note;
use crate::report::{self, JobLabel};
use crate::{prompts, request};

/// Makes a video of each prompt.
///
/// # Errors
/// Whatever can be found out before the work: bad settings, a model that cannot be used, outputs that cannot be
/// written. What fails later fails one video, and is told where it happens.
pub fn run(mut arguments: GenerateArguments) -> anyhow::Result<Outcome> {
    let given = std::mem::take(&mut arguments.prompts);
    let prompts = prompts::collect(&given, arguments.prompts_file.as_deref())?;
    let bundle = Arc::new(arguments.model.open()?);
    let requests = request::requests(&arguments, prompts, bundle.generation())?;
    requests.iter().try_for_each(GenerationRequest::check)?;
    let mut limits = GraphLimits::default();
    // Whoever reads slowly here (a pager, say) does it to these videos alone, so none is given up for it.
    limits.consumer.patience = Duration::MAX;
    if let Some(workers) = arguments.workers {
        limits.workers = workers.get();
    }
    limits.memory = arguments.memory.limits();
    open_sora::check_workers(&bundle, limits.workers)?;
    let device = arguments.model.device.open()?;
    if let Some(address) = arguments.metrics_addr {
        sora_telemetry::install_with_listener(address)
            .with_context(|| format!("cannot serve metrics at {address}"))?;
    }
    // After all else that can be refused, since it creates folders.
    let tasks = tasks(&arguments, requests)?;
    let facts = RunFacts {
        model: ModelIdentity {
            name: bundle.generation().name.clone(),
            fingerprint: bundle.fingerprint()?,
        },
        compute: Compute {
            device: device_name(&device),
            dtype: arguments.model.dtype.as_str().to_string(),
        },
        report: report::choose(arguments.json, arguments.quiet),
    };
    actix::System::new().block_on(async move {
        let pipeline = PipelineHandle::open_sora(&bundle, arguments.model.dtype, &device, &limits)?;
        Ok(make_all(pipeline, tasks, facts).await)
    })
}

/// One task for each request, after checking that each video can be written where it goes.
fn tasks(
    arguments: &GenerateArguments,
    requests: Vec<GenerationRequest>,
) -> anyhow::Result<Vec<VideoTask>> {
    let names = |request: &GenerationRequest| NamingFacts {
        prompt: request.prompt.clone(),
        seed: request.seed,
    };
    let facts: Vec<NamingFacts> = requests.iter().map(names).collect();
    let targets = OutputTarget::name_all(arguments.output.as_deref(), &facts)?;
    let count = requests.len();
    let task = |(index, (request, target))| VideoTask {
        label: JobLabel { number: index + 1, count, request },
        target,
    };
    let tasks: Vec<VideoTask> = requests.into_iter().zip(targets).enumerate().map(task).collect();
    for task in &tasks {
        task.target.check(task.format())?;
    }
    Ok(tasks)
}

/// Keeps the pipeline's queue full until all videos are made, or the user stops.
async fn make_all(pipeline: PipelineHandle, tasks: Vec<VideoTask>, facts: RunFacts) -> Outcome {
    let interrupt = Interrupt::listen(facts.report.clone());
    let mut waiting = VecDeque::from(tasks);
    let mut running = JoinSet::new();
    let mut failed = 0;
    loop {
        while !interrupt.is_asked()
            && let Some(task) = waiting.pop_front()
        {
            match pipeline.submit(task.label.request.clone()).await {
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
        pipeline.stop().await;
        return Outcome::Interrupted;
    }
    pipeline.drain().await;
    if failed == 0 { Outcome::Done } else { Outcome::SomeFailed }
}

fn device_name(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
    }
}
