//! A counted resource: so many at once, and the next one waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A number of slots; each [`SlotPermit`] occupies one until it is dropped.
#[derive(Clone)]
pub struct Slots {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: usize,
    closed: bool,
}

/// Why no slot was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotRefusal {
    /// [`Slots::close`] was called.
    Closed,
    /// None became free in time.
    TimedOut,
}

/// One occupied slot.
pub struct SlotPermit {
    shared: Arc<Shared>,
}

impl Slots {
    /// `count` free slots.
    pub fn new(count: usize) -> Self {
        let state = Mutex::new(State { free: count, closed: false });
        Self { shared: Arc::new(Shared { state, changed: Condvar::new() }) }
    }

    /// Occupies a slot, waiting for a free one at most `patience` (for ever when `None`).
    ///
    /// # Errors
    /// [`SlotRefusal`].
    pub fn acquire(&self, patience: Option<Duration>) -> Result<SlotPermit, SlotRefusal> {
        // A patience beyond what a clock can add to is as good as for ever.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return Err(SlotRefusal::Closed);
            }
            if state.free > 0 {
                state.free -= 1;
                return Ok(SlotPermit { shared: self.shared.clone() });
            }
            let changed = &self.shared.changed;
            state = match deadline {
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(SlotRefusal::TimedOut);
                    }
                    changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Refuses everyone who waits or asks from now on.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.shared.lock().free
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        self.shared.lock().free += 1;
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_slot_is_free_again_when_its_permit_is_dropped() {
        let slots = Slots::new(1);
        let permit = slots.acquire(None).unwrap();
        assert_eq!(slots.acquire(Some(Duration::ZERO)).err(), Some(SlotRefusal::TimedOut));
        let waiting = std::thread::spawn({
            let slots = slots.clone();
            move || slots.acquire(None).is_ok()
        });
        drop(permit);
        assert!(waiting.join().unwrap());
        assert_eq!(slots.free(), 1);
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let slots = Slots::new(0);
        let waiting = std::thread::spawn({
            let slots = slots.clone();
            move || slots.acquire(None).err()
        });
        slots.close();
        assert_eq!(waiting.join().unwrap(), Some(SlotRefusal::Closed));
    }
}
