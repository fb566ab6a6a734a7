//! Prompts from the command line, a file or standard input.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

/// All prompts, those of the command line first.
///
/// A prompt file has one prompt a line; blank lines and lines that begin with `#` are skipped.
///
/// # Errors
/// The file cannot be read, a prompt is empty, or there is none at all.
pub fn collect(arguments: &[String], file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut prompts = Vec::new();
    for prompt in arguments {
        if prompt.trim().is_empty() {
            bail!("a prompt is empty: say what the video shall show");
        }
        prompts.push(prompt.trim().to_string());
    }
    if let Some(file) = file {
        let text = read(file)?;
        let lines = text.lines().map(str::trim);
        prompts.extend(
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from),
        );
        if prompts.is_empty() {
            bail!("{} holds no prompt: expected one a line", name(file));
        }
    }
    if prompts.is_empty() {
        bail!("no prompt: say what the video shall show, or name a file of prompts with --prompts");
    }
    Ok(prompts)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    // Editors on Windows begin files with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes);
    Ok(text.with_context(|| format!("{} is not text in UTF-8", name(file)))?.to_string())
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_has_a_prompt_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\u{feff}a cat\n\n# not this\r\n  a dog  \n").unwrap();
        let prompts = collect(&["a fox".into()], Some(file.path())).unwrap();
        assert_eq!(prompts, ["a fox", "a cat", "a dog"]);
    }

    #[test]
    fn nothing_to_do_is_an_error_that_says_what_is_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# only this\n").unwrap();
        for (arguments, path, told) in [
            (vec![], None, "--prompts"),
            (vec!["  ".into()], None, "empty"),
            (vec![], Some(file.path()), "holds no prompt"),
            (vec![], Some(Path::new("/no/such/file")), "cannot read /no/such/file"),
        ] {
            let error = format!("{:#}", collect(&arguments, path).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        fs::write(file.path(), [0xff, 0xfe, 0x41]).unwrap();
        assert!(collect(&[], Some(file.path())).unwrap_err().to_string().contains("UTF-8"));
    }
}
