//! From scores of clips to figures of settings.

use serde::Serialize;
use sora_models::rflow::SamplingSettings;

use super::runner::{ClipScore, EvalPlan, Judged};
use super::statistics::{Interval, Mean, Proportion};

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many prompts.
    pub prompts: usize,
    /// A prompt without a seed of its own took this number plus its place in the set.
    pub first_seed: u64,
    /// One entry a setting; all are compared with the first.
    pub settings: Vec<SettingReport>,
}

/// What was measured of one setting. Intervals are 95 % confidence intervals over prompts.
#[derive(Debug, Clone, Serialize)]
pub struct SettingReport {
    /// How the setting was written.
    pub setting: String,
    /// What it comes to.
    pub sampling: SamplingSettings,
    /// Right answers for each attribute that prompts name.
    pub accuracy: Accuracy,
    /// PSNR in dB against the first setting's clips.
    pub psnr_db: Option<Mean>,
    /// SSIM against the first setting's clips.
    pub ssim: Option<Mean>,
    /// VBench's temporal flickering: 1 is perfectly steady.
    pub temporal_flickering: Option<Mean>,
    /// Mean difference of consecutive frames, in levels of 255: how much moves.
    pub mean_frame_difference: Option<Mean>,
    /// Variance of the Laplacian: how sharp clips are.
    pub high_frequency_energy: Option<Mean>,
    /// Evaluations of the model for a clip.
    pub evaluations: Option<Mean>,
    /// Median seconds of a clip made with nothing beside it.
    pub seconds: Option<f64>,
    /// Mean drift cosine of each step that was evaluated: step, mean, and how many clips.
    pub drift_cosines: Vec<DriftCosine>,
}

/// Right answers by attribute; `None` where no prompt names it.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// The shape's colour.
    pub colour: Option<Share>,
    /// The background's colour.
    pub background: Option<Share>,
    /// The shape.
    pub shape: Option<Share>,
    /// Its size.
    pub size: Option<Share>,
    /// Its motion, direction included.
    pub motion: Option<Share>,
    /// Colour, background, shape and motion, as far as named, together.
    pub all: Option<Share>,
}

/// A share of right answers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Share {
    /// The counts.
    #[serde(flatten)]
    pub counts: Proportion,
    /// Right answers of all.
    pub share: f64,
    /// Wilson's 95 % interval of the share.
    pub interval: Interval,
}

/// The drift cosine of one step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DriftCosine {
    /// Index of the step.
    pub step: usize,
    /// Mean over the clips whose step has one.
    pub mean: f64,
    /// How many clips.
    pub clips: usize,
}

impl Report {
    /// Sums up.
    pub fn new(plan: &EvalPlan, judged: &Judged) -> Self {
        let settings = plan.settings.iter().enumerate().map(|(index, setting)| {
            let scores: Vec<_> = judged.scores.iter().map(|prompt| &prompt[index]).collect();
            SettingReport::new(
                setting.name(),
                setting.sampling(&plan.defaults),
                &scores,
                &judged.seconds[index],
            )
        });
        Self {
            prompts: plan.cases.len(),
            first_seed: plan.first_seed,
            settings: settings.collect(),
        }
    }

    /// The entry of the setting of this name.
    pub fn setting(&self, name: &str) -> Option<&SettingReport> {
        self.settings.iter().find(|entry| entry.setting == name)
    }
}

impl SettingReport {
    fn new(
        setting: &str,
        sampling: SamplingSettings,
        scores: &[&ClipScore],
        seconds: &[f64],
    ) -> Self {
        let mean = |value: &dyn Fn(&ClipScore) -> Option<f64>| {
            Mean::of(&scores.iter().filter_map(|score| value(score)).collect::<Vec<_>>())
        };
        Self {
            setting: setting.to_string(),
            accuracy: Accuracy::new(scores),
            psnr_db: mean(&|score| score.likeness.map(|(psnr, _)| psnr)),
            ssim: mean(&|score| score.likeness.and_then(|(_, ssim)| ssim)),
            temporal_flickering: mean(&|score| score.temporal_flickering),
            mean_frame_difference: mean(&|score| score.mean_frame_difference),
            high_frequency_energy: mean(&|score| score.high_frequency_energy),
            evaluations: mean(&|score| Some(score.evaluations as f64)),
            seconds: median(seconds),
            drift_cosines: drift_cosines(sampling.steps, scores),
            sampling,
        }
    }
}

impl Accuracy {
    fn new(scores: &[&ClipScore]) -> Self {
        let share = |answer: &dyn Fn(&ClipScore) -> Option<bool>| {
            let mut counts = Proportion::default();
            scores.iter().filter_map(|score| answer(score)).for_each(|right| counts.add(right));
            Some(Share { counts, share: counts.share()?, interval: counts.interval()? })
        };
        Self {
            colour: share(&|score| score.agreement.colour),
            background: share(&|score| score.agreement.background),
            shape: share(&|score| score.agreement.shape),
            size: share(&|score| score.agreement.size),
            motion: share(&|score| score.agreement.motion),
            all: share(&|score| score.agreement.all()),
        }
    }
}

fn drift_cosines(steps: usize, scores: &[&ClipScore]) -> Vec<DriftCosine> {
    let of_step = |step| {
        let of_clip =
            |score: &&&ClipScore| score.cosines.iter().find(|(at, _)| *at == step).copied();
        let cosines: Vec<f64> =
            scores.iter().filter_map(|score| of_clip(&score)).map(|(_, c)| c).collect();
        let mean = Mean::of(&cosines)?;
        Some(DriftCosine { step, mean: mean.mean, clips: mean.count })
    };
    (0..steps).filter_map(of_step).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::detector::{Agreement, Detection};
    use super::*;

    fn score(colour: Option<bool>, psnr: Option<f64>, cosine: f64) -> ClipScore {
        ClipScore {
            seen: Detection::default(),
            agreement: Agreement { colour, ..Agreement::default() },
            likeness: psnr.map(|psnr| (psnr, None)),
            temporal_flickering: None,
            mean_frame_difference: Some(2.0),
            high_frequency_energy: None,
            evaluations: 4,
            cosines: vec![(1, cosine)],
        }
    }

    #[test]
    fn figures_come_from_the_clips_that_have_them() {
        let scores = [score(Some(true), Some(30.0), 0.5), score(None, None, 0.7)];
        let scores: Vec<_> = scores.iter().collect();
        let sampling = SamplingSettings { steps: 3, ..SamplingSettings::default() };
        let report = SettingReport::new("x", sampling, &scores, &[3.0, 1.0, 2.0, 9.0]);
        let colour = report.accuracy.colour.unwrap();
        assert_eq!((colour.counts.right, colour.counts.asked, colour.share), (1, 1, 1.0));
        assert!(report.accuracy.shape.is_none() && report.ssim.is_none());
        assert_eq!(report.psnr_db.unwrap().mean, 30.0);
        assert_eq!(report.mean_frame_difference.unwrap().count, 2);
        assert_eq!(report.seconds, Some(2.5));
        assert_eq!(report.drift_cosines.len(), 1);
        let drift = report.drift_cosines[0];
        assert_eq!((drift.step, drift.clips), (1, 2));
        assert!((drift.mean - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_median_needs_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[5.0, 1.0, 2.0]), Some(2.0));
    }
}
