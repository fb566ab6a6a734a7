//! Buffers that threads compute in.

use std::sync::{Mutex, PoisonError};

/// Scratch of the threads that share one piece of work: as many as are at work at a time, each reused from one part of the
/// work to the next. (A thread pool that hands out parts one by one makes scratch of its own for each part.)
pub(crate) struct ScratchPool<T>(Mutex<Vec<T>>);

impl<T: Default> ScratchPool<T> {
    /// A pool without any scratch yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Does one part of the work in scratch of which nothing can be said but that its buffers may be there already.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle().pop().unwrap_or_default();
        let done = work(&mut scratch);
        idle().push(scratch);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_used_again_but_by_one_at_a_time() {
        let pool = ScratchPool::<Vec<u8>>::new();
        pool.with(|outer| {
            outer.push(1);
            pool.with(|inner| assert!(inner.is_empty()));
        });
        let lengths = [(); 2].map(|()| pool.with(|scratch| std::mem::take(scratch).len()));
        assert_eq!(lengths.iter().sum::<usize>(), 1);
    }
}
