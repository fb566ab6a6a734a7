//! Bounded channels that know how full they are and how long senders waited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sora_telemetry::ChannelMetrics;

/// A channel between two stages that holds at most `capacity` items; a full one makes its senders wait.
pub fn bounded<T>(name: &str, capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = flume::bounded(capacity);
    let probe = ChannelProbe {
        shared: Arc::new(Counts {
            name: name.to_string(),
            capacity,
            depth: AtomicUsize::new(0),
            blocked_nanoseconds: AtomicU64::new(0),
            metrics: ChannelMetrics::new(name, capacity),
        }),
    };
    (Sender { inner: sender, probe: probe.clone() }, Receiver { inner: receiver, probe })
}

/// The receiving stage is gone; the item comes back.
#[derive(Debug)]
pub struct Disconnected<T>(pub T);

/// The sending half.
pub struct Sender<T> {
    inner: flume::Sender<T>,
    probe: ChannelProbe,
}

impl<T> Sender<T> {
    /// Sends, waiting for a free place; returns how long that took.
    ///
    /// # Errors
    /// The receiver is gone.
    pub fn send(&self, item: T) -> Result<Duration, Disconnected<T>> {
        let waited = match self.inner.try_send(item) {
            Ok(()) => Duration::ZERO,
            Err(flume::TrySendError::Disconnected(item)) => return Err(Disconnected(item)),
            Err(flume::TrySendError::Full(item)) => {
                let started = Instant::now();
                self.inner.send(item).map_err(|refused| Disconnected(refused.0))?;
                let waited = started.elapsed();
                self.probe.blocked(waited);
                waited
            }
        };
        self.probe.depth(self.inner.len());
        Ok(waited)
    }

    /// Whether a send would have to wait.
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// How many items wait.
    pub fn depth(&self) -> usize {
        self.inner.len()
    }

    /// An observer of this channel; it does not keep the channel open.
    pub fn probe(&self) -> ChannelProbe {
        self.probe.clone()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), probe: self.probe.clone() }
    }
}

/// The receiving half. Dropping it drops what still waits, so that nothing lingers in a channel nobody reads.
pub struct Receiver<T> {
    inner: flume::Receiver<T>,
    probe: ChannelProbe,
}

impl<T> Receiver<T> {
    /// Takes the next item, waiting for one; `None` once all senders are gone and nothing waits.
    pub fn recv(&self) -> Option<T> {
        let item = self.inner.recv().ok();
        self.probe.depth(self.inner.len());
        item
    }

    /// Takes the next item, waiting for it no longer than `wait`.
    pub fn recv_within(&self, wait: Duration) -> Option<T> {
        let item = self.inner.recv_timeout(wait).ok()?;
        self.probe.depth(self.inner.len());
        Some(item)
    }

    /// Takes the next item if one waits.
    pub fn try_recv(&self) -> Option<T> {
        let item = self.inner.try_recv().ok()?;
        self.probe.depth(self.inner.len());
        Some(item)
    }

    /// How many items wait.
    pub fn depth(&self) -> usize {
        self.inner.len()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.inner.drain());
    }
}

/// Observes a channel from outside.
#[derive(Clone)]
pub struct ChannelProbe {
    shared: Arc<Counts>,
}

struct Counts {
    name: String,
    capacity: usize,
    depth: AtomicUsize,
    blocked_nanoseconds: AtomicU64,
    metrics: ChannelMetrics,
}

impl ChannelProbe {
    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many items it can hold.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// How many items waited after the latest send or receive.
    pub fn last_depth(&self) -> usize {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// How long senders have waited so far, all together.
    pub fn blocked_seconds(&self) -> f64 {
        Duration::from_nanos(self.shared.blocked_nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }

    fn depth(&self, items: usize) {
        self.shared.depth.store(items, Ordering::Relaxed);
        self.shared.metrics.depth(items);
    }

    fn blocked(&self, waited: Duration) {
        let nanoseconds = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.shared.blocked_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.shared.metrics.blocked(waited);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_full_channel_makes_its_sender_wait_and_counts_the_wait() {
        let (sender, receiver) = bounded("test", 1);
        assert_eq!(sender.send(1).unwrap(), Duration::ZERO);
        assert!(sender.is_full());
        let probe = sender.probe();
        let blocked = std::thread::spawn(move || sender.send(2).unwrap());
        // The second item cannot arrive before the first is taken.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!((receiver.depth(), probe.last_depth()), (1, 1));
        assert_eq!(receiver.recv(), Some(1));
        let waited = blocked.join().unwrap();
        assert!(waited > Duration::ZERO);
        assert!((probe.blocked_seconds() - waited.as_secs_f64()).abs() < 1e-6);
        assert_eq!(receiver.recv(), Some(2));
        assert_eq!(receiver.recv(), None);
    }

    #[test]
    fn a_dropped_receiver_drops_what_waits_and_refuses_the_next() {
        let (sender, receiver) = bounded("test", 2);
        let item = Arc::new(());
        sender.send(item.clone()).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
        assert!(sender.send(item).is_err());
    }

    #[test]
    fn who_waits_for_a_while_gets_what_comes_meanwhile_and_no_more() {
        let (sender, receiver) = bounded("test", 1);
        assert_eq!(receiver.recv_within(Duration::from_millis(1)), None);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            sender.send(1).unwrap();
        });
        assert_eq!(receiver.recv_within(Duration::MAX), Some(1));
        late.join().unwrap();
        assert_eq!(receiver.recv_within(Duration::MAX), None, "nobody can send any more");
    }
}
