//! The text cleaning that Open-Sora's captions went through in training, so that prompts must go through it too.
//!
//! The rules are those of the reference, including the odd ones: they decide which tokens the model sees. They are
//! written for Python's regular expressions, whose idea of a word excludes combining marks; they are translated.

use std::sync::LazyLock;

use fancy_regex::Regex;
use plsfix::TextFixerConfig;

use super::character_reference::unescape;
use super::html;
use crate::error::{ModelError, Result};

/// What is done to a prompt before it is tokenised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptionCleaning {
    /// The cleaning of the training captions, applied twice as in training.
    #[default]
    OpenSora,
    /// Lower case, and no space at the ends.
    LowerStrip,
}

impl CaptionCleaning {
    /// Cleans `text`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the text is too long for the rules (hundreds of kilobytes).
    ///
    /// # Source
    /// `text_preprocessing` of `opensora/models/text_encoder/t5.py`.
    pub fn apply(self, text: &str) -> Result<String> {
        match self {
            Self::OpenSora => clean_once(&clean_once(text)?),
            Self::LowerStrip => Ok(strip(&text.to_lowercase()).to_string()),
        }
    }
}

/// One pass of the cleaning.
///
/// # Errors
/// As [`CaptionCleaning::apply`].
///
/// # Source
/// `clean_caption` and `basic_clean` of `opensora/models/text_encoder/t5.py`.
pub fn clean_once(text: &str) -> Result<String> {
    let text = decode_percent_escapes(text);
    let text = strip(&text).to_lowercase().replace("<person>", "person");
    let text = apply(&ADDRESSES, text)?;
    let text = html::visible_text(&text);
    let mut text = apply(&DEBRIS, text)?;
    // A name-like-this is taken apart only in a text that has several of them.
    if text.matches(['-', '_']).count() > 3 {
        text = text.replace(['-', '_'], " ");
    }
    let text = unescape(&unescape(&repair(&text)));
    let text = apply(&CODES, strip(&text).to_string())?;
    Ok(strip(&text).to_string())
}

/// Mends text that was decoded with the wrong character set, odd widths, ligatures, quotes and control characters.
fn repair(text: &str) -> String {
    // The default limit cuts a longer line at a byte count, which need not be a character's edge.
    let config = TextFixerConfig { max_decode_length: i32::MAX, ..TextFixerConfig::default() };
    plsfix::fix_text(text, Some(&config))
}

/// A replacement of everything that a pattern matches.
struct Rule {
    pattern: Regex,
    replacement: &'static str,
}

/// What Python counts as a word character, inside brackets.
const WORD: &str = r"\p{L}\p{N}_";

/// What Python counts as space beside `\s`, inside brackets: the separators of the control characters.
const MORE_SPACE: &str = r"\x1c-\x1f";

impl Rule {
    /// `pattern` has `\w` and `\s` inside brackets only; both, and `\b`, mean what they mean to Python.
    fn new(pattern: &str, replacement: &'static str) -> Self {
        let boundary = format!("(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))");
        let pattern = pattern
            .replace(r"\b", &boundary)
            .replace(r"\w", WORD)
            .replace(r"\s", &format!(r"\s{MORE_SPACE}"));
        let pattern =
            Regex::new(&pattern).expect("invariant: the patterns are constants, and tested");
        Self { pattern, replacement }
    }
}

fn rules(rules: &[(&str, &'static str)]) -> Vec<Rule> {
    rules.iter().map(|(pattern, replacement)| Rule::new(pattern, replacement)).collect()
}

fn apply(rules: &[Rule], mut text: String) -> Result<String> {
    for rule in rules {
        let replaced = rule.pattern.try_replacen(&text, 0, rule.replacement);
        text = replaced
            .map_err(|cause| {
                ModelError::BadInput(format!("the prompt cannot be cleaned ({cause}): shorten it"))
            })?
            .into_owned();
    }
    Ok(text)
}

/// Web addresses, with the scheme first and then with `www`.
static ADDRESSES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let site = r"[a-zA-Z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@)";
    ["https?", "www"]
        .iter()
        .map(|start| Rule::new(&format!(r"\b(?:{start}:(?:/{{1,3}}|[a-zA-Z0-9%])|{site})"), ""))
        .collect()
});

/// What markup and typography leave behind.
static DEBRIS: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        // Nicknames.
        (r"@[\w]+", ""),
        // CJK strokes, katakana extensions, enclosed and compatibility forms, ideographs and hexagrams.
        ("[\u{31c0}-\u{9fff}]+", ""),
        // All sorts of dashes.
        (
            "[\\-\u{58a}\u{5be}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2e17}\u{2e1a}\u{2e3a}\u{2e3b}\u{2e40}\
             \u{301c}\u{3030}\u{30a0}\u{fe31}\u{fe32}\u{fe58}\u{fe63}\u{ff0d}]+",
            "-",
        ),
        ("[`´«»“”¨]", "\""),
        ("[‘’]", "'"),
        ("&quot;?", ""),
        ("&amp", ""),
        // Network addresses.
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        // Article numbers at the end.
        (r"\d:\d\d[\s]+$", ""),
        // A line break that was written out.
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        // File names.
        (r"[^\s]+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
        ("[\"']{2,}", "\""),
        (r"\.{2,}", " "),
        (r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+", " "),
        (r"[\s]+\.[\s]+", " "),
    ])
});

/// Product codes, advertising phrases, sizes, and what remains at the ends.
static CODES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        (r"(?:worldwide[\s]+)?(?:free[\s]+)?shipping", ""),
        (r"(?:free[\s])?download(?:[\s]free)?", ""),
        (r"\bclick\b[\s](?:for|on)[\s][\w]+", ""),
        (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:[\s]images?)?", ""),
        (r"\bpage[\s]+\d+\b", ""),
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        // Sizes, with the Latin letter, the Cyrillic letter or the sign between the numbers.
        (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
        (r"\b[\s]+:[\s]+", ": "),
        (r"([^\d][,./])\b", "${1} "),
        (r"[\s]+", " "),
        // A text that is quoted as a whole.
        (r#"(?s)^["'](.+)["']$"#, "${1}"),
        (r"^['_,\-:;]", ""),
        (r"['_,\-:+]$", ""),
        (r"^\.[^\s]+$", ""),
    ])
});

/// Removes what Python counts as space from both ends.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// Undoes form encoding: `+` is a space, `%20` a byte of UTF-8. Escapes count only among ASCII neighbours, and bytes
/// that are no UTF-8 become the replacement character.
fn decode_percent_escapes(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escape = rest.get(1..3).filter(|_| first == '%');
        let byte = escape
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &rest[3..];
            continue;
        }
        if !bytes.is_empty() {
            decoded.push_str(&String::from_utf8_lossy(&bytes));
            bytes.clear();
        }
        decoded.push(if first == '+' { ' ' } else { first });
        rest = &rest[first.len_utf8()..];
    }
    decoded.push_str(&String::from_utf8_lossy(&bytes));
    decoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(&clean_once(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn addresses_nicknames_files_and_codes_go() {
        check(&[
            ("Look at http://example.org/a/b here", "look at here"),
            ("from @some_body with love", "from with love"),
            ("open holiday_02.jpeg now", "open now"),
            ("model abc1234 and ab12cd in 640x480", "model and in"),
            ("ten.dots.. and 10.0.0.1 too", "ten. dots and too"),
        ]);
    }

    #[test]
    fn markup_escapes_and_typography_become_plain_text() {
        check(&[
            ("A <i>red</i> ball<br/>rolls", "a red ballrolls"),
            ("salt &amp; pepper", "salt pepper"),
            ("caf%C3%A9+noir", "café noir"),
            ("caf%E9", "caf\u{fffd}"),
            ("“curly” — dash", "\"curly\" - dash"),
            ("ﬁlm Ｗｉｄｅ", "film wide"),
            ("the cafã© again", "the cafã again"),
            ("日本 temple", "temple"),
        ]);
    }

    #[test]
    fn ends_are_trimmed_by_the_rules_of_the_reference() {
        check(&[
            ("\"all quoted\"", "all quoted"),
            ("-dash: colon:", "dash: colon"),
            (".hidden", ""),
            ("\u{1f} \t spaced\u{1c}", "spaced"),
            ("", ""),
        ]);
    }

    #[test]
    fn names_with_hyphens_are_split_only_when_there_are_many() {
        check(&[
            ("a well-known place", "a well-known place"),
            ("a-b c-d e_f g_h", "a b c d e f g h"),
        ]);
    }

    #[test]
    fn the_second_pass_sees_what_the_first_uncovered() {
        let twice = CaptionCleaning::OpenSora.apply("a &lt;tiny&gt; pony").unwrap();
        assert_eq!(twice, "a pony");
        assert_eq!(CaptionCleaning::LowerStrip.apply(" A &lt; B ").unwrap(), "a &lt; b");
    }

    #[test]
    fn a_long_prompt_is_cleaned_and_an_endless_one_refused() {
        let long = "a red circle and ".repeat(2000);
        assert_eq!(clean_once(&long).unwrap(), long.trim());
        let endless = clean_once(&"é".repeat(600_000));
        assert!(matches!(endless, Err(ModelError::BadInput(_))), "{endless:?}");
    }
}
