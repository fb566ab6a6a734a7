//! When a device has done what it was given, and when the memory of what was dropped is free.
//!
//! A GPU works on after a call is back: candle hands operations over in batches, and a tensor that was dropped goes into a pool
//! of the device's, where it stays allocated until somebody waits for the device. Whoever counts time or memory asks here.
//!
//! All threads share those batches, and a batch that failed is found once, by whoever waits for the device next. So failures are
//! written down here, and fail all who were at work then.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Device;

use crate::error::Result;

static FAILURES: FailureRecord = FailureRecord::new();

thread_local! {
    /// Failures that came before the work that this thread is doing.
    static EARLIER: Cell<u64> = const { Cell::new(0) };
}

/// Begins work of this thread, which has finished all that it had given to devices before: failures until now are none of the
/// new work's.
pub fn begin_work() {
    EARLIER.with(|earlier| FAILURES.begin(earlier));
}

/// Waits until everything that this thread gave `device` to compute is done. At once on the CPU, where calls return when
/// they are done.
///
/// # Errors
/// A device failed since this thread began its work, or finished the last of it, perhaps on another thread's: which one it was
/// cannot be told.
pub fn finish_work(device: &Device) -> Result<()> {
    let waited = releasing(|| wait_for_own_work(device));
    // What another thread has taken to look at, `Device::synchronize` neither waits for nor sees fail: the work of this one is
    // done by now, and the record is locked until that look is over.
    let synchronize = || releasing(|| device.synchronize());
    let looked = EARLIER.with(|earlier| FAILURES.since(earlier, synchronize));
    Ok(waited.and(looked)?)
}

/// Waits for the caller's own work, and tells a failure of the last batch of it alone.
fn wait_for_own_work(device: &Device) -> candle_core::Result<()> {
    match device {
        #[cfg(feature = "metal")]
        Device::Metal(metal) => metal.flush_and_wait_current(),
        _ => Ok(()),
    }
}

/// Has `device` really free what was dropped. Work that uses it must be done: see [`finish_work`].
pub fn free_dropped(device: &Device) {
    // What fails here is others' work, which is told to them: this begins none. In the background an app may begin none.
    drop(FAILURES.look(|| releasing(|| device.synchronize())));
}

/// What devices failed on, in this process.
struct FailureRecord {
    /// Raised while `latest` is locked.
    count: AtomicU64,
    latest: Mutex<String>,
}

impl FailureRecord {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), latest: Mutex::new(String::new()) }
    }

    /// Failures until now are `earlier` ones. One that is being looked at counts as later, which is on the safe side.
    fn begin(&self, earlier: &Cell<u64>) {
        earlier.set(self.count.load(Ordering::Acquire));
    }

    /// Writes down what `synchronize` finds failed. One thread at a time, since it takes what it looks at from all others.
    fn look(
        &self,
        synchronize: impl FnOnce() -> candle_core::Result<()>,
    ) -> MutexGuard<'_, String> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(cause) = synchronize() {
            *latest = cause.to_string();
            self.count.fetch_add(1, Ordering::Release);
        }
        latest
    }

    /// Looks, and fails if there were failures after the `earlier` ones; from then on they are earlier ones, too.
    fn since(
        &self,
        earlier: &Cell<u64>,
        synchronize: impl FnOnce() -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        let latest = self.look(synchronize);
        let count = self.count.load(Ordering::Acquire);
        if earlier.replace(count) == count {
            return Ok(());
        }
        let failure = format!("the device failed on work that it had been given: {latest}");
        Err(candle_core::Error::wrap(failure))
    }
}

/// Does work that calls Apple's frameworks, and lets go of the objects that they leave to the thread that they were called
/// on: such a thread collects them for as long as it lives unless it says when it is done with them. Elsewhere nothing but
/// the work.
pub fn releasing<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_vendor = "apple")]
    return objc2::rc::autoreleasepool(|_| work());
    #[cfg(not(target_vendor = "apple"))]
    work()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    fn failing() -> candle_core::Result<()> {
        Err(candle_core::Error::Msg("out of memory".into()))
    }

    #[test]
    fn a_failure_that_another_thread_found_fails_all_who_were_at_work_once() {
        let record = FailureRecord::new();
        let (first, second, later) = (Cell::new(0), Cell::new(0), Cell::new(0));
        assert!(record.since(&first, || Ok(())).is_ok());
        // Whoever frees memory keeps nothing to itself.
        drop(record.look(failing));
        record.begin(&later);
        for at_work in [&first, &second] {
            let failure = record.since(at_work, || Ok(())).unwrap_err();
            assert_eq!(ErrorKind::of_computing(&failure), ErrorKind::Device);
            let failure = failure.to_string();
            assert!(failure.contains("out of memory"), "{failure}");
            assert!(record.since(at_work, || Ok(())).is_ok(), "it is told twice");
        }
        assert!(record.since(&later, || Ok(())).is_ok(), "it had not begun");
        assert!(record.since(&later, failing).is_err());
    }

    #[test]
    fn a_look_that_another_thread_has_begun_is_waited_for() {
        let record = FailureRecord::new();
        let (looking, looks) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                drop(record.look(|| {
                    looking.send(()).unwrap();
                    thread::sleep(Duration::from_millis(50));
                    failing()
                }));
            });
            looks.recv().unwrap();
            assert!(record.since(&Cell::new(0), || Ok(())).is_err(), "the failure is lost");
        });
    }

    #[test]
    fn work_on_a_cpu_is_done_when_it_is_back() {
        begin_work();
        finish_work(&Device::Cpu).unwrap();
        free_dropped(&Device::Cpu);
    }
}
