//! How long finished videos are kept.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::server::store::Store;

/// How often to look for videos that were kept for long enough.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// By how much the time of day may differ from what the machine's own clock says it should be. Our choice: more than
/// a synchronised clock is ever corrected by at once, and less than any age that videos are kept for.
const TOLERANCE_SECONDS: u64 = 5;

/// The time of day, as far as it can be trusted: a device without a clock of its own starts at some day and is set right
/// later, and what was made today must not look years old then.
#[derive(Debug, Clone, Copy)]
pub(super) struct SteadyClock {
    /// When this process began, by the time of day as it is now.
    since: i64,
    /// Seconds that the machine had run for, and the time of day, at the last look.
    before: Option<(i64, i64)>,
}

/// What a look at the clock finds.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// The second of Unix time.
    Steady(i64),
    /// Nothing that can be trusted.
    Unknown,
    /// It was set forward by so many seconds: what this process noted is of these seconds, and that much later in truth.
    SetForward { noted: RangeInclusive<i64>, by: i64 },
}

impl SteadyClock {
    /// One that was not looked at yet, in a process that begins at this second of Unix time.
    pub(super) fn new(since: i64) -> Self {
        Self { since, before: None }
    }

    /// The second of Unix time, unless this is the first look, or the time of day was set since the last one. When it was set
    /// forward, the ends of this process's videos are set forward with it.
    ///
    /// # Arguments
    /// `running` and `second` are seconds that the machine has run for, and of Unix time.
    pub(super) async fn trusted(
        &mut self,
        store: &Store,
        running: i64,
        second: i64,
    ) -> Option<i64> {
        let before = *self;
        match self.look(running, second) {
            Look::Steady(second) => return Some(second),
            Look::Unknown => {}
            Look::SetForward { noted, by } => {
                tracing::info!(seconds = by, "the time of day was set forward");
                if let Err(cause) = store.move_ends(noted, by).await {
                    tracing::error!(%cause, "that the time of day was set cannot be noted");
                    // The next look finds the same.
                    *self = before;
                }
            }
        }
        None
    }

    fn look(&mut self, running: i64, second: i64) -> Look {
        let Some((ran, second_before)) = self.before.replace((running, second)) else {
            return Look::Unknown;
        };
        let expected = second_before.saturating_add(running.saturating_sub(ran));
        let jump = second.saturating_sub(expected);
        if jump.unsigned_abs() <= TOLERANCE_SECONDS {
            return Look::Steady(second);
        }
        if jump < 0 {
            // What was noted before seems younger than it is, which only keeps it for longer.
            self.since = self.since.min(second);
            return Look::Unknown;
        }
        let noted = self.since..=expected;
        self.since = self.since.saturating_add(jump);
        Look::SetForward { noted, by: jump }
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
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::server::store::tests::{accepted, new_video, opened};

    #[test]
    fn a_clock_that_was_just_set_is_not_trusted() {
        let mut clock = SteadyClock::new(990);
        let mut look = |minutes: i64, second: i64| clock.look(7 + 60 * minutes, second);
        assert_eq!(look(0, 1000), Look::Unknown, "nothing is known of it yet");
        assert_eq!(look(1, 1060), Look::Steady(1060));
        let by = 1_800_000_000 - 1120;
        assert_eq!(look(2, 1_800_000_000), Look::SetForward { noted: 990..=1120, by });
        assert_eq!(look(3, 1_800_000_062), Look::Steady(1_800_000_062));
        let since = 990 + by;
        let noted = since..=1_800_000_122;
        assert_eq!(look(4, 1_800_001_122), Look::SetForward { noted, by: 1000 });
        assert_eq!(look(5, 1_700_000_000), Look::Unknown, "it was set back");
        let noted = 1_700_000_000..=1_700_000_060;
        assert_eq!(look(6, 1_700_000_160), Look::SetForward { noted, by: 100 });
        assert_eq!(look(7, i64::MIN), Look::Unknown);
    }

    #[actix::test]
    async fn what_was_over_before_the_clock_was_set_is_kept_as_long_as_all_else() {
        let (_folder, store) = opened();
        let retention = Retention { age: Some(Duration::from_secs(3600)), bytes: None };
        let id = accepted(&store, new_video("a", 0)).await;
        store.claim(1000).await.unwrap();
        store.complete(id, "00".into(), 100, 1050).await.unwrap();
        let mut clock = SteadyClock::new(990);
        let mut gone = async |running: i64, second: i64| {
            let now = clock.trusted(&store, running, second).await;
            let before = now.and_then(|now| retention.before(now));
            store.expire(before, None).await.unwrap()
        };
        assert_eq!(gone(0, 1000).await, []);
        // Set right a minute later, which is ten seconds after the video's end.
        let set = 1_800_000_000;
        for minutes in 1..=60 {
            assert_eq!(gone(60 * minutes, set + 60 * (minutes - 1)).await, [], "{minutes}");
        }
        assert_eq!(gone(3660, set + 3600).await, [id]);
    }
}
