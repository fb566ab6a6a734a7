//! A slower disk than the one at hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets blocks arrive no faster than a given rate, all loaders together: so that a phone's or a slow disk's speed can be
/// rehearsed anywhere.
#[derive(Clone)]
pub struct ReadLimit {
    bytes_per_second: f64,
    /// When the disk has delivered everything that was asked of it.
    busy_until: Arc<Mutex<Option<Instant>>>,
}

impl ReadLimit {
    /// A disk of this speed, above 0.
    pub fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, busy_until: Arc::default() }
    }

    /// Waits until the disk would have delivered `bytes` that were asked for at `asked`.
    pub fn pace(&self, bytes: u64, asked: Instant) {
        let done = self.delivered(bytes, asked);
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
    }

    fn delivered(&self, bytes: u64, asked: Instant) -> Instant {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = busy_until.map_or(asked, |busy| busy.max(asked));
        let seconds = bytes as f64 / self.bytes_per_second;
        let takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let done = begins.checked_add(takes).unwrap_or(begins);
        *busy_until = Some(done);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_queue_up_behind_each_other() {
        let limit = ReadLimit::new(1000.0);
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(limit.delivered(1000, start), start + second);
        assert_eq!(limit.delivered(500, start), start + second * 3 / 2);
        // A disk that was idle begins when it is asked.
        assert_eq!(limit.delivered(1000, start + second * 9), start + second * 10);
    }
}
