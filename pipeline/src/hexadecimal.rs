//! Bytes as hexadecimal digits, and back.

use std::fmt::Write;

/// Two lowercase digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of exactly `2 * N` digits, in either case.
#[cfg(feature = "serve")]
pub(crate) fn from_hexadecimal<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_two_digits() {
        assert_eq!(hexadecimal(&[0, 0x1f, 0xff]), "001fff");
    }

    #[cfg(feature = "serve")]
    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        assert_eq!(from_hexadecimal("001fFF"), Some([0, 0x1f, 0xff]));
        for bad in ["001ff", "001fff0", "001ffg", "+01fff", "é1fff", ""] {
            assert_eq!(from_hexadecimal::<3>(bad), None, "{bad}");
        }
    }
}
