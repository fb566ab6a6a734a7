//! The score suffixes that Open-Sora's captions carried in training.

/// What a prompt promises about the video beside its content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptScores {
    /// How pleasing it is, about 4 to 7.
    pub aesthetic: Option<f32>,
    /// How much moves (mean optical flow), about 0 to 20.
    pub motion: Option<f32>,
    /// What the camera does, such as `pan left`.
    pub camera_motion: Option<String>,
}

impl PromptScores {
    /// `prompt` with a suffix for each score that is given and that the prompt does not state already.
    ///
    /// # Source
    /// `append_score_to_prompts` of `opensora/utils/inference_utils.py`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_appended_in_order_unless_the_prompt_states_them() {
        let scores = PromptScores {
            aesthetic: Some(6.5),
            motion: Some(5.0),
            camera_motion: Some("pan left".into()),
        };
        assert_eq!(
            scores.append_to("a cat"),
            "a cat aesthetic score: 6.5. motion score: 5.0. camera motion: pan left."
        );
        assert_eq!(
            scores.append_to("a cat motion score: 2."),
            "a cat motion score: 2. aesthetic score: 6.5. camera motion: pan left."
        );
        assert_eq!(PromptScores::default().append_to("a cat"), "a cat");
    }
}
