//! From a prompt to token ids.

use std::path::Path;

use tokenizers::Tokenizer;

use super::config::T5Config;
use crate::error::{ModelError, Result};

/// A T5 tokenizer, with the length that the diffusion model was trained for.
#[derive(Clone)]
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
    max_length: usize,
    pad: u32,
    end: u32,
}

/// A prompt as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// The tokens that count, the end token last; at least that one.
    pub ids: Vec<u32>,
    /// The end of the prompt that did not fit; `None` when all did.
    pub cut: Option<String>,
    max_length: usize,
    pad: u32,
}

impl TokenizedPrompt {
    /// The ids filled up to the full length, and a mask that is 1 where a token counts.
    pub fn padded(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut ids, mut mask) = (self.ids.clone(), vec![1; self.ids.len()]);
        ids.resize(self.max_length, self.pad);
        mask.resize(self.max_length, 0);
        (ids, mask)
    }
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::MissingFile`], [`ModelError::Io`], or as [`PromptTokenizer::from_bytes`].
    pub fn open(file: &Path, config: &T5Config, max_length: usize) -> Result<Self> {
        if !file.is_file() {
            let hint =
                "the tokenizer of the text encoder (T5's `tokenizer.json`) belongs there".into();
            return Err(ModelError::MissingFile { file: file.to_path_buf(), hint });
        }
        let io = |source| ModelError::Io { file: file.to_path_buf(), source };
        Self::from_bytes(&std::fs::read(file).map_err(io)?, file, config, max_length)
    }

    /// Uses the contents of a `tokenizer.json`; `file` is named in errors. `max_length` counts the end token.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it cannot be parsed, or does not belong to this encoder; [`ModelError::BadInput`] when
    /// `max_length` is 0.
    pub fn from_bytes(
        json: &[u8],
        file: &Path,
        config: &T5Config,
        max_length: usize,
    ) -> Result<Self> {
        let unusable = |reason: String| ModelError::Config { file: file.to_path_buf(), reason };
        let mut tokenizer = Tokenizer::from_bytes(json)
            .map_err(|cause| unusable(format!("not a tokenizer: {cause}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|cause| unusable(cause.to_string()))?;
        let highest = tokenizer.get_vocab(true).into_values().max();
        if let Some(highest) = highest.filter(|&highest| highest as usize >= config.vocab_size) {
            return Err(unusable(format!(
                "it has the token id {highest}, but the text encoder's vocab_size is {}: \
                 the two belong to different models",
                config.vocab_size
            )));
        }
        let (pad, end) = (config.pad_token_id, config.eos_token_id);
        Self { tokenizer, max_length, pad, end }.with_max_length(max_length)
    }

    /// The same tokenizer for prompts of `max_length` tokens, the end token included.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when that is 0.
    pub fn with_max_length(self, max_length: usize) -> Result<Self> {
        if max_length == 0 {
            return Err(ModelError::bad_input("a prompt of 0 tokens cannot hold the end token"));
        }
        Ok(Self { max_length, ..self })
    }

    /// Tokenises `text` as it is; clean it before.
    ///
    /// The end token is appended here, whether or not the file says so, so that truncation cannot lose it.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the tokenizer gives up.
    pub fn tokenize(&self, text: &str) -> Result<TokenizedPrompt> {
        let encoding = self.tokenizer.encode(text, false).map_err(|cause| {
            ModelError::BadInput(format!("the prompt cannot be tokenised: {cause}"))
        })?;
        let mut ids = encoding.get_ids().to_vec();
        let room = self.max_length - 1;
        let first_cut = encoding.get_offsets().get(room);
        let cut = first_cut.map(|&(start, _)| text.get(start..).unwrap_or(text).to_string());
        ids.truncate(room);
        ids.push(self.end);
        Ok(TokenizedPrompt { ids, cut, max_length: self.max_length, pad: self.pad })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(vocab_size: usize) -> T5Config {
        let json = format!(
            r#"{{"vocab_size": {vocab_size}, "d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 16,
            "num_layers": 1, "feed_forward_proj": "gated-gelu"}}"#
        );
        T5Config::from_json(&json, Path::new("config.json")).unwrap()
    }

    /// A unigram tokenizer in the manner of T5; its own settings for length must not matter.
    const TINY: &str = r#"{"version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"},
        "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0],
            ["▁a", -1.0], ["▁red", -2.0], ["▁circle", -3.0], ["s", -4.0]]}}"#;

    fn tokenizer(max_length: usize) -> PromptTokenizer {
        let file = Path::new("tokenizer.json");
        PromptTokenizer::from_bytes(TINY.as_bytes(), file, &config(16), max_length).unwrap()
    }

    #[test]
    fn the_end_token_is_appended_and_short_prompts_are_padded() {
        let prompt = tokenizer(6).tokenize("a red circles").unwrap();
        assert_eq!(prompt.ids, [3, 4, 5, 6, 1]);
        assert_eq!(prompt.cut, None);
        assert_eq!(prompt.padded(), (vec![3, 4, 5, 6, 1, 0], vec![1, 1, 1, 1, 1, 0]));
        assert_eq!(tokenizer(6).tokenize("").unwrap().ids, [1]);
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let prompt = tokenizer(3).tokenize("a red circle").unwrap();
        assert_eq!(prompt.ids, [3, 4, 1]);
        assert_eq!(prompt.cut.as_deref().map(str::trim), Some("circle"));
        assert_eq!(tokenizer(4).tokenize("a red circle").unwrap().cut, None);
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let file = Path::new("dir/tokenizer.json");
        let refused = |json: &str, vocab_size| {
            let result = PromptTokenizer::from_bytes(json.as_bytes(), file, &config(vocab_size), 6);
            result.err().expect("refused").to_string()
        };
        let text = refused(TINY, 5);
        assert!(text.contains("dir/tokenizer.json") && text.contains("token id 6"), "{text}");
        assert!(refused("{}", 16).contains("not a tokenizer"));
        assert!(tokenizer(6).with_max_length(0).is_err());
    }
}
