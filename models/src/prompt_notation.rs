//! What Open-Sora's users write into and behind a prompt: score suffixes, prompts that change from loop to loop,
//! references as JSON.

use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};

/// Scores that condition the video through its prompt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PromptScores {
    /// How beautiful the video is; 6.5 is Open-Sora's advice.
    pub aesthetic: Option<f64>,
    /// How much moves in it.
    pub motion: Option<f64>,
    /// How the camera moves: `pan left`, `zoom in`, `static`, ...
    pub camera_motion: Option<String>,
}

impl PromptScores {
    /// Appends the scores that the prompt does not state itself.
    ///
    /// # Source
    /// `append_score_to_prompts` of Open-Sora's `utils/inference_utils.py`.
    pub fn append_to(&self, prompt: &str) -> String {
        let suffixes = [
            ("aesthetic score:", self.aesthetic.map(|score| format!("{score:.1}"))),
            ("motion score:", self.motion.map(|score| format!("{score:.1}"))),
            ("camera motion:", self.camera_motion.clone()),
        ];
        let mut scored = prompt.to_string();
        for (label, value) in suffixes {
            if let Some(value) = value.filter(|_| !prompt.contains(label)) {
                scored.push_str(&format!(" {label} {value}."));
            }
        }
        scored
    }
}

/// How a prompt that changes from loop to loop begins.
const FIRST_LOOP: &str = "|0|";

/// A prompt in parts, each from a loop on: `|0| a beautiful day |1| a sunny day`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopedPrompt {
    /// The first loop of each part and its text as written.
    parts: Vec<(usize, String)>,
    looped: bool,
}

impl LoopedPrompt {
    /// Reads a prompt; one that does not begin with `|0|` is a single part for every loop.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when a loop number is not one, or they do not rise.
    pub fn parse(prompt: &str) -> Result<Self> {
        let Some(rest) = prompt.strip_prefix('|').filter(|_| prompt.starts_with(FIRST_LOOP)) else {
            return Ok(Self { parts: vec![(0, prompt.to_string())], looped: false });
        };
        let refuse = || {
            ModelError::bad_input(format!(
                "prompt `{prompt}` cannot be split into loops: expected `|0| text |1| text`, loop numbers rising"
            ))
        };
        let mut fields = rest.split('|');
        let mut parts: Vec<(usize, String)> = Vec::new();
        while let Some(number) = fields.next() {
            let number = number.trim().parse().map_err(|_| refuse())?;
            let text = fields.next().ok_or_else(refuse)?;
            if parts.last().is_some_and(|(last, _)| *last >= number) {
                return Err(refuse());
            }
            parts.push((number, text.to_string()));
        }
        Ok(Self { parts, looped: true })
    }

    /// The text for a loop, as written.
    pub fn at(&self, loop_index: usize) -> &str {
        let started = self.parts.iter().rev().find(|(first, _)| *first <= loop_index);
        started.map_or("", |(_, text)| text)
    }

    /// The texts, trimmed.
    pub fn texts(&self) -> Vec<String> {
        self.parts.iter().map(|(_, text)| self.trimmed(text).to_string()).collect()
    }

    /// The first loop of each part; `None` for a prompt that does not change.
    pub fn first_loops(&self) -> Option<Vec<usize>> {
        self.looped.then(|| self.parts.iter().map(|(first, _)| *first).collect())
    }

    /// The prompt with other texts in the same places, as many as [`Self::texts`] gives.
    pub fn with_texts(&self, texts: &[String]) -> String {
        let parts = self.parts.iter().zip(texts);
        if self.looped {
            parts.map(|((first, _), text)| format!("|{first}|{text}")).collect()
        } else {
            parts.map(|(_, text)| text.as_str()).collect()
        }
    }

    fn trimmed<'a>(&self, text: &'a str) -> &'a str {
        if self.looped { text.trim() } else { text }
    }
}

/// A prompt and what the JSON behind it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptWithReferences {
    /// The prompt before the JSON.
    pub prompt: String,
    /// Paths of reference pictures and videos, joined by `;`, or empty.
    pub reference_path: String,
    /// A mask strategy, or empty.
    pub mask_strategy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct References {
    #[serde(default)]
    reference_path: String,
    #[serde(default)]
    mask_strategy: String,
}

impl PromptWithReferences {
    /// Splits a prompt from the JSON object behind it, if there is one.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when what follows the first brace is not one JSON object with known keys.
    ///
    /// # Source
    /// `extract_json_from_prompts` of Open-Sora's `utils/inference_utils.py`.
    pub fn parse(text: &str) -> Result<Self> {
        let (prompt, json) = text.split_at(text.find('{').unwrap_or(text.len()));
        let json = if json.is_empty() { "{}" } else { json };
        let references: References = serde_json::from_str(json).map_err(|cause| {
            ModelError::bad_input(format!(
                "`{json}` behind the prompt cannot be used ({cause}): expected one JSON object with \
                 `reference_path` and `mask_strategy`"
            ))
        })?;
        let References { reference_path, mask_strategy } = references;
        Ok(Self { prompt: prompt.to_string(), reference_path, mask_strategy })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn scores_that_the_prompt_states_are_not_repeated() {
        let scores = PromptScores {
            aesthetic: Some(6.5),
            motion: Some(5.0),
            camera_motion: Some("pan left".into()),
        };
        assert_eq!(
            scores.append_to("a cat motion score: 2."),
            "a cat motion score: 2. aesthetic score: 6.5. camera motion: pan left."
        );
        assert_eq!(PromptScores::default().append_to("a cat"), "a cat");
    }

    #[test]
    fn a_prompt_changes_from_loop_to_loop() {
        let prompt = LoopedPrompt::parse("|0| day |2| night").unwrap();
        assert_eq!([0, 1, 2, 9].map(|i| prompt.at(i).trim()), ["day", "day", "night", "night"]);
        assert_eq!(LoopedPrompt::parse("a | b").unwrap().at(3), "a | b");
        for bad in ["|0| a |", "|0| a |x| b", "|0| a |0| b", "|0| a |2| b |1| c"] {
            assert!(LoopedPrompt::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn json_behind_a_prompt_is_checked() {
        let parsed = PromptWithReferences::parse(r#"a dog {"mask_strategy": "0"}"#).unwrap();
        assert_eq!((parsed.prompt.as_str(), parsed.mask_strategy.as_str()), ("a dog ", "0"));
        for bad in ["a {", r#"a {"other": 1}"#, r#"a {} {}"#] {
            assert!(PromptWithReferences::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
