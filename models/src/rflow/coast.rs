//! Coasting: every step is walked, but only some are evaluated; between those the velocity is extrapolated.
//!
//! LPL holds the last velocity until the end, however far that is. Here the model has the last word again and again,
//! and what is held in between is not a velocity but its trend.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;

use crate::error::{ModelError, Result};

/// How many of a run's steps are evaluated.
///
/// Written `off` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CoastRule {
    /// All.
    #[default]
    Off,
    /// So many: the first, the last, and those between that lie most evenly in diffusion time.
    ///
    /// Evenly in time, not in steps: the error of an extrapolation grows with the time that it bridges.
    Evaluations(usize),
}

impl CoastRule {
    /// Whether the rule can work in a run of `steps` steps.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] saying what would be accepted.
    pub fn check(self, steps: usize) -> Result<()> {
        match self {
            Self::Evaluations(count)
                if count == 0 || count > steps || (count == 1 && steps > 1) =>
            {
                Err(ModelError::bad_input(format!(
                    "coasting with {count} evaluations in {steps} steps: expected {} to {steps}",
                    steps.min(2)
                )))
            }
            _ => Ok(()),
        }
    }

    /// For each of the falling `timesteps` whether the model is evaluated there.
    pub(super) fn evaluated(self, timesteps: &[f32]) -> Vec<bool> {
        let (Self::Evaluations(count), [first, .., last]) = (self, timesteps) else {
            return vec![true; timesteps.len()];
        };
        let mut evaluated = vec![false; timesteps.len()];
        let mut next = 0;
        for place in 0..count {
            let wanted = first + (last - first) * place as f32 / (count - 1).max(1) as f32;
            // Every later place still needs a step of its own.
            let latest = timesteps.len() - (count - place);
            let off = |step: &usize| (timesteps[*step] - wanted).abs();
            let chosen = (next..=latest).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(next);
            evaluated[chosen] = true;
            next = chosen + 1;
        }
        evaluated
    }
}

impl FromStr for CoastRule {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Evaluations).map_err(|_| {
                ModelError::bad_input(format!(
                    "coasting `{text}` is not known: expected `off` or a number of evaluations"
                ))
            }),
        }
    }
}

impl fmt::Display for CoastRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Evaluations(count) => write!(f, "{count}"),
        }
    }
}

serde_as_written!(CoastRule);

/// The last two velocities that the model gave, and the line through them.
#[derive(Debug, Clone, Default)]
pub(super) struct VelocityTrend {
    before: Option<(f64, Tensor)>,
    last: Option<(f64, Tensor)>,
}

impl VelocityTrend {
    /// Takes the velocity at `timestep`; timesteps fall.
    pub(super) fn add(&mut self, timestep: f32, velocity: &Tensor) {
        self.before = self.last.replace((f64::from(timestep), velocity.clone()));
    }

    /// The velocities that it knows and where they were given, the older first.
    pub(super) fn known(&self) -> impl Iterator<Item = (f32, &Tensor)> {
        // The times were f32 when they came.
        [&self.before, &self.last].into_iter().flatten().map(|(time, x)| (*time as f32, x))
    }

    /// The velocity at `timestep`; with only one known, that one; `None` before the first.
    pub(super) fn at(&self, timestep: f32) -> Result<Option<Tensor>> {
        let Some((last_time, last)) = &self.last else { return Ok(None) };
        let Some((before_time, before)) = &self.before else { return Ok(Some(last.clone())) };
        let ahead = (f64::from(timestep) - last_time) / (last_time - before_time);
        Ok(Some((last + ((last - before)? * ahead)?)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::super::timesteps::{TimestepTransform, timesteps};
    use super::*;

    fn steps_of(rule: CoastRule, timesteps: &[f32]) -> Vec<usize> {
        let evaluated = rule.evaluated(timesteps);
        (0..timesteps.len()).filter(|&step| evaluated[step]).collect()
    }

    #[test]
    fn evaluations_lie_evenly_in_time() {
        let even = timesteps(10, false, None);
        assert_eq!(steps_of(CoastRule::Evaluations(4), &even), [0, 3, 6, 9]);
        // Stretched towards noise, early steps are short and more of them are passed over.
        let transform = TimestepTransform::with_ratio(5f64.sqrt());
        let stretched = timesteps(30, true, Some(transform));
        let chosen = steps_of(CoastRule::Evaluations(6), &stretched);
        assert_eq!((chosen[0], chosen[5]), (0, 29));
        assert!(chosen[1] - chosen[0] > chosen[5] - chosen[4], "{chosen:?}");
    }

    #[test]
    fn as_many_steps_are_evaluated_as_asked_for() {
        let transform = TimestepTransform::with_ratio(8.0);
        for steps in 1..40 {
            for transform in [None, Some(transform)] {
                let timesteps = timesteps(steps, true, transform);
                for count in steps.min(2)..=steps {
                    let chosen = steps_of(CoastRule::Evaluations(count), &timesteps);
                    assert_eq!(chosen.len(), count, "{count} of {steps}");
                    assert_eq!(chosen[0], 0);
                    assert!(count == 1 || chosen[count - 1] == steps - 1, "{chosen:?} of {steps}");
                }
                assert_eq!(steps_of(CoastRule::Off, &timesteps).len(), steps);
            }
        }
    }

    #[test]
    fn a_straight_trend_is_met_exactly() {
        let value = |x: f32| Tensor::new(&[x], &Device::Cpu).unwrap();
        let at =
            |trend: &VelocityTrend, t| trend.at(t).unwrap().map(|x| x.to_vec1::<f32>().unwrap()[0]);
        let mut trend = VelocityTrend::default();
        assert_eq!(at(&trend, 1000.0), None);
        trend.add(1000.0, &value(4.0));
        assert_eq!(at(&trend, 500.0), Some(4.0));
        trend.add(800.0, &value(5.0));
        assert_eq!(at(&trend, 400.0), Some(7.0));
        trend.add(600.0, &value(5.0));
        assert_eq!(at(&trend, 400.0), Some(5.0));
    }

    #[test]
    fn rules_are_read_written_and_checked() {
        for text in ["off", "10"] {
            let rule: CoastRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<CoastRule>(&json).unwrap(), rule);
        }
        assert!("some".parse::<CoastRule>().is_err());
        for (count, steps, fits) in [
            (2, 30, true),
            (30, 30, true),
            (1, 1, true),
            (1, 30, false),
            (0, 30, false),
            (31, 30, false),
        ] {
            assert_eq!(
                CoastRule::Evaluations(count).check(steps).is_ok(),
                fits,
                "{count} of {steps}"
            );
        }
        assert!(CoastRule::Off.check(30).is_ok());
    }
}
