//! The time of day, as the API tells it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of Unix time.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
