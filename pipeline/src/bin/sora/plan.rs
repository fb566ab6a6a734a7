//! `sora plan`: what a video takes, before any work.

use sora_models::sizes::VideoSize;
use sora_pipeline::plan::{MemoryPlan, ModelMemory, PlannedGraph, PlannedVideo};
use sora_pipeline::{GraphLimits, open_sora};

use crate::arguments::PlanArguments;
use crate::exit::Outcome;
use crate::print;

/// Prints the plan; a budget that is too small is an outcome of its own.
///
/// # Errors
/// The model cannot be used, or the video is not one.
pub fn run(arguments: &PlanArguments) -> anyhow::Result<Outcome> {
    let bundle = arguments.model.open()?;
    let defaults = bundle.generation();
    let size = VideoSize {
        width_px: arguments.size.map_or(defaults.width, |size| size.width_px),
        height_px: arguments.size.map_or(defaults.height, |size| size.height_px),
        frames: arguments.frames.unwrap_or(defaults.num_frames),
    };
    // A blank one is none, as for `sora generate`.
    let negative = arguments.negative_prompt.as_deref().filter(|text| !text.trim().is_empty());
    let video = PlannedVideo { size, texts: 1 + usize::from(negative.is_some()) };
    let graph = GraphLimits::default();
    let workers = arguments.workers.map_or(graph.workers, usize::from);
    let videos = arguments.prompts.get().min(graph.token_slots);
    open_sora::check_workers(&bundle, workers)?;
    let device = arguments.model.device.open()?;
    let memory = ModelMemory::of(&bundle, arguments.model.dtype, &device)?;
    let plan = MemoryPlan::new(
        &memory,
        video,
        PlannedGraph { workers, videos },
        &arguments.memory.limits(),
    )?;
    match arguments.json {
        true => print::result(&serde_json::to_string(&plan.report())?),
        false => print::result(&plan.to_string()),
    }
    Ok(if plan.fits() { Outcome::Done } else { Outcome::SomeFailed })
}
