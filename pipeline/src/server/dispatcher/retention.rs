//! How long finished videos are kept.

use std::time::Duration;

/// How often to look for videos that were kept for long enough.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

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
