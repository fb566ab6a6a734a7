//! What is compared: sampling settings with a name.

use std::str::FromStr;

use sora_models::ModelError;
use sora_models::bundle::GenerationConfig;
use sora_models::rflow::{CoastRule, LeapRule, SamplingSettings};
use sora_models::stdit3::Merging;

/// Changes to a model's own sampling settings, such as `steps=20` or `lpl=dynamic tdtm=10,keep-last`.
///
/// Written as `name=value` pairs with spaces between: `steps`, `cfg`, `lpl`, `coast` and `tdtm`, with the values that
/// the command line of `sora generate` takes. `default` changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalSetting {
    text: String,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    Steps(usize),
    Guidance(f64),
    Leap(LeapRule),
    Coast(CoastRule),
    Merge(Merging),
}

/// Why a setting is not one.
#[derive(Debug, thiserror::Error)]
#[error("the setting `{setting}` cannot be read: {reason}")]
pub struct SettingError {
    setting: String,
    reason: String,
}

/// How the setting that changes nothing is written.
const UNCHANGED: &str = "default";

impl EvalSetting {
    /// The model's own settings.
    pub fn unchanged() -> Self {
        Self { text: UNCHANGED.to_string(), changes: Vec::new() }
    }

    /// How it was written.
    pub fn name(&self) -> &str {
        &self.text
    }

    /// The sampling of a model with these defaults.
    pub fn sampling(&self, defaults: &GenerationConfig) -> SamplingSettings {
        let mut sampling = defaults.sampling();
        for change in &self.changes {
            match *change {
                Change::Steps(steps) => sampling.steps = steps,
                Change::Guidance(scale) => sampling.guidance_scale = scale,
                Change::Leap(rule) => sampling.leap = rule,
                Change::Coast(rule) => sampling.coast = rule,
                Change::Merge(Merging { steps, odd_frame }) => {
                    (sampling.merge, sampling.odd_frame) = (steps, odd_frame);
                }
            }
        }
        sampling
    }
}

impl FromStr for EvalSetting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let refuse = |reason: String| SettingError { setting: text.to_string(), reason };
        let text = text.trim();
        if text == UNCHANGED {
            return Ok(Self::unchanged());
        }
        let changes = text.split_whitespace().map(|pair| change(pair).map_err(refuse));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let kinds: Vec<_> = changes.iter().map(std::mem::discriminant).collect();
        if (1..kinds.len()).any(|index| kinds[..index].contains(&kinds[index])) {
            return Err(refuse("something is given twice".into()));
        }
        if changes.is_empty() {
            return Err(refuse(format!("it is empty; `{UNCHANGED}` is the model's own settings")));
        }
        Ok(Self { text: text.to_string(), changes })
    }
}

fn change(pair: &str) -> Result<Change, String> {
    let (name, value) = pair
        .split_once('=')
        .ok_or_else(|| format!("`{pair}` is no pair such as steps=20 or lpl=dynamic"))?;
    let told = |cause: ModelError| cause.to_string();
    let number = |what: &str| format!("{name}={value}: expected {what}");
    match name {
        "steps" => Ok(Change::Steps(value.parse().map_err(|_| number("a whole number"))?)),
        "cfg" => Ok(Change::Guidance(value.parse().map_err(|_| number("a number"))?)),
        "lpl" => value.parse().map(Change::Leap).map_err(told),
        "coast" => value.parse().map(Change::Coast).map_err(told),
        "tdtm" => value.parse().map(Change::Merge).map_err(told),
        _ => Err(format!("`{name}` is not known: expected steps, cfg, lpl, coast or tdtm")),
    }
}

#[cfg(test)]
mod tests {
    use sora_models::stdit3::{MergeSteps, OddFrame};

    use super::*;

    #[test]
    fn a_setting_changes_what_it_names() {
        let defaults = GenerationConfig { num_sampling_steps: 12, ..GenerationConfig::default() };
        let sampling = |text: &str| text.parse::<EvalSetting>().unwrap().sampling(&defaults);
        assert_eq!(sampling("default"), defaults.sampling());
        assert_eq!(sampling("steps=20 cfg=3.5").guidance_scale, 3.5);
        let both = sampling(" lpl=fixed:5   tdtm=10,keep-last ");
        assert_eq!((both.steps, both.leap), (12, LeapRule::Fixed(5)));
        assert_eq!((both.merge, both.odd_frame), (MergeSteps::First(10), OddFrame::KeepLast));
        assert_eq!(sampling("coast=8").coast, CoastRule::Evaluations(8));
        assert_eq!(sampling("tdtm=all").odd_frame, OddFrame::DropLast);
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_accepted() {
        for (text, told) in [
            ("", "default"),
            ("fast", "steps=20"),
            ("speed=3", "steps, cfg, lpl, coast or tdtm"),
            ("steps=many", "whole number"),
            ("cfg=x", "a number"),
            ("lpl=soon", "dynamic"),
            ("tdtm=10,keep", "keep-last"),
            ("coast=x", "number of evaluations"),
            ("coast=10 coast=8", "twice"),
        ] {
            let error = text.parse::<EvalSetting>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
