//! Whole videos with each of the paper's techniques alone and with all together.
//!
//! # Source
//! On-device Sora, Table 5; its baseline, the model that streams without any of the techniques, is missing there.

use sora_actors::messages::GenerationRequest;
use sora_models::rflow::LeapRule;
use sora_models::stdit3::Merging;

use super::series::Series;
use super::task::{BenchStages, BenchTask, NamedTask};
use crate::aligned::aligned;
use crate::config::MemoryLimits;

/// What to compare.
#[derive(Debug, Clone)]
pub struct AblationSettings {
    /// The video; its leap and its merging are set by the variants.
    pub request: GenerationRequest,
    /// Prompts in flight together.
    pub prompts: usize,
    /// Workers that share the transformer's blocks.
    pub workers: usize,
    /// The budget and the disk's speed; what is read ahead and kept is set by the variants.
    pub memory: MemoryLimits,
    /// LPL, where it is on.
    pub leap: LeapRule,
    /// TDTM, where it is on.
    pub merging: Merging,
}

impl AblationSettings {
    /// The paper's leap: after half of the steps (15 of 30).
    pub fn paper_leap(steps: usize) -> LeapRule {
        LeapRule::Fixed((steps / 2).max(1))
    }

    /// The variants: nothing, each technique alone, and all. CI reads the next block while one computes; CI-DL also keeps
    /// the blocks that fit.
    pub fn tasks(&self) -> Vec<NamedTask> {
        let variants = [
            ("base", false, false, 0, false),
            ("+LPL", true, false, 0, false),
            ("+TDTM", false, true, 0, false),
            ("+CI", false, false, 1, false),
            ("+CI-DL", false, false, 1, true),
            ("all", true, true, 1, true),
        ];
        variants
            .into_iter()
            .map(|(name, leaps, merges, read_ahead, retain)| {
                let mut request = self.request.clone();
                let off = Merging::default();
                let merging = if merges { self.merging } else { off };
                request.sampling.leap = if leaps { self.leap } else { LeapRule::Off };
                request.sampling.merge = merging.steps;
                request.sampling.odd_frame = merging.odd_frame;
                let memory = MemoryLimits { read_ahead, retain, ..self.memory.clone() };
                let task = BenchTask {
                    request,
                    prompts: self.prompts,
                    workers: self.workers,
                    memory,
                    stages: BenchStages::All,
                };
                NamedTask { name: name.into(), task }
            })
            .collect()
    }
}

/// Medians in aligned columns; the first series is what the others are compared with.
pub fn ablation_table(series: &[Series]) -> String {
    let head = [
        "variant",
        "evaluations",
        "seconds",
        "of base",
        "embed",
        "denoise",
        "decode",
        "computes",
        "loads",
        "waits",
        "read MB",
        "peak MB",
        "account MB",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    let base = series.first().map_or(f64::NAN, |base| base.median.seconds);
    for Series { name, median, .. } in series {
        let total = median.total();
        let seconds = |seconds: f64| format!("{seconds:.2}");
        let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
        rows.push(vec![
            name.clone(),
            median.evaluations.to_string(),
            seconds(median.seconds),
            format!("{:.0} %", 100.0 * median.seconds / base),
            seconds(median.embed.seconds),
            seconds(median.denoise.seconds),
            seconds(median.decode.seconds),
            seconds(total.compute_seconds),
            seconds(total.load_seconds),
            seconds(total.wait_seconds),
            megabytes(total.read_bytes),
            median.peak_process_bytes.map_or("-".into(), megabytes),
            megabytes(median.peak_ledger_bytes),
        ]);
    }
    aligned(&rows)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_models::prompt_notation::PromptScores;
    use sora_models::rflow::SamplingSettings;
    use sora_models::stdit3::MergeSteps;

    use super::super::measurement::Measurement;
    use super::super::measurement::tests::measured;
    use super::super::series::run_interleaved;
    use super::*;

    /// A small video.
    pub fn request() -> GenerationRequest {
        GenerationRequest {
            prompt: "a ball".into(),
            negative_prompt: None,
            seed: 1,
            width_px: 32,
            height_px: 24,
            num_frames: 5,
            fps: 8.0,
            sampling: SamplingSettings { steps: 4, ..SamplingSettings::default() },
            scores: PromptScores::default(),
        }
    }

    fn settings() -> AblationSettings {
        AblationSettings {
            request: request(),
            prompts: 2,
            workers: 1,
            memory: MemoryLimits { budget_bytes: 123, ..MemoryLimits::default() },
            leap: AblationSettings::paper_leap(30),
            merging: "all".parse().unwrap(),
        }
    }

    #[test]
    fn each_variant_differs_from_the_base_in_one_thing_and_the_last_in_all() {
        let tasks = settings().tasks();
        let of = |name: &str| tasks.iter().find(|task| task.name == name).unwrap().task.clone();
        let base = of("base");
        assert_eq!(base.request, request());
        assert_eq!(
            (base.memory.read_ahead, base.memory.retain, base.memory.budget_bytes),
            (0, false, 123)
        );

        let mut changed = base.clone();
        changed.request.sampling.leap = LeapRule::Fixed(15);
        assert_eq!(of("+LPL"), changed);
        let mut changed = base.clone();
        changed.request.sampling.merge = MergeSteps::All;
        assert_eq!(of("+TDTM"), changed);
        let mut changed = base.clone();
        changed.memory.read_ahead = 1;
        assert_eq!(of("+CI"), changed);
        changed.memory.retain = true;
        assert_eq!(of("+CI-DL"), changed);
        changed.request.sampling.leap = LeapRule::Fixed(15);
        changed.request.sampling.merge = MergeSteps::All;
        assert_eq!(of("all"), changed);
    }

    #[test]
    fn runs_are_interleaved_and_their_medians_make_a_table() {
        let tasks = settings().tasks();
        let mut order = Vec::new();
        let series = run_interleaved(&tasks, 3, |number, task| {
            assert_eq!(number, order.len());
            order.push(task.name.clone());
            let seconds = if task.name == "+LPL" { 5.0 } else { 10.0 + (number / 6) as f64 };
            Ok::<Measurement, ()>(measured(seconds))
        });
        let series = series.unwrap();
        assert_eq!(order.len(), 18);
        assert!(order.chunks(6).all(|round| round[0] == "base" && round[5] == "all"));
        assert_eq!((series[0].runs.len(), series[0].median.seconds), (3, 11.0));
        let table = ablation_table(&series);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("11.00") && lines[1].contains("100 %"), "{table}");
        assert!(lines[2].starts_with("+LPL") && lines[2].contains("45 %"), "{table}");
    }

    #[test]
    fn the_first_failure_ends_the_series() {
        let failed = run_interleaved(&settings().tasks(), 2, |number, _| {
            if number == 3 { Err(number) } else { Ok(measured(1.0)) }
        });
        assert_eq!(failed, Err(3));
    }
}
