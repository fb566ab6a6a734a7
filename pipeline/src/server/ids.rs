//! Names of videos, which nobody can guess.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::hexadecimal::{from_hexadecimal, hexadecimal};

/// What every id begins with.
const PREFIX: &str = "video_";

/// Random bits of an id: as many as a UUID has room for, so that neither chance nor trying finds one.
const RANDOM_BYTES: usize = 16;

/// Names a video: `video_` and 128 random bits in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId([u8; RANDOM_BYTES]);

impl VideoId {
    /// A new one, from the operating system's random numbers.
    ///
    /// # Errors
    /// The operating system has none.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A random seed that JSON's numbers hold exactly, for videos that are asked for without one.
///
/// # Errors
/// The operating system has no random numbers.
pub(super) fn random_seed() -> Result<u64, getrandom::Error> {
    getrandom::u32().map(u64::from)
}

impl fmt::Display for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hexadecimal(&self.0))
    }
}

impl Serialize for VideoId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a video's id")]
pub struct NotAnId;

impl FromStr for VideoId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotAnId)?;
        // One id has one spelling.
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(NotAnId);
        }
        from_hexadecimal(digits).map(Self).ok_or(NotAnId)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        let id = VideoId::random().unwrap();
        assert_eq!(id.to_string().len(), 38);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(VideoId::random().unwrap(), id);
        let other_case = format!("video_{}", "A".repeat(32));
        let not_ascii = format!("video_{}", "é".repeat(16));
        for bad in ["", "video_", "video_12", "../../etc/passwd", &other_case, &not_ascii] {
            assert_eq!(bad.parse::<VideoId>(), Err(NotAnId), "{bad}");
        }
    }
}
