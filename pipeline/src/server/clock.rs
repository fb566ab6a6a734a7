//! The time of day, as the API tells it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sysinfo::System;

/// Seconds of Unix time.
pub(super) fn now() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

/// How long ago a second of Unix time was; nothing for what is still to come.
pub(super) fn since(second: i64) -> Duration {
    let then = Duration::from_secs(u64::try_from(second).unwrap_or(0));
    since_epoch().saturating_sub(then)
}

/// Seconds since the machine was started, those in which it slept included, whatever the time of day is set to; `None`
/// where the system does not tell.
pub(super) fn running() -> Option<i64> {
    i64::try_from(System::uptime().ok()?).ok()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
