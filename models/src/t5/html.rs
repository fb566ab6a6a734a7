//! The visible text of markup.
//!
//! Prompts are no documents, so what matters is how broken markup is read. The reference uses Beautiful Soup over
//! Python's `html.parser`, which is more literal than the parsing rules of HTML 5: nothing is moved about, an
//! unfinished tag is text, and an unknown reference stays.

use super::character_reference::{character, named_character};

/// Elements whose text is not shown.
const HIDDEN: [&str; 5] = ["rp", "rt", "script", "style", "template"];

/// Elements whose content is not markup.
const RAW: [&str; 2] = ["script", "style"];

/// Elements that have no content, and so no end tag.
const VOID: [&str; 24] = [
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image",
    "img", "input", "isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source",
    "spacer", "track", "wbr",
];

/// Elements whose blank text is kept as it is.
const PREFORMATTED: [&str; 2] = ["pre", "textarea"];

/// The text that a reader of this markup would see.
pub(super) fn visible_text(markup: &str) -> String {
    let mut document = Document::default();
    let mut rest = markup;
    // As in the reference, what looks unfinished is tried once more when nothing can follow any more; only then is
    // it text.
    let mut at_end = false;
    while !rest.is_empty() {
        match document.consume(rest, at_end) {
            None if at_end => {
                document.end_with(rest);
                break;
            }
            None => at_end = true,
            Some(length) => {
                // A `&#` that begins no reference is text, and what follows is the last attempt.
                at_end |= rest.starts_with("&#") && length == 2;
                rest = &rest[length..];
            }
        }
    }
    document.flush();
    document.shown
}

/// What was read so far.
#[derive(Default)]
struct Document {
    shown: String,
    /// Text since the last tag.
    pending: String,
    open: Vec<String>,
    /// The raw element that is open, if any.
    raw: Option<String>,
}

impl Document {
    /// Consumes text, a tag or a reference from the start of `rest` and tells its length; `None` when it is
    /// unfinished.
    fn consume(&mut self, rest: &str, at_end: bool) -> Option<usize> {
        if let Some(raw) = &self.raw {
            let end = find_end_tag(rest, raw)?;
            self.pending.push_str(&rest[..end]);
            self.raw = None;
            return Some(end + self.end_tag(&rest[end..])?);
        }
        let length = rest.find(['<', '&']).unwrap_or(rest.len());
        if length > 0 {
            self.pending.push_str(&rest[..length]);
            return Some(length);
        }
        if rest.starts_with('&') {
            return self.reference(rest, at_end);
        }
        match self.markup(rest) {
            Some(length) => Some(length),
            None if at_end => {
                let length = match rest.find('>') {
                    Some(end) => end + 1,
                    None => rest[1..].find('<').map_or(1, |next| next + 1),
                };
                self.pending.push_str(&rest[..length]);
                Some(length)
            }
            None => None,
        }
    }

    /// A tag, comment, declaration or instruction, or a lone `<`.
    fn markup(&mut self, rest: &str) -> Option<usize> {
        let bytes = rest.as_bytes();
        if bytes.get(1).is_some_and(u8::is_ascii_alphabetic) {
            return self.start_tag(rest);
        }
        if rest.starts_with("</") {
            return self.end_tag(rest);
        }
        if rest.starts_with("<!--") {
            return self.skip(comment_end(rest)?);
        }
        if rest.starts_with("<![cdata[") {
            let end = rest.find("]]>")?;
            self.flush();
            // Shown even inside of elements that hide their text.
            self.show(&rest["<![cdata[".len()..end]);
            return Some(end + 3);
        }
        if rest.starts_with("<!") || rest.starts_with("<?") {
            return self.skip(rest.find('>')? + 1);
        }
        if rest.len() == 1 {
            return None;
        }
        self.pending.push('<');
        Some(1)
    }

    fn start_tag(&mut self, rest: &str) -> Option<usize> {
        let end = start_tag_end(rest)?;
        let name = &rest[1..1 + name_length(&rest[1..])];
        self.flush();
        let closed = rest[..end].ends_with("/>");
        if !closed && !VOID.contains(&name) {
            self.open.push(name.to_string());
        }
        if !closed && RAW.contains(&name) {
            self.raw = Some(name.to_string());
        }
        Some(end)
    }

    fn end_tag(&mut self, rest: &str) -> Option<usize> {
        let end = rest.find('>')? + 1;
        let inside = &rest[2..end - 1];
        let letter = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        let strict = inside.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
        let name = if letter(strict) && strict.chars().all(plain) {
            strict
        } else if letter(inside) {
            &inside[..name_length(inside)]
        } else if inside.is_empty() {
            return Some(end);
        } else {
            // Anything else between `</` and `>` is a comment.
            return self.skip(end);
        };
        self.flush();
        if let Some(depth) = self.open.iter().rposition(|open| open == name) {
            self.open.truncate(depth);
        }
        Some(end)
    }

    fn reference(&mut self, rest: &str, at_end: bool) -> Option<usize> {
        if let Some(number) = rest.strip_prefix("&#") {
            let Some((length, code)) = number_reference(number) else {
                // Begins no reference. Without a semicolon to come, all the rest is text.
                rest.contains(';').then(|| self.pending.push_str("&#"))?;
                return if at_end { self.literal_rest(&rest[2..]) } else { Some(2) };
            };
            self.pending.push(character(code));
            return Some(2 + length + usize::from(number[length..].starts_with(';')));
        }
        let name = &rest[1..];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            if rest.len() == 1 {
                return None;
            }
            self.pending.push('&');
            return Some(1);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let mut length = name.find(|c: char| !plain(c)).unwrap_or(name.len());
        if length == name.len() {
            // A name ends before something that is no letter or digit: here, before its last dash or dot.
            length = name.rfind(['-', '.'])?;
        }
        let name = &name[..length];
        match named_character(name) {
            Some(characters) => self.pending.push_str(characters),
            None => self.pending.extend(["&", name]),
        }
        Some(1 + length + usize::from(rest[1 + length..].starts_with(';')))
    }

    /// Takes all of `rest` for text, `&#` in front of it being consumed already.
    fn literal_rest(&mut self, rest: &str) -> Option<usize> {
        self.pending.push_str(rest);
        Some(2 + rest.len())
    }

    fn end_with(&mut self, rest: &str) {
        if self.raw.is_none() {
            self.pending.push_str(rest);
        }
    }

    fn skip(&mut self, length: usize) -> Option<usize> {
        self.flush();
        Some(length)
    }

    fn is_open(&self, names: &[&str]) -> bool {
        self.open.iter().any(|open| names.contains(&open.as_str()))
    }

    /// Ends a run of text.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.pending);
        if !self.is_open(&HIDDEN) {
            self.show(&text);
        }
    }

    /// Shows a run of text; a blank one shrinks to one character.
    fn show(&mut self, text: &str) {
        let blank = !text.is_empty() && text.chars().all(|c| " \t\n\r\x0c".contains(c));
        if blank && !self.is_open(&PREFORMATTED) {
            self.shown.push(if text.contains('\n') { '\n' } else { ' ' });
        } else {
            self.shown.push_str(text);
        }
    }
}

fn is_tag_space(c: char) -> bool {
    " \t\n\r\x0b\x0c".contains(c)
}

/// How many bytes of `text` belong to the tag name that it starts with.
fn name_length(text: &str) -> usize {
    text.find(|c: char| is_tag_space(c) || c == '/' || c == '>').unwrap_or(text.len())
}

/// Where the start tag at the start of `rest` ends, minding quoted attribute values.
fn start_tag_end(rest: &str) -> Option<usize> {
    let mut at = 1 + name_length(&rest[1..]);
    loop {
        at += rest[at..].find(|c: char| !is_tag_space(c) && c != '/')?;
        if rest[at..].starts_with('>') {
            return Some(at + 1);
        }
        at += rest[at..].find(|c: char| is_tag_space(c) || "/=>".contains(c))?;
        let value = rest[at..].trim_start_matches(is_tag_space);
        let Some(value) = value.strip_prefix('=') else { continue };
        let value = value.trim_start_matches('=').trim_start_matches(is_tag_space);
        at = rest.len() - value.len();
        at += match value.chars().next()? {
            quote @ ('"' | '\'') => value[1..].find(quote)? + 2,
            _ => value.find(|c: char| is_tag_space(c) || c == '>')?,
        };
    }
}

/// Where the end tag of the raw element `name` begins.
fn find_end_tag(rest: &str, name: &str) -> Option<usize> {
    rest.match_indices("</").map(|(at, _)| at).find(|at| {
        let inside = rest[at + 2..].trim_start();
        inside.strip_prefix(name).is_some_and(|after| after.trim_start().starts_with('>'))
    })
}

/// Where the comment at the start of `rest` ends: two dashes, perhaps space, and `>`.
fn comment_end(rest: &str) -> Option<usize> {
    rest[4..].match_indices("--").find_map(|(at, _)| {
        let after = rest[4 + at + 2..].trim_start();
        after.starts_with('>').then(|| rest.len() - after.len() + 1)
    })
}

/// The number behind `&#` and its length in bytes; it must end before something that is no digit of any base.
fn number_reference(text: &str) -> Option<(usize, u32)> {
    let (prefix, radix) = if text.starts_with(['x', 'X']) { (1, 16) } else { (0, 10) };
    let length = text[prefix..].find(|c: char| !c.is_digit(radix))?;
    let follows_digit = text[prefix + length..].starts_with(|c: char| c.is_ascii_hexdigit());
    if length == 0 || follows_digit {
        return None;
    }
    // A number too long to parse is beyond Unicode as well.
    let code = u32::from_str_radix(&text[prefix..prefix + length], radix).unwrap_or(u32::MAX);
    Some((prefix + length, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_comments_and_scripts_are_not_shown() {
        for (markup, text) in [
            ("<p>a <b class=\"x>y\">b</b></p>", "a b"),
            ("a<!-- b --c -->d", "ad"),
            ("a<script>if (1 < 2) { '<b>' }</script>b", "ab"),
            ("<ruby>a<rt>b<i>c</ruby>d", "ad"),
            ("a<br>b<br/>c</br>d", "abcd"),
            ("a<?php x ?>b<!doctype html>c<![cdata[d<e]]>f", "abcd<ef"),
            ("<i>a</i> \n <i>b</i>", "a\nb"),
            ("a<template>b<![cdata[c]]>d", "ac"),
        ] {
            assert_eq!(visible_text(markup), text, "{markup:?}");
        }
    }

    #[test]
    fn broken_markup_is_text() {
        for text in
            ["3 < 5 > 2", "a <b", "a <b c='d", "i <3 you", "a & b", "x <", "y &", "&#;", "a&#zz"]
        {
            assert_eq!(visible_text(text), text);
        }
        assert_eq!(visible_text("a</>b</ 1>c"), "abc");
        assert_eq!(visible_text("a<script>b"), "a");
    }

    #[test]
    fn references_are_read_once() {
        assert_eq!(
            visible_text("&amp;lt; &eacute; &#233; &#xe9; &#128; &bogus; &lt "),
            "&lt; é é é € &bogus < "
        );
    }
}
