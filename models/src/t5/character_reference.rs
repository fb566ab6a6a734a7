//! Character references: `&eacute;`, `&#233;`, `&#xe9;`.

use std::collections::HashMap;
use std::sync::LazyLock;

use entities::ENTITIES;

/// The character of a numeric reference. The codes of C1 controls mean Windows-1252, as browsers read them.
pub(super) fn character(code: u32) -> char {
    /// Codes 0x80 to 0x9f of Windows-1252; the undefined ones map to themselves.
    const WINDOWS_1252: [u16; 32] = [
        0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039,
        0x152, 0x8d, 0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
        0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178,
    ];
    let code = match code {
        0 => u32::MAX,
        0x80..=0x9f => u32::from(WINDOWS_1252[code as usize - 0x80]),
        _ => code,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Names of character references without `&` and `;`.
static NAMED: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let bare = |entity: &'static str| entity.trim_start_matches('&').trim_end_matches(';');
    ENTITIES.iter().map(|entity| (bare(entity.entity), entity.characters)).collect()
});

/// What a named reference stands for, given its name without `&` and `;`.
pub(super) fn named_character(name: &str) -> Option<&'static str> {
    NAMED.get(name).copied()
}

/// Names that count without a semicolon.
static UNTERMINATED: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let open = ENTITIES.iter().filter(|entity| !entity.entity.ends_with(';'));
    open.map(|entity| (entity.entity.trim_start_matches('&'), entity.characters)).collect()
});

/// Replaces every character reference by what it stands for, as HTML 5 reads them in text.
pub(super) fn unescape(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (length, characters) = match piece.strip_prefix('#') {
            Some(number) => numeric(number),
            None => named(piece),
        };
        if length == 0 {
            plain.push('&');
        }
        plain.push_str(&characters);
        plain.push_str(&piece[length..]);
    }
    plain
}

fn numeric(number: &str) -> (usize, String) {
    let (prefix, radix) = if number.starts_with(['x', 'X']) { (1, 16) } else { (0, 10) };
    let digits = &number[prefix..];
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if length == 0 {
        return (0, String::new());
    }
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    let semicolon = usize::from(digits[length..].starts_with(';'));
    (1 + prefix + length + semicolon, character(code).to_string())
}

fn named(piece: &str) -> (usize, String) {
    let name = &piece[..piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len())];
    if let Some(characters) = NAMED.get(name).filter(|_| piece[name.len()..].starts_with(';')) {
        return (name.len() + 1, characters.to_string());
    }
    let longest = (1..=name.len()).rev().find_map(|length| {
        UNTERMINATED.get(&name[..length]).map(|characters| (length, characters.to_string()))
    });
    longest.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_once_and_unknown_ones_stay() {
        assert_eq!(
            unescape("&amp;lt; &notit; &#x1f600 &#0; &bogus; &"),
            "&lt; ¬it; 😀 \u{fffd} &bogus; &"
        );
        assert_eq!(unescape("&#128;&#x9F;"), "€Ÿ");
    }
}
