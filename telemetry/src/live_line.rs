//! What happened between two looks at the metrics, in one line for people.

use std::collections::BTreeMap;

use bytesize::ByteSize;

use crate::names;
use crate::samples::samples;

/// Stages that are less busy than this are not told of. Our choice: what rounds to nothing.
const BUSY_ENOUGH: f64 = 0.005;

/// What the line needs of the metrics, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    seconds: f64,
    /// By stage.
    busy_seconds: BTreeMap<String, f64>,
    /// By outcome.
    prompts: BTreeMap<String, f64>,
    /// By name, summed over labels.
    sums: BTreeMap<&'static str, f64>,
}

/// What is summed over all labels.
const SUMMED: [&str; 10] = [
    names::DENOISE_STEPS_COMPUTED,
    names::DENOISE_STEPS_LEAPT,
    names::DENOISE_STEPS_COASTED,
    names::BLOCK_READ_BYTES,
    names::MEMORY_USED_BYTES,
    names::MEMORY_BUDGET_BYTES,
    names::QUEUE_DEPTH_PROMPTS,
    names::SERVER_QUEUE_PROMPTS,
    names::PROCESS_RESIDENT_BYTES,
    names::PROCESS_CPU_SECONDS,
];

impl Moment {
    /// Out of a page, so many seconds after the beginning.
    pub(crate) fn of(page: &str, seconds: f64) -> Self {
        let mut moment = Self { seconds, ..Self::default() };
        for sample in samples(page) {
            let label = |name| sample.label(name).unwrap_or_default().to_string();
            if sample.name.strip_suffix("_sum") == Some(names::STAGE_BUSY_SECONDS) {
                moment.busy_seconds.insert(label(names::LABEL_STAGE), sample.value);
            } else if sample.name == names::PROMPTS {
                moment.prompts.insert(label(names::LABEL_OUTCOME), sample.value);
            } else if let Some(name) = SUMMED.into_iter().find(|name| *name == sample.name) {
                *moment.sums.entry(name).or_default() += sample.value;
            }
        }
        moment
    }

    fn sum(&self, name: &str) -> f64 {
        self.sums.get(name).copied().unwrap_or_default()
    }
}

/// What happened from `before` to `now`, and how things are now. What is nothing is left out.
pub(crate) fn live_line(before: &Moment, now: &Moment) -> String {
    let seconds = (now.seconds - before.seconds).max(f64::MIN_POSITIVE);
    let more = |name| now.sum(name) - before.sum(name);
    let mut parts = Vec::new();
    let busy = now.busy_seconds.iter().filter_map(|(stage, total)| {
        let more = total - before.busy_seconds.get(stage).unwrap_or(&0.0);
        // Work is counted when it is done, so some of it may have begun before.
        let part = (more / seconds).min(1.0);
        (part >= BUSY_ENOUGH).then(|| format!("{stage} {:.0} %", 100.0 * part))
    });
    let busy = busy.collect::<Vec<_>>().join(", ");
    parts.push(if busy.is_empty() { "idle".into() } else { format!("busy: {busy}") });
    let steps = [
        (names::DENOISE_STEPS_COMPUTED, "computed"),
        (names::DENOISE_STEPS_LEAPT, "leapt"),
        (names::DENOISE_STEPS_COASTED, "coasted"),
    ];
    let steps = steps.map(|(name, verb)| (now.sum(name), verb));
    parts.extend(counts("steps", steps.iter().map(|(count, verb)| (*count, *verb))));
    let read = more(names::BLOCK_READ_BYTES) / seconds;
    if read >= 1.0 {
        parts.push(format!("read {}/s", bytes(read)));
    }
    let (used, budget) = (now.sum(names::MEMORY_USED_BYTES), now.sum(names::MEMORY_BUDGET_BYTES));
    // Without a budget, the largest number of bytes there is.
    parts.push(match budget < u64::MAX as f64 {
        true => format!("memory {} of {}", bytes(used), bytes(budget)),
        false => format!("memory {}", bytes(used)),
    });
    let (resident, cpu) =
        (now.sum(names::PROCESS_RESIDENT_BYTES), now.sum(names::PROCESS_CPU_SECONDS));
    parts.push(format!("process {}, {cpu:.0} s of CPU", bytes(resident)));
    let waiting = now.sum(names::QUEUE_DEPTH_PROMPTS) + now.sum(names::SERVER_QUEUE_PROMPTS);
    let prompts = now.prompts.iter().map(|(outcome, count)| (*count, outcome.as_str()));
    parts.extend(counts("prompts", std::iter::once((waiting, "waiting")).chain(prompts)));
    format!("{:.0} s: {}", now.seconds, parts.join("; "))
}

/// `steps 12 computed, 3 leapt`; nothing when all counts are 0.
fn counts<'a>(of: &str, counts: impl Iterator<Item = (f64, &'a str)>) -> Option<String> {
    let told: Vec<_> =
        counts.filter(|(count, _)| *count > 0.0).map(|(n, what)| format!("{n} {what}")).collect();
    (!told.is_empty()).then(|| format!("{of} {}", told.join(", ")))
}

fn bytes(bytes: f64) -> String {
    // Metrics are whole numbers of bytes, and rates are rounded.
    ByteSize::b(bytes as u64).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "sora_stage_busy_seconds_sum{stage=\"stdit_worker_0\"} 10\n\
                          sora_block_read_bytes_total{loader=\"stdit_worker_0\"} 1000000\n";
    const NOW: &str = "sora_stage_busy_seconds_sum{stage=\"stdit_worker_0\"} 11.9\n\
                       sora_stage_busy_seconds_sum{stage=\"prompt_embedder\"} 0.001\n\
                       sora_stage_busy_seconds_bucket{stage=\"stdit_worker_0\",le=\"1\"} 7\n\
                       sora_block_read_bytes_total{loader=\"stdit_worker_0\"} 5000000\n\
                       sora_block_read_bytes_total{loader=\"vae_decoder\"} 2000000\n\
                       sora_denoise_steps_computed_total 12\n\
                       sora_denoise_steps_leapt_total 0\n\
                       sora_memory_used_bytes{use=\"base\"} 70000000\n\
                       sora_memory_used_bytes{use=\"working\"} 30000000\n\
                       sora_memory_budget_bytes 3300000000\n\
                       sora_queue_depth_prompts 1\n\
                       sora_server_queue_prompts 2\n\
                       sora_prompts_total{outcome=\"finished\"} 2\n\
                       process_resident_memory_bytes 120000000\n\
                       process_cpu_seconds_total 8\n";

    #[test]
    fn the_line_tells_what_happened_since_the_last_one() {
        let line = live_line(&Moment::of(BEFORE, 4.0), &Moment::of(NOW, 6.0));
        assert_eq!(
            line,
            "6 s: busy: stdit_worker_0 95 %; steps 12 computed; read 3.0 MB/s; memory 100.0 MB of 3.3 GB; \
             process 120.0 MB, 8 s of CPU; prompts 3 waiting, 2 finished"
        );
    }

    #[test]
    fn without_work_or_budget_the_line_says_so() {
        let page = "sora_memory_budget_bytes 18446744073709552000\n";
        let line = live_line(&Moment::of("", 0.0), &Moment::of(page, 0.0));
        assert_eq!(line, "0 s: idle; memory 0 B; process 0 B, 0 s of CPU");
    }
}
