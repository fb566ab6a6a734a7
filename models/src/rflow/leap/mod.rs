//! LPL, the linear proportional leap: stop denoising early and go the rest of the way along the last velocity.
//!
//! Pure decisions: sampled velocities go in, "leap now" comes out. See [`LeapRule`].

mod rule;

use serde::{Deserialize, Serialize};

pub use rule::{CosineOver, DynamicLeap, LeapRule};

/// Below this product of norms a cosine counts as 0.
///
/// # Source
/// The default `eps` of PyTorch's `cosine_similarity`.
const SMALLEST_NORM: f64 = 1e-8;

/// A velocity as far as the rule looks at it: equally long rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VelocitySample {
    /// The values, row after row.
    pub values: Vec<f32>,
    /// Length of a row.
    pub row_length: usize,
}

impl VelocitySample {
    /// The mean over rows of the cosine between this and `other`.
    fn cosine(&self, other: &Self) -> f64 {
        let row_length = self.row_length.max(1);
        let rows = self.values.chunks(row_length).zip(other.values.chunks(row_length));
        let count = rows.len().max(1) as f64;
        rows.map(|(a, b)| row_cosine(a, b)).sum::<f64>() / count
    }
}

fn row_cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()).max(SMALLEST_NORM)
}

/// What was decided at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeapDecision {
    /// The drift cosine: between this step's velocity and the one before; `None` at the first step.
    pub cosine: Option<f64>,
    /// Whether this step goes all the way to time 0.
    pub leap: bool,
}

/// The state of a rule over one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearProportionalLeap {
    rule: LeapRule,
    best: f64,
    patience_left: usize,
    previous: Option<VelocitySample>,
}

impl LinearProportionalLeap {
    /// A rule before its first step.
    pub fn new(rule: LeapRule) -> Self {
        let mut state = Self { rule, best: 0.0, patience_left: 0, previous: None };
        state.reset();
        state
    }

    pub(super) fn rule(&self) -> LeapRule {
        self.rule
    }

    /// The velocity of the step before, which the next one is compared with.
    pub(super) fn previous(&self) -> Option<&VelocitySample> {
        self.previous.as_ref()
    }

    pub(super) fn previous_mut(&mut self) -> Option<&mut VelocitySample> {
        self.previous.as_mut()
    }

    /// What the next velocity must be sampled over.
    pub fn sample_over(&self) -> CosineOver {
        match self.rule {
            LeapRule::Dynamic(dynamic) => dynamic.over,
            LeapRule::Off | LeapRule::Fixed(_) => CosineOver::default(),
        }
    }

    /// The best cosine so far and the patience left; 0 and 0 unless the rule is dynamic.
    pub fn progress(&self) -> (f64, usize) {
        (self.best, self.patience_left)
    }

    /// Takes the velocity of `step` and decides. Steps come in order.
    pub fn decide(&mut self, step: usize, velocity: VelocitySample) -> LeapDecision {
        let cosine = self.previous.as_ref().map(|previous| velocity.cosine(previous));
        self.previous = Some(velocity);
        let leap = match self.rule {
            LeapRule::Off => false,
            LeapRule::Fixed(at) => step == at,
            LeapRule::Dynamic(dynamic) => cosine
                .filter(|_| step >= dynamic.from_step)
                .is_some_and(|cosine| self.patience_ends(cosine, dynamic)),
        };
        LeapDecision { cosine, leap }
    }

    fn patience_ends(&mut self, cosine: f64, dynamic: DynamicLeap) -> bool {
        if cosine > self.best + dynamic.tolerance {
            (self.best, self.patience_left) = (cosine, dynamic.patience);
            return false;
        }
        self.patience_left = self.patience_left.saturating_sub(1);
        let leap = self.patience_left == 0;
        if leap {
            self.reset();
        }
        leap
    }

    fn reset(&mut self) {
        self.best = 0.0;
        self.patience_left = match self.rule {
            LeapRule::Dynamic(dynamic) => dynamic.patience,
            LeapRule::Off | LeapRule::Fixed(_) => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A unit vector at an angle, so that cosines are those of the differences of angles.
    fn at_angle(angle: f64) -> VelocitySample {
        VelocitySample { values: vec![angle.cos() as f32, angle.sin() as f32], row_length: 2 }
    }

    /// Feeds velocities whose cosines are `cosines` (the first step has none) and returns the leaping step.
    fn leap_step(rule: LeapRule, cosines: &[f64]) -> Option<usize> {
        let mut leap = LinearProportionalLeap::new(rule);
        let mut angle = 0.0f64;
        assert_eq!(leap.decide(0, at_angle(0.0)).cosine, None);
        for (index, cosine) in cosines.iter().enumerate() {
            angle += cosine.acos();
            let decision = leap.decide(index + 1, at_angle(angle));
            assert!((decision.cosine.unwrap() - cosine).abs() < 1e-3, "{decision:?}");
            if decision.leap {
                return Some(index + 1);
            }
        }
        None
    }

    fn dynamic(from_step: usize, patience: usize) -> LeapRule {
        LeapRule::Dynamic(DynamicLeap {
            from_step,
            patience,
            tolerance: 1e-2,
            ..Default::default()
        })
    }

    #[test]
    fn a_dynamic_leap_waits_for_its_patience() {
        assert_eq!(leap_step(dynamic(1, 3), &[0.5, 0.6, 0.6, 0.6, 0.6]), Some(5));
        assert_eq!(leap_step(dynamic(1, 1), &[0.5, 0.6, 0.6]), Some(3));
    }

    #[test]
    fn an_improvement_restores_the_patience() {
        assert_eq!(leap_step(dynamic(1, 2), &[0.5, 0.5, 0.8, 0.8, 0.8]), Some(5));
        assert_eq!(leap_step(dynamic(1, 3), &[0.1, 0.2, 0.3, 0.4, 0.5]), None);
    }

    #[test]
    fn steps_before_the_window_do_not_count() {
        assert_eq!(leap_step(dynamic(4, 2), &[0.9, 0.9, 0.9, 0.5, 0.5, 0.5]), Some(6));
    }

    #[test]
    fn the_default_rule_leaps_where_the_reference_did() {
        // Drift cosines of recorded runs from step 14 on; those before it do not count.
        let runs: [(&[f64], _); 3] = [
            (&[0.8137, 0.9263, 0.9202, 0.8750, 0.8122], Some(18)),
            (&[0.6748, 0.7178, 0.7609, 0.8040, 0.8471, 0.8477, 0.8432, 0.8415], Some(21)),
            (&[0.3747, 0.4065, 0.4387, 0.4705, 0.5020, 0.5335, 0.5653, 0.5973], None),
        ];
        for (recorded, leap) in runs {
            let cosines = [&[0.9; 13], recorded].concat();
            assert_eq!(leap_step(LeapRule::Dynamic(DynamicLeap::default()), &cosines), leap);
        }
    }

    #[test]
    fn fixed_and_off_look_at_the_step_alone() {
        assert_eq!(leap_step(LeapRule::Fixed(3), &[0.5, 0.9, 0.1, 0.1]), Some(3));
        assert_eq!(leap_step(LeapRule::Off, &[0.5; 9]), None);
    }

    #[test]
    fn rows_count_alike_whatever_their_length() {
        let a = VelocitySample { values: vec![1., 0., 100., 0.], row_length: 2 };
        let b = VelocitySample { values: vec![0., 1., 50., 0.], row_length: 2 };
        assert!((a.cosine(&b) - 0.5).abs() < 1e-12);
        let zero = VelocitySample { values: vec![0.; 4], row_length: 2 };
        assert_eq!(a.cosine(&zero), 0.0);
    }
}
