//! Denoising alone, with blocks read in different ways: one after the other with the computation, beside it, or not at all
//! because they are kept.
//!
//! # Source
//! On-device Sora, section 3.3. Its sequential case takes load + compute a step, its concurrent one max(load, compute).

use std::num::NonZeroU64;

use serde::Serialize;
use sora_actors::memory::budget_to_fill;
use sora_actors::messages::GenerationRequest;

use super::series::Series;
use super::task::{BenchStages, BenchTask, NamedTask};
use crate::aligned::aligned;
use crate::config::MemoryLimits;
use crate::plan::{MemoryPlan, ModelMemory, PlannedGraph};

/// What to compare.
#[derive(Debug, Clone)]
pub struct CidlSettings {
    /// The video.
    pub request: GenerationRequest,
    /// Prompts in flight together, where several are compared with one.
    pub prompts: usize,
    /// Workers that share the transformer's blocks.
    pub workers: usize,
    /// The budget; `None` leaves room for half of the blocks.
    pub budget_bytes: Option<u64>,
}

/// How fast the disk is taken to be, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CidlReadLimits {
    /// Where reading is compared with computing.
    pub one_prompt: NonZeroU64,
    /// Where several prompts are compared with one.
    pub several_prompts: NonZeroU64,
}

/// How many times longer reading a step's blocks takes than computing all prompts, where several are compared with one. Our
/// choice: that comparison is about a slow disk, and it stays bound by it when computing is slower than in the run that set
/// the limit, as it is beside a reader and on a machine with neighbours.
const LOAD_BOUND: f64 = 1.5;

/// Names of the tasks.
const RESIDENT: &str = "resident";
const SEQUENTIAL: &str = "sequential";
const CONCURRENT: &str = "concurrent";
const KEPT: &str = "concurrent, kept what fits";
const ALL_KEPT: &str = "concurrent, all kept";
const ONE: &str = "1 prompt";

impl CidlSettings {
    fn task(&self, memory: MemoryLimits, prompts: usize) -> BenchTask {
        let (request, workers) = (self.request.clone(), self.workers);
        BenchTask { request, prompts, workers, memory, stages: BenchStages::Denoising }
    }

    /// The run without any limit: what computing takes when nothing is read.
    pub fn resident(&self) -> NamedTask {
        NamedTask { name: RESIDENT.into(), task: self.task(MemoryLimits::default(), 1) }
    }

    /// Limits under which a step's reads take as long as its computation, and with several prompts longer than theirs
    /// together: all wait for the disk then.
    pub fn read_limits(&self, model: &ModelMemory, step_seconds: f64) -> CidlReadLimits {
        let rate = |seconds: f64| {
            let rate = model.stdit3.stored_bytes as f64 / seconds.max(f64::MIN_POSITIVE);
            NonZeroU64::new(rate as u64).unwrap_or(NonZeroU64::MIN)
        };
        CidlReadLimits {
            one_prompt: rate(step_seconds),
            several_prompts: rate(LOAD_BOUND * step_seconds * self.prompts as f64),
        }
    }

    /// All runs.
    ///
    /// # Errors
    /// The video is too small for a latent.
    pub fn tasks(
        &self,
        model: &ModelMemory,
        limits: CidlReadLimits,
    ) -> sora_models::Result<Vec<NamedTask>> {
        let size = self.request.video_settings().size;
        let plan = MemoryPlan::new(
            model,
            size,
            PlannedGraph { workers: self.workers, videos: 1 },
            &MemoryLimits::default(),
        )?;
        let working = plan.base_bytes + plan.denoising_bytes;
        let whole = budget_to_fill(working + model.stdit3.resident_bytes);
        let half = (model.stdit3.blocks / 2 + self.workers) as u64 * model.stdit3.block_bytes;
        let budget_bytes = self.budget_bytes.unwrap_or(budget_to_fill(working + half));
        let memory = |budget_bytes, read_ahead, retain, limit| MemoryLimits {
            budget_bytes,
            read_ahead,
            retain,
            read_limit: Some(limit),
        };
        let one = limits.one_prompt;
        let mut tasks = vec![
            self.resident(),
            self.named(SEQUENTIAL, memory(budget_bytes, 0, false, one), 1),
            self.named(CONCURRENT, memory(budget_bytes, 1, false, one), 1),
            self.named(KEPT, memory(budget_bytes, 1, true, one), 1),
            self.named(ALL_KEPT, memory(whole, 1, true, one), 1),
        ];
        if self.prompts > 1 {
            // Activations of several prompts, beside blocks that are read in any case.
            let room = memory(u64::MAX, 1, false, limits.several_prompts);
            tasks.push(self.named(ONE, room.clone(), 1));
            tasks.push(self.named(&format!("{} prompts", self.prompts), room, self.prompts));
        }
        Ok(tasks)
    }

    fn named(&self, name: &str, memory: MemoryLimits, prompts: usize) -> NamedTask {
        NamedTask { name: name.into(), task: self.task(memory, prompts) }
    }
}

/// What the runs say.
#[derive(Debug, Clone, Serialize)]
pub struct CidlReport {
    /// The disk's speed.
    pub read_limits: CidlReadLimits,
    /// Computing a step when nothing is read.
    pub compute_seconds: f64,
    /// A step of each task.
    pub steps: Vec<CidlStep>,
    /// A step with the whole model kept within a budget, as a part of one without any budget.
    pub all_kept_to_resident: Option<f64>,
    /// Several prompts against one.
    pub prompts: Option<CidlPrompts>,
    /// The runs behind the figures.
    pub series: Vec<Series>,
}

/// A step of one task.
#[derive(Debug, Clone, Serialize)]
pub struct CidlStep {
    /// The task.
    pub name: String,
    /// How long the step takes.
    pub seconds: f64,
    /// How long its reads take.
    pub load_seconds: f64,
    /// The step as a part of the longer of its reads and its computations.
    pub to_longer: f64,
}

/// Several prompts in flight together against one, where the disk is slow.
#[derive(Debug, Clone, Serialize)]
pub struct CidlPrompts {
    /// How many.
    pub prompts: usize,
    /// Time from submission to the last latent, as a part of that of one prompt.
    pub time_ratio: f64,
    /// Time of a step of all prompts, as a part of that of one prompt.
    pub step_ratio: f64,
    /// Bytes that a step reads with one prompt.
    pub one_step_read_bytes: u64,
    /// Bytes that a step of all prompts reads.
    pub several_step_read_bytes: u64,
}

impl CidlReport {
    /// Draws the conclusions of all runs that [`CidlSettings::tasks`] asks for.
    pub fn new(read_limits: CidlReadLimits, series: Vec<Series>) -> Self {
        let of = |name: &str| series.iter().find(|series| series.name == name);
        let resident =
            of(RESIDENT).map_or(f64::NAN, |resident| resident.median.step.compute_seconds);
        let step = |series: &Series| {
            let step = series.median.step;
            let compute = resident * series.prompts as f64;
            CidlStep {
                name: series.name.clone(),
                seconds: step.seconds,
                load_seconds: step.load_seconds,
                to_longer: step.seconds / step.load_seconds.max(compute),
            }
        };
        let ratio =
            |above: &Series, below: &Series| above.median.step.seconds / below.median.step.seconds;
        let several = series.iter().find(|series| series.prompts > 1);
        let prompts = of(ONE).zip(several).map(|(one, several)| CidlPrompts {
            prompts: several.prompts,
            time_ratio: several.median.seconds / one.median.seconds,
            step_ratio: ratio(several, one),
            one_step_read_bytes: one.median.step.read_bytes,
            several_step_read_bytes: several.median.step.read_bytes,
        });
        Self {
            read_limits,
            compute_seconds: resident,
            steps: series.iter().map(step).collect(),
            all_kept_to_resident: of(ALL_KEPT)
                .zip(of(RESIDENT))
                .map(|(all, none)| ratio(all, none)),
            prompts,
            series,
        }
    }

    /// The report in words.
    pub fn text(&self) -> String {
        let head = [
            "step of",
            "limit MB/s",
            "seconds",
            "computes",
            "loads",
            "waits",
            "to the longer",
            "read MB",
            "peak MB",
            "account MB",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        for (series, step) in self.series.iter().zip(&self.steps) {
            let figures = series.median.step;
            let seconds = |seconds: f64| format!("{seconds:.3}");
            rows.push(vec![
                step.name.clone(),
                series.memory.read_limit.map_or("-".into(), |limit| megabytes(limit.get())),
                seconds(step.seconds),
                seconds(figures.compute_seconds),
                seconds(step.load_seconds),
                seconds(figures.wait_seconds),
                format!("{:.2}", step.to_longer),
                megabytes(figures.read_bytes),
                series.median.peak_process_bytes.map_or("-".into(), megabytes),
                megabytes(series.median.peak_ledger_bytes),
            ]);
        }
        let mut text = aligned(&rows);
        if let Some(ratio) = self.all_kept_to_resident {
            text += &format!("all kept within a budget: {ratio:.3} of the resident step\n");
        }
        if let Some(of) = &self.prompts {
            text += &format!(
                "{} prompts in flight: {:.2} times the time of one, a step {:.2} times; a step reads {} MB, of one {} MB\n",
                of.prompts,
                of.time_ratio,
                of.step_ratio,
                megabytes(of.several_step_read_bytes),
                megabytes(of.one_step_read_bytes),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device};
    use sora_models::bundle::ModelBundle;

    use super::super::ablation::tests::request;
    use super::super::measurement::tests::measured;
    use super::super::series::run_interleaved;
    use super::*;

    fn settings() -> CidlSettings {
        CidlSettings { request: request(), prompts: 4, workers: 1, budget_bytes: None }
    }

    fn model() -> ModelMemory {
        ModelMemory::of(&ModelBundle::embedded().unwrap(), DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn reads_take_as_long_as_the_computation_and_longer_where_prompts_share_them() {
        let model = model();
        let limits = settings().read_limits(&model, 2.0);
        assert_eq!(limits.one_prompt.get(), model.stdit3.stored_bytes / 2);
        assert_eq!(limits.several_prompts.get(), model.stdit3.stored_bytes / 12);
        assert!(settings().read_limits(&model, f64::INFINITY).one_prompt.get() > 0);
    }

    #[test]
    fn the_default_budget_keeps_half_of_the_blocks_and_the_whole_one_all() {
        let (settings, model) = (settings(), model());
        let tasks = settings.tasks(&model, settings.read_limits(&model, 1.0)).unwrap();
        let kept = |name: &str| {
            let task = &tasks.iter().find(|task| task.name == name).unwrap().task;
            let size = task.request.video_settings().size;
            let graph = PlannedGraph { workers: task.workers, videos: 1 };
            MemoryPlan::new(&model, size, graph, &task.memory).unwrap().retained_blocks
        };
        assert_eq!(kept(KEPT), model.stdit3.blocks / 2);
        assert_eq!(kept(ALL_KEPT), model.stdit3.blocks);
        assert_eq!((kept(SEQUENTIAL), kept(CONCURRENT)), (0, 0));
    }

    #[test]
    fn conclusions_are_ratios_within_the_runs() {
        let (settings, model) = (settings(), model());
        let limits = settings.read_limits(&model, 1.0);
        let tasks = settings.tasks(&model, limits).unwrap();
        let series = run_interleaved(&tasks, 1, |_, task| {
            let mut run = measured(10.0);
            run.step.seconds = match task.name.as_str() {
                SEQUENTIAL => 2.0,
                ALL_KEPT => 1.01,
                "4 prompts" => 4.8,
                ONE => 4.0,
                _ => 1.0,
            };
            run.step.load_seconds = if task.name == RESIDENT { 0.0 } else { 1.0 };
            run.step.compute_seconds = 1.0;
            Ok::<_, ()>(run)
        });
        let report = CidlReport::new(limits, series.unwrap());
        let to_longer = |name: &str| {
            report.steps.iter().find(|step| step.name == name).map(|step| step.to_longer).unwrap()
        };
        assert_eq!((to_longer(SEQUENTIAL), to_longer(CONCURRENT)), (2.0, 1.0));
        assert_eq!((to_longer(ONE), to_longer("4 prompts")), (4.0, 1.2));
        assert_eq!(report.all_kept_to_resident, Some(1.01));
        let prompts = report.prompts.as_ref().unwrap();
        assert_eq!((prompts.prompts, prompts.time_ratio), (4, 1.0));
        assert!((prompts.step_ratio - 1.2).abs() < 1e-9);
        assert!(report.text().contains("4 prompts in flight: 1.00 times"), "{}", report.text());
    }
}
