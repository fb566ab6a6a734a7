//! `sora serve`: the graph behind HTTP, until it is stopped.

use std::net::SocketAddr;

use sora_pipeline::PipelineHandle;
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::server::{
    ApiKeys, DispatchEnd, Engine, QueueLimits, RequestLimits, Retention, Server, ServerSettings,
};
use sora_pipeline::sidecar::{Compute, ModelIdentity};

use crate::arguments::ServeArguments;
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::metrics::MetricsOutput;
use crate::print::{note, result};
use crate::report;

/// Videos in the graph beside those that are denoised: one whose prompt is embedded, and one that is decoded.
const BESIDE_DENOISING: usize = 2;

/// Serves until it is stopped.
///
/// # Errors
/// Whatever can be found out before: keys, the model, the folder or the address cannot be used.
pub fn run(arguments: &ServeArguments) -> anyhow::Result<Outcome> {
    let settings = settings(arguments)?;
    settings.check()?;
    let bundle = arguments.model.open()?;
    let device = arguments.model.device.open()?;
    let mut limits = arguments.memory.graph_limits(arguments.workers, &bundle)?;
    let in_graph = limits.token_slots + BESIDE_DENOISING;
    limits.queue_capacity = limits.queue_capacity.max(in_graph);
    let (output, metrics) = MetricsOutput::open_with_page(&arguments.metrics, arguments.json)?;
    let model = ModelIdentity::of(&bundle)?;
    let compute = Compute::of(&device, arguments.model.dtype);
    let memory = ModelMemory::of(&bundle, arguments.model.dtype, &device)?;
    actix::System::new().block_on(async move {
        let pipeline = PipelineHandle::open_sora(&bundle, memory, &device, &limits)?;
        let defaults = bundle.generation().clone();
        let engine = Engine { pipeline, in_graph, model, compute, defaults, metrics };
        let server = Server::open(settings, engine).await?;
        let mut interrupt = Interrupt::listen(|| {
            note("stopping: what is under way is saved for the next start; again to stop at once");
        });
        tell(server.address(), arguments.json);
        let _printed = output.print_to(report::choose(arguments.json, true));
        Ok(match server.run(interrupt.asked()).await? {
            DispatchEnd::Stopped => Outcome::Done,
            DispatchEnd::GraphDied => {
                note("error: a stage of the graph died: start again to go on where it was");
                Outcome::SomeFailed
            }
        })
    })
}

fn settings(arguments: &ServeArguments) -> anyhow::Result<ServerSettings> {
    let keys = match &arguments.api_key_file {
        Some(file) => ApiKeys::read(file)?,
        None => ApiKeys::default(),
    };
    let limits = RequestLimits {
        body_bytes: usize::try_from(arguments.max_body.as_u64())?,
        prompt_chars: arguments.max_prompt,
        steps: arguments.max_steps,
        frames: arguments.max_frames,
        frame_pixels: arguments.max_pixels,
        queue: QueueLimits {
            waiting: arguments.max_queue,
            of_owner: arguments.max_per_key.unwrap_or(usize::MAX),
        },
        ..RequestLimits::default()
    };
    let bytes = arguments.keep_bytes.map(|bytes| bytes.as_u64());
    Ok(ServerSettings {
        address: SocketAddr::new(arguments.host, arguments.port),
        data: arguments.data.clone(),
        keys,
        limits,
        retention: Retention { age: arguments.keep_for, bytes },
        model_names: arguments.model_names.clone(),
        log_prompts: arguments.log_prompts,
        abandon_foreign: arguments.abandon_unfinished,
    })
}

fn tell(address: SocketAddr, json: bool) {
    let url = format!("http://{address}");
    if json {
        let line = serde_json::json!({"event": "listening", "address": address, "url": url});
        result(&line.to_string());
    } else {
        result(&format!("listening on {url}"));
    }
}
