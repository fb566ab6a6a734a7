//! `sora eval`: a prompt set through chosen settings, judged.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sora_models::bundle::{EMBEDDED_PROMPTS, ModelBundle};
use sora_pipeline::eval::prompt_set::{self, PromptCase};
use sora_pipeline::eval::{
    EvalPlan, EvalSetting, Judged, QualityReport, Report, evaluate, text_table,
};
use sora_pipeline::plan::ModelMemory;
use sora_pipeline::{GraphLimits, PipelineHandle, open_sora};

use crate::arguments::EvalArguments;
use crate::exit::Outcome;
use crate::print::note;

/// Makes and judges all clips and prints what was found.
///
/// # Errors
/// Something asked for cannot be done, or a clip could not be made.
pub fn run(arguments: &EvalArguments) -> anyhow::Result<Outcome> {
    let bundle = arguments.model.open()?;
    let plan = plan(arguments, &bundle)?;
    if arguments.require.is_some() && plan.cases.iter().all(names_nothing) {
        bail!(
            "--require needs prompts that name colour, background, shape or motion, as lines of JSON"
        );
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut limits = GraphLimits::default();
    // One clip's small tensors do not fill several cores, but clips beside each other do.
    limits.workers =
        arguments.workers.map_or_else(|| cores.min(bundle.stdit3_config().blocks()), usize::from);
    limits.token_slots = 2 * limits.workers;
    limits.memory = arguments.memory.limits();
    open_sora::check_workers(&bundle, limits.workers)?;
    let device = arguments.model.device.open()?;
    let bar = progress_bar(&plan, arguments.json);
    if let Some(folder) = &arguments.quality_page {
        QualityReport::prepare(folder)?;
    }
    let memory = ModelMemory::of(&bundle, arguments.model.dtype, &device)?;
    let judged = actix::System::new().block_on(async {
        let pipeline = PipelineHandle::open_sora(&bundle, memory, &device, &limits)?;
        let judged = evaluate(&pipeline, &plan, |done| bar.set_position(done as u64)).await;
        pipeline.drain().await;
        anyhow::Ok(judged)
    })?;
    bar.finish_and_clear();
    let judged = match judged {
        Ok(judged) => judged,
        Err(cause) => {
            note(&format!("error: {cause}"));
            return Ok(Outcome::SomeFailed);
        }
    };
    let report = Report::new(&plan, &judged);
    let model = format!("{}, fingerprint {}", bundle.generation().name, bundle.fingerprint()?);
    match print(arguments, &plan, &model, (&report, &judged)) {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Interrupted),
        printed => printed.context("cannot write to standard output")?,
    }
    if let Some(folder) = &arguments.quality_page {
        QualityReport::write(folder, &model, &report, &judged)?;
        note(&format!("{} and its pictures are written", folder.join("quality.md").display()));
    }
    Ok(verdict(arguments.require, &report))
}

fn plan(arguments: &EvalArguments, bundle: &ModelBundle) -> anyhow::Result<EvalPlan> {
    let mut cases = match &arguments.prompts {
        Some(file) => prompt_set::read(file)?,
        None if arguments.model.folder.is_none() => {
            prompt_set::parse(EMBEDDED_PROMPTS, Path::new("(embedded prompts)"))?
        }
        None => bail!("--prompts FILE is needed for a model that is not the embedded one"),
    };
    if let Some(limit) = arguments.limit {
        cases.truncate(limit.get());
    }
    let mut settings = vec![EvalSetting::unchanged()];
    let wanted = match arguments.quality_page {
        Some(_) => QualityReport::settings(),
        None => arguments.settings.clone(),
    };
    for setting in wanted {
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    for setting in &settings {
        let refused = || format!("the setting `{}` does not fit the model", setting.name());
        setting.sampling(bundle.generation()).check().with_context(refused)?;
    }
    let plan = EvalPlan {
        cases,
        settings,
        first_seed: arguments.seed,
        defaults: bundle.generation().clone(),
        in_flight: GraphLimits::default().queue_capacity,
        timed_prompts: arguments.timed,
        kept_prompts: if arguments.quality_page.is_some() {
            QualityReport::PICTURED_PROMPTS
        } else {
            0
        },
    };
    plan.check()?;
    if plan.kept_prompts > plan.cases.len() {
        bail!(
            "--quality-page needs at least {} prompts: it shows clips of so many",
            plan.kept_prompts
        );
    }
    Ok(plan)
}

fn names_nothing(case: &PromptCase) -> bool {
    let named = &case.attributes;
    named.colour.is_none()
        && named.background.is_none()
        && named.shape.is_none()
        && named.motion.is_none()
}

fn progress_bar(plan: &EvalPlan, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style =
        ProgressStyle::with_template("{pos} of {len} clips {wide_bar} {elapsed}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(plan.clips() as u64), target);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(
    arguments: &EvalArguments,
    plan: &EvalPlan,
    model: &str,
    (report, judged): (&Report, &Judged),
) -> io::Result<()> {
    let mut output = io::stdout();
    if arguments.json {
        let line = serde_json::json!({ "model": model, "report": report });
        return writeln!(output, "{line}");
    }
    writeln!(output, "{} prompts, {model}", report.prompts)?;
    write!(output, "{}", text_table(&report.settings.iter().collect::<Vec<_>>()))?;
    if arguments.mistakes {
        print_mistakes(&mut output, plan, judged)?;
    }
    Ok(())
}

/// A line for each clip that does not show all that its prompt names: what is seen instead.
fn print_mistakes(output: &mut impl Write, plan: &EvalPlan, judged: &Judged) -> io::Result<()> {
    for (case, scores) in plan.cases.iter().zip(&judged.scores) {
        for (setting, score) in plan.settings.iter().zip(scores) {
            if score.agreement.all() == Some(false) || score.agreement.size == Some(false) {
                let seen = serde_json::to_string(&score.seen)?;
                writeln!(output, "{}: \"{}\" shows {seen}", setting.name(), case.prompt)?;
            }
        }
    }
    Ok(())
}

fn verdict(required_percent: Option<f64>, report: &Report) -> Outcome {
    let Some(required) = required_percent else { return Outcome::Done };
    let below = report
        .settings
        .iter()
        .filter(|of| of.accuracy.all.is_none_or(|all| 100.0 * all.share < required));
    let names: Vec<_> = below.map(|of| of.setting.as_str()).collect();
    if names.is_empty() {
        return Outcome::Done;
    }
    note(&format!("error: below {required} % all together: {}", names.join(", ")));
    Outcome::SomeFailed
}
