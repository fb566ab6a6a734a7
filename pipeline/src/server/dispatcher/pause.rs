//! How long to wait after a failure that was the server's own.

use std::time::{Duration, Instant};

/// The first pause. Our choice: a disk that was full for a moment costs no more.
const FIRST: Duration = Duration::from_secs(1);

/// The longest one. Our choice: whoever mends the disk sees work go on within a minute, and the log stays short meanwhile.
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that grow as long as nothing succeeds between them.
#[derive(Debug, Default)]
pub(super) struct Pause {
    length: Option<Duration>,
    until: Option<Instant>,
}

impl Pause {
    /// Begins a pause, unless one is on: several videos fail of one cause.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.until.is_none() {
            let length = self.length.map_or(FIRST, |last| (2 * last).min(LONGEST));
            (self.length, self.until) = (Some(length), Some(now + length));
        }
    }

    /// When the pause that is on ends.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends the pause that is on.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// A video was made: the next pause is the first one.
    pub(super) fn forget(&mut self) {
        self.length = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_until_something_succeeds() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..9 {
            pause.begin(now);
            pause.begin(now + FIRST / 2);
            lengths.extend(pause.until().map(|until| (until - now).as_secs()));
            pause.end();
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        pause.forget();
        pause.begin(now);
        assert_eq!(pause.until(), Some(now + FIRST));
    }
}
