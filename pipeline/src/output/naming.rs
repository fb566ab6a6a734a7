//! File names out of wishes and prompts.

use super::OutputError;
use crate::sinks::SinkKind;

/// Longest part of a file name that comes from a prompt; file systems stop at 255 bytes.
const MAX_PROMPT_NAME_BYTES: usize = 80;

/// What a name may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamingFacts {
    /// The prompt.
    pub prompt: String,
    /// The seed.
    pub seed: u64,
}

/// The path of video `index` (from 1) of `count`, as `wish` names it.
pub(super) fn expanded(
    wish: &str,
    index: usize,
    count: usize,
    facts: &NamingFacts,
) -> Result<String, OutputError> {
    if !wish.contains('{') {
        return Ok(if count == 1 { wish.to_string() } else { numbered(wish, index) });
    }
    let mut path = String::new();
    let mut rest = wish;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        let (placeholder, after) = after.split_once('}').unwrap_or((after, ""));
        match placeholder {
            "index" => path.push_str(&index.to_string()),
            "seed" => path.push_str(&facts.seed.to_string()),
            "prompt" => path.push_str(&name_of(&facts.prompt)),
            _ => return Err(OutputError::UnknownPlaceholder { placeholder: placeholder.into() }),
        }
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// `film.mp4` becomes `film-3.mp4`, `frames/` becomes `frames/3/`, `frames` becomes `frames-3`.
fn numbered(wish: &str, index: usize) -> String {
    let kind = SinkKind::of(wish.as_ref());
    let has_extension = kind.is_ok_and(|kind| kind.extension().is_some());
    match wish.rsplit_once('.').filter(|_| has_extension) {
        Some((stem, extension)) => format!("{stem}-{index}.{extension}"),
        None if wish.ends_with('/') => format!("{wish}{index}/"),
        None => format!("{wish}-{index}"),
    }
}

/// A prompt as a file name: letters and digits in lower case, single hyphens between, cut at a word.
pub(super) fn name_of(prompt: &str) -> String {
    let lower = prompt.to_lowercase();
    let mut name = String::new();
    for word in
        lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
    {
        let separator = usize::from(!name.is_empty());
        if name.len() + separator + word.len() > MAX_PROMPT_NAME_BYTES {
            break;
        }
        if separator == 1 {
            name.push('-');
        }
        name.push_str(word);
    }
    if name.is_empty() { "video".into() } else { name }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::output::OutputTarget;

    fn facts(prompt: &str) -> NamingFacts {
        NamingFacts { prompt: prompt.into(), seed: 42 }
    }

    fn names(wish: Option<&str>, prompts: &[&str]) -> Result<Vec<String>, OutputError> {
        let facts: Vec<NamingFacts> = prompts.iter().map(|prompt| facts(prompt)).collect();
        let targets = OutputTarget::name_all(wish, &facts)?;
        Ok(targets.iter().map(|target| target.video().to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn one_wish_names_all_videos() {
        for (wish, prompts, expected) in [
            ("film.gif", &["a"][..], &["film.gif"][..]),
            ("film.gif", &["a", "b"], &["film-1.gif", "film-2.gif"]),
            ("v1.0/frames/", &["a", "b"], &["v1.0/frames/1", "v1.0/frames/2"]),
            ("v1.0/frames", &["a", "b"], &["v1.0/frames-1", "v1.0/frames-2"]),
            ("x/{index}-{prompt}-{seed}.gif", &["A cat!"], &["x/1-a-cat-42.gif"]),
        ] {
            assert_eq!(names(Some(wish), prompts).unwrap(), expected, "{wish}");
        }
    }

    #[test]
    fn wishes_that_cannot_be_granted_are_refused() {
        let refused = |wish| names(Some(wish), &["a", "a"]).unwrap_err().to_string();
        assert!(refused("{prompt}.gif").contains("two prompts would write a.gif"));
        assert!(refused("{name}.gif").contains("{name}"));
        assert!(refused("{index.gif").contains("known are"));
        assert!(refused("film.webm").contains(".gif"));
    }

    #[test]
    fn without_a_wish_prompts_name_videos_and_nothing_is_overwritten() {
        let extension = SinkKind::DEFAULT.extension().unwrap();
        let prompt = "a prompt that no file of this folder is named after";
        let names = names(None, &[prompt, prompt]).unwrap();
        let stem = "a-prompt-that-no-file-of-this-folder-is-named-after";
        assert_eq!(names, [format!("{stem}.{extension}"), format!("{stem}-2.{extension}")]);
    }

    #[test]
    fn any_prompt_makes_a_safe_name() {
        assert_eq!(name_of("../../etc/passwd; rm -rf ~"), "etc-passwd-rm-rf");
        assert_eq!(name_of("?!"), "video");
        assert_eq!(name_of("Ein Fuchs im Grünen"), "ein-fuchs-im-grünen");
        assert!(name_of(&"word ".repeat(100)).len() <= MAX_PROMPT_NAME_BYTES);
        assert_eq!(Path::new(&name_of(&"x".repeat(300))), Path::new("video"));
    }
}
