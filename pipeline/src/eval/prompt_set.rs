//! Prompts to judge a model by, with what each one names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::detector::Attributes;

/// What a line must be, as errors say it.
const EXPECTED: &str = "a plain prompt, or a JSON object with \"prompt\" and, if wanted, \
                        \"attributes\" (any of colour, background, shape, size, motion) and \"seed\"";

/// One prompt of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptCase {
    /// The prompt.
    pub prompt: String,
    /// What the prompt names, for a judge that knows these attributes; by default nothing.
    #[serde(default)]
    pub attributes: Attributes,
    /// The seed to generate with, if the set chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Why a set of prompts could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptSetError {
    /// The operating system refused to read, or the file is not UTF-8.
    #[error("cannot read the prompts of {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },

    /// A line begins like JSON and is no prompt.
    #[error("{}, line {line}, column {column}: {reason}; expected {EXPECTED}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where in the line, in bytes from 1.
        column: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The prompts of a file, one a line, in the file's order.
///
/// A line that starts with `{` is a JSON object as of [`PromptCase`]; any other line is a prompt as
/// it stands. Blank lines and lines that start with `#` are skipped, and space around a line is not
/// part of it. A file may hold no prompts at all.
///
/// # Errors
/// [`PromptSetError`] if the file cannot be read, or a JSON line is no prompt.
pub fn read(file: &Path) -> Result<Vec<PromptCase>, PromptSetError> {
    let text = fs::read_to_string(file)
        .map_err(|source| PromptSetError::Io { file: file.to_path_buf(), source })?;
    parse(&text, file)
}

/// Reads a prompt set that is in memory; errors call it `file`.
///
/// # Errors
/// [`PromptSetError::Line`], as [`read`].
pub fn parse(text: &str, file: &Path) -> Result<Vec<PromptCase>, PromptSetError> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| case_of(line, index + 1, file)).collect()
}

fn case_of(line: &str, number: usize, file: &Path) -> Option<Result<PromptCase, PromptSetError>> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return None;
    }
    if !trimmed.starts_with('{') {
        let attributes = Attributes::default();
        return Some(Ok(PromptCase { prompt: trimmed.to_string(), attributes, seed: None }));
    }
    // The untrimmed line keeps the column right.
    Some(serde_json::from_str(line).map_err(|error| PromptSetError::Line {
        file: file.to_path_buf(),
        line: number,
        column: error.column(),
        reason: without_place(&error),
    }))
}

/// The message without the place that serde_json adds, as its line is always 1.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).unwrap_or(&message).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::detector::{Colour, Motion};

    /// Reads a file of this text; `name` keeps tests that run at once apart.
    fn read_text(name: &str, text: impl AsRef<[u8]>) -> Result<Vec<PromptCase>, PromptSetError> {
        let file = std::env::temp_dir().join(format!("prompts-{name}-{}", std::process::id()));
        fs::write(&file, text).unwrap();
        let cases = read(&file);
        fs::remove_file(&file).unwrap();
        cases
    }

    fn plain(prompt: &str) -> PromptCase {
        PromptCase { prompt: prompt.into(), attributes: Attributes::default(), seed: None }
    }

    #[test]
    fn plain_and_json_lines_may_be_mixed() {
        let text = "# held out\n\na red circle\r\n  {\"prompt\": \"a cat\", \"seed\": 7}\n\
                    \t\n  # more\n{\"prompt\":\"red, left\",\"attributes\":{\"colour\":\"red\",\
                    \"motion\":\"left\"}}\nnumber #1 {braces}";
        let attributes = Attributes {
            colour: Some(Colour::Red),
            motion: Some(Motion::Left),
            ..Attributes::default()
        };
        assert_eq!(
            read_text("mixed", text).unwrap(),
            [
                plain("a red circle"),
                PromptCase { seed: Some(7), ..plain("a cat") },
                PromptCase { attributes, ..plain("red, left") },
                plain("number #1 {braces}"),
            ]
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        for (name, line, reason) in [
            ("syntax", r#"{"prompt": "a"#, "EOF while parsing a string"),
            ("missing", r#"{"seed": 1}"#, "missing field `prompt`"),
            ("unknown", r#"{"prompt": "a", "sede": 1}"#, "unknown field `sede`"),
            ("value", r#"{"prompt": "a", "attributes": {"colour": "rot"}}"#, "unknown variant"),
            ("attribute", r#"{"prompt": "a", "attributes": {"hue": 1}}"#, "unknown field `hue`"),
            ("sign", r#"{"prompt": "a", "seed": -1}"#, "invalid value"),
        ] {
            let error = read_text(name, format!("fine\n\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains(", line 3, column "), "{error}");
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("expected a plain prompt, or a JSON object"), "{error}");
            assert!(!error.contains("at line 1"), "{error}");
        }
    }

    #[test]
    fn unreadable_files_are_named() {
        let missing = read(Path::new("no-such-folder/prompts.txt")).unwrap_err();
        assert!(missing.to_string().contains("no-such-folder"), "{missing}");
        let binary = read_text("binary", [0xff, 0xfe, 0x00]).unwrap_err();
        assert!(matches!(binary, PromptSetError::Io { .. }), "{binary}");
    }

    #[test]
    fn a_file_without_prompts_is_an_empty_set() {
        assert_eq!(read_text("empty", "").unwrap(), []);
        assert_eq!(read_text("comments", "# nothing\n\n").unwrap(), []);
    }

    #[test]
    fn cases_survive_a_round_trip() {
        let case = PromptCase { seed: Some(u64::MAX), ..plain("say \"hi\"\n{twice}") };
        let line = serde_json::to_string(&case).unwrap();
        assert_eq!(read_text("round-trip", line).unwrap(), [case]);
    }
}
