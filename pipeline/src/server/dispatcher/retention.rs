//! How long finished videos are kept.

use std::time::{Duration, Instant};

/// How often to look for videos that were kept for long enough.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// By how much the time of day may differ from what the machine's own clock says it should be. Our choice: more than
/// a synchronised clock is ever corrected by at once, and less than any age that videos are kept for.
const TOLERANCE_SECONDS: u64 = 5;

/// The time of day, as far as it can be trusted: a device without a clock of its own starts at some day and is set right
/// later, and what was made today must not look years old meanwhile.
#[derive(Debug, Default)]
pub(super) struct SteadyClock {
    before: Option<(Instant, i64)>,
}

impl SteadyClock {
    /// One that was not looked at yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The second of Unix time, unless this is the first look, or the time of day jumped since the last one.
    pub(super) fn look(&mut self, now: Instant, second: i64) -> Option<i64> {
        let (then, second_then) = self.before.replace((now, second))?;
        let passed = i64::try_from((now - then).as_secs()).ok()?;
        let jump = second.checked_sub(second_then)?.checked_sub(passed)?;
        (jump.unsigned_abs() <= TOLERANCE_SECONDS).then_some(second)
    }
}

/// How long finished and failed videos are kept; `None` is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// From their end on.
    pub age: Option<Duration>,
    /// Bytes of finished videos in all; beyond, the oldest go first.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Videos that were over before this have to go.
    pub(super) fn before(self, now: i64) -> Option<i64> {
        self.age.map(|age| now.saturating_sub(seconds(age)))
    }

    /// When a video that was over at `completed_at` goes, in seconds of Unix time.
    pub fn expires_at(self, completed_at: i64) -> Option<i64> {
        self.age.map(|age| completed_at.saturating_add(seconds(age)))
    }
}

fn seconds(age: Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_just_set_is_not_trusted() {
        let (mut clock, start) = (SteadyClock::new(), Instant::now());
        let mut look = |minutes: u32, second: i64| clock.look(start + minutes * INTERVAL, second);
        assert_eq!(look(0, 1000), None, "nothing is known of it yet");
        assert_eq!(look(1, 1060), Some(1060));
        assert_eq!(look(2, 1_800_000_000), None, "it was set");
        assert_eq!(look(3, 1_800_000_062), Some(1_800_000_062));
        assert_eq!(look(4, 1_799_999_000), None, "it was set back");
        assert_eq!(look(5, i64::MIN), None);
    }
}
