//! `sora decode`: the video of a saved latent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sora_actors::memory::readable_bytes;
use sora_actors::messages::JobId;
use sora_actors::stage::StageThread;
use sora_actors::{ConsumerLimits, JobOrder, JobTicket};
use sora_models::sizes::VideoSize;
use sora_pipeline::output::OutputTarget;
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::saved_job::{SAVED_JOB_EXTENSION, SavedJob};
use sora_pipeline::sidecar::Compute;
use sora_pipeline::topology::launch_decoder;
use sora_pipeline::{GraphLimits, Job, open_sora};

use crate::arguments::DecodeArguments;
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::job::{JobEnd, RunFacts, VideoTask};
use crate::report::{self, JobLabel};

/// Decodes a saved latent.
///
/// # Errors
/// Whatever can be found out before the work: a file that holds no latent, another model, an output that cannot be
/// written.
pub fn run(arguments: &DecodeArguments) -> anyhow::Result<Outcome> {
    let path = arguments.saved.as_path();
    let saved = SavedJob::load(path)?;
    saved.check_denoised(path)?;
    let target = OutputTarget::new(&output(arguments, path)?)?;
    let bundle = arguments.model.open()?;
    let device = arguments.model.device.open()?;
    let report = report::choose(arguments.json, arguments.quiet);
    let mut facts = RunFacts::new(&bundle, &device, arguments.model.dtype, report)?;
    saved.check_model(&facts.model, path)?;
    facts.compute = decoded_on(saved.compute, facts.compute);
    let checkpoint = Arc::new(saved.checkpoint);
    let task = VideoTask {
        label: JobLabel { number: 1, count: 1, request: checkpoint.request.clone() },
        target,
        checkpoint: Some(checkpoint.clone()),
        journal: None,
        keep_latent: true,
        preview: None,
    };
    task.target.check(task.format())?;
    let limits = arguments.memory.limits();
    let memory = ModelMemory::of(&bundle, arguments.model.dtype, &device)?;
    check_memory(&memory, checkpoint.request.video_settings().size, limits.budget_bytes)?;
    let decoder = open_sora::load_decoder(&bundle, &memory, &device, &limits)?;
    let id = JobId(0);
    // As for `sora generate`: whoever reads slowly does it to this video alone.
    let limits = ConsumerLimits { patience: Duration::MAX, ..GraphLimits::default().consumer };
    let (ticket, events) = JobTicket::open(id, JobOrder::resume(checkpoint), limits);
    let end = actix::System::new().block_on(async {
        let report = facts.report.clone();
        let interrupt = Interrupt::listen(move || report.stopping());
        let stages = launch_decoder(decoder, ticket)?;
        let end = task.follow(Job { id, events }, facts, interrupt).await;
        stages.into_iter().for_each(StageThread::join);
        anyhow::Ok(end)
    })?;
    Ok(match end {
        JobEnd::Written => Outcome::Done,
        JobEnd::Failed => Outcome::SomeFailed,
        JobEnd::Cancelled => Outcome::Interrupted,
    })
}

/// Refuses a budget that decoding does not fit in.
fn check_memory(memory: &ModelMemory, size: VideoSize, budget_bytes: u64) -> anyhow::Result<()> {
    let needed_bytes = memory.decoder_base_bytes() + memory.decoding_bytes(size)?;
    if needed_bytes > budget_bytes {
        bail!(
            "the memory budget of {} is too small: decoding {size} takes at least {}",
            readable_bytes(budget_bytes),
            readable_bytes(needed_bytes)
        );
    }
    Ok(())
}

/// Where the video goes: as told, or as the saved job is named.
fn output(arguments: &DecodeArguments, saved: &Path) -> anyhow::Result<String> {
    if let Some(output) = &arguments.output {
        return Ok(output.clone());
    }
    if saved.extension().is_none_or(|extension| extension != SAVED_JOB_EXTENSION) {
        bail!("say with -o where the video goes, such as -o film.mp4");
    }
    let video = saved.with_extension("");
    Ok(video.to_str().context("the file's name is not text: name the video with -o")?.to_string())
}

/// What a video was computed with, when it may have been decoded elsewhere.
fn decoded_on(denoised: Compute, decoded: Compute) -> Compute {
    let both = |denoised: String, decoded: String| match denoised == decoded {
        true => denoised,
        false => format!("{denoised}, decoded {decoded}"),
    };
    Compute {
        device: both(denoised.device, decoded.device),
        dtype: both(denoised.dtype, decoded.dtype),
    }
}
