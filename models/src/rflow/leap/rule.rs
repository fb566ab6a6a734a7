//! The settings of a leap, and how they are written.

use std::fmt;
use std::str::FromStr;

use crate::error::{ModelError, Result};

/// When to leap.
///
/// Written `off`, `fixed:N`, `dynamic`, or `dynamic:from=14,tolerance=0.001,patience=3,over=first-frame` with any of
/// the four given.
///
/// # Source
/// Section "Linear Proportional Leap" of arXiv 2502.04363, with the figures of its Python code
/// (`schedulers/rf/__init__.py` of On-device Sora), which differ from the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum LeapRule {
    /// Never: every step is taken.
    #[default]
    Off,
    /// At the step of this index; so many plus one evaluations are made.
    Fixed(usize),
    /// When the direction of the velocity has stopped settling.
    Dynamic(DynamicLeap),
}

/// Leap when the cosine between consecutive velocities has not improved for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicLeap {
    /// Index of the first step whose cosine counts, whatever the number of steps.
    pub from_step: usize,
    /// By how much a cosine must exceed the best one so far to count as an improvement.
    pub tolerance: f64,
    /// At the so-manieth cosine since the last improvement that is none, leap.
    pub patience: usize,
    /// What the cosine is taken over.
    pub over: CosineOver,
}

impl Default for DynamicLeap {
    /// The figures of the Python reference.
    fn default() -> Self {
        Self { from_step: 14, tolerance: 1e-3, patience: 3, over: CosineOver::FirstFrame }
    }
}

/// What the cosine between two velocities is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CosineOver {
    /// The mean of the cosines of the rows of the first channel of the first frame, as in the Python reference.
    #[default]
    FirstFrame,
    /// The whole velocity as one vector: better founded.
    Whole,
}

impl LeapRule {
    /// Whether the rule can work in a run of `steps` steps.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] saying what would be accepted.
    pub fn check(self, steps: usize) -> Result<()> {
        let refuse = |message: String| Err(ModelError::BadInput(message));
        match self {
            Self::Fixed(at) if at >= steps => refuse(format!(
                "a leap at step {at} needs more than the {steps} steps of the run: the last possible is {}",
                steps.saturating_sub(1)
            )),
            Self::Dynamic(DynamicLeap { patience: 0, .. }) => {
                refuse("the patience of a dynamic leap must be at least 1".into())
            }
            Self::Dynamic(dynamic) if !dynamic.tolerance.is_finite() => {
                refuse(format!("the tolerance of a dynamic leap is {}", dynamic.tolerance))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for LeapRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Fixed(step) => write!(f, "fixed:{step}"),
            Self::Dynamic(dynamic) if *dynamic == DynamicLeap::default() => f.write_str("dynamic"),
            Self::Dynamic(DynamicLeap { from_step, tolerance, patience, over }) => {
                let over = match over {
                    CosineOver::FirstFrame => "first-frame",
                    CosineOver::Whole => "whole",
                };
                write!(
                    f,
                    "dynamic:from={from_step},tolerance={tolerance},patience={patience},over={over}"
                )
            }
        }
    }
}

impl FromStr for LeapRule {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        let (name, settings) = text.split_once(':').map_or((text, None), |(n, s)| (n, Some(s)));
        let rule = match (name, settings) {
            ("off", None) => Some(Self::Off),
            ("fixed", Some(step)) => step.parse().ok().map(Self::Fixed),
            ("dynamic", settings) => parse_dynamic(settings).map(Self::Dynamic),
            _ => None,
        };
        rule.ok_or_else(|| {
            ModelError::bad_input(format!(
                "the leap `{text}` is not known: expected `off`, `fixed:N`, `dynamic` or \
                 `dynamic:from=N,tolerance=X,patience=N,over=first-frame|whole`"
            ))
        })
    }
}

fn parse_dynamic(settings: Option<&str>) -> Option<DynamicLeap> {
    let mut dynamic = DynamicLeap::default();
    for setting in settings.into_iter().flat_map(|settings| settings.split(',')) {
        match setting.split_once('=')? {
            ("from", step) => dynamic.from_step = step.parse().ok()?,
            ("tolerance", tolerance) => dynamic.tolerance = tolerance.parse().ok()?,
            ("patience", patience) => dynamic.patience = patience.parse().ok()?,
            ("over", "first-frame") => dynamic.over = CosineOver::FirstFrame,
            ("over", "whole") => dynamic.over = CosineOver::Whole,
            _ => return None,
        }
    }
    Some(dynamic)
}

serde_as_written!(LeapRule);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rules_are_read_and_written_alike() {
        for text in
            ["off", "fixed:15", "dynamic", "dynamic:from=3,tolerance=0.5,patience=9,over=whole"]
        {
            let rule: LeapRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<LeapRule>(&json).unwrap(), rule);
        }
        let partial: LeapRule = "dynamic:patience=5".parse().unwrap();
        assert_eq!(partial, LeapRule::Dynamic(DynamicLeap { patience: 5, ..Default::default() }));
        for bad in ["", "on", "fixed", "fixed:", "fixed:-1", "off:1", "dynamic:", "dynamic:x=1"] {
            assert!(bad.parse::<LeapRule>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        assert!(LeapRule::Fixed(29).check(30).is_ok());
        let error = LeapRule::Fixed(30).check(30).unwrap_err().to_string();
        assert!(error.contains("29"), "{error}");
        assert!("dynamic:patience=0".parse::<LeapRule>().unwrap().check(30).is_err());
    }
}
