//! A loader and its feed, with numbers for blocks and a log of what happens when.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::*;
use crate::channel::bounded;
use crate::error::{LoaderOf, StageFailure};
use crate::memory::{MemoryLedger, MemoryUse, budget_to_fill, retention_order};
use crate::stage::StageThread;

const BLOCK_BYTES: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Loaded(usize),
    Dropped(usize),
}

#[derive(Default)]
struct Log {
    events: Mutex<Vec<Happened>>,
    changed: Condvar,
    /// How often the loader asked what a block takes.
    looks: AtomicUsize,
}

impl Log {
    fn add(&self, event: Happened) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    fn events(&self) -> Vec<Happened> {
        self.events.lock().unwrap().clone()
    }

    fn loads(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Happened::Loaded(_))).count()
    }

    /// Waits until a block was loaded so often; a hang fails.
    fn wait_for(&self, block: usize, times: usize) {
        let done = |events: &mut Vec<Happened>| {
            events.iter().filter(|event| **event == Happened::Loaded(block)).count() < times
        };
        let events = self.events.lock().unwrap();
        let patience = Duration::from_secs(20);
        let waited = self.changed.wait_timeout_while(events, patience, done).unwrap();
        assert!(!waited.1.timed_out(), "block {block} is not loaded {times} times");
    }
}

struct Block {
    index: usize,
    log: Arc<Log>,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.log.add(Happened::Dropped(self.index));
    }
}

struct Numbers {
    count: usize,
    log: Arc<Log>,
    /// What goes wrong, once each.
    mishaps: Mutex<Vec<(usize, bool)>>,
}

impl LoadBlocks for Numbers {
    type Block = Block;

    fn block_count(&self) -> usize {
        self.count
    }

    fn size(&self, _: usize) -> BlockSize {
        self.log.looks.fetch_add(1, Ordering::Relaxed);
        BlockSize { stored_bytes: 5, resident_bytes: BLOCK_BYTES }
    }

    fn load(&self, index: usize) -> Computed<Block> {
        let mut mishaps = self.mishaps.lock().unwrap();
        if let Some(place) = mishaps.iter().position(|(at, _)| *at == index) {
            let (_, panics) = mishaps.remove(place);
            drop(mishaps);
            assert!(!panics, "deliberate");
            return Err(StageFailure::Panicked { message: "no such block".into() });
        }
        self.log.add(Happened::Loaded(index));
        Ok(Block { index, log: self.log.clone() })
    }
}

struct Rig {
    feed: Option<BlockFeed<Block>>,
    thread: Option<StageThread>,
    log: Arc<Log>,
    ledger: MemoryLedger,
    count: usize,
}

impl Rig {
    fn new(count: usize, budget_bytes: u64, settings: LoaderSettings) -> Self {
        Self::with_mishaps(count, budget_bytes, settings, &[])
    }

    fn with_mishaps(
        count: usize,
        budget_bytes: u64,
        settings: LoaderSettings,
        mishaps: &[(usize, bool)],
    ) -> Self {
        let (log, ledger) = (Arc::<Log>::default(), MemoryLedger::new(budget_bytes));
        let blocks = Numbers { count, log: log.clone(), mishaps: Mutex::new(mishaps.to_vec()) };
        let channels = LoaderChannels {
            inbox: bounded("inbox", LoaderChannels::<Block>::INBOX_CAPACITY),
            deliveries: bounded("deliveries", LoaderChannels::<Block>::DELIVERY_CAPACITY),
        };
        let owner = LoaderOf::StditWorker(0);
        let (loader, feed) = BlockLoader::new(owner, blocks, settings, &ledger, channels);
        let thread = Some(StageThread::spawn(loader).unwrap());
        Self { feed: Some(feed), thread, log, ledger, count }
    }

    fn feed(&mut self) -> &mut BlockFeed<Block> {
        self.feed.as_mut().unwrap()
    }

    /// One whole sweep, with the lease that a stage would hold.
    fn sweep(&mut self) {
        for index in 0..self.count {
            assert_eq!(self.feed().acquire(index).unwrap().index, index);
        }
    }

    fn end(&mut self) {
        drop(self.feed.take());
        self.thread.take().unwrap().join();
    }
}

fn settings(read_ahead: usize, retain: bool, across_sweeps: bool) -> LoaderSettings {
    LoaderSettings {
        read_ahead,
        retain,
        sharers: NonZeroUsize::MIN,
        across_sweeps,
        read_limit: None,
    }
}

#[test]
fn the_next_block_is_loaded_while_one_is_in_hand_and_no_other() {
    let mut rig = Rig::new(5, 1000, settings(1, false, false));
    for index in 0..5 {
        let block = rig.feed().acquire(index).unwrap();
        if index < 4 {
            rig.log.wait_for(index + 1, 1);
        }
        // Two blocks in memory at the most: so the one after the next waits for this one.
        let loads = rig.log.loads();
        assert!(loads <= index + 2, "{loads} loads with block {index} in hand");
        drop(block);
    }
    rig.end();
    assert_eq!(rig.ledger.observe().total_bytes(), 0);
    assert!(rig.ledger.observe().peak_bytes <= BLOCK_BYTES, "one block is the lease's");
}

#[test]
fn without_reading_ahead_each_block_is_loaded_after_the_one_before_is_gone() {
    use Happened::{Dropped, Loaded};
    let mut rig = Rig::new(3, 1000, settings(0, false, false));
    rig.sweep();
    rig.end();
    let expected = [Loaded(0), Dropped(0), Loaded(1), Dropped(1), Loaded(2), Dropped(2)];
    assert_eq!(rig.log.events(), expected);
}

#[test]
fn a_loader_without_memory_to_read_ahead_waits_for_the_block_in_hand_without_trying_again() {
    let mut rig = Rig::new(3, BLOCK_BYTES / 2, settings(1, true, true));
    let block = rig.feed().acquire(0).unwrap();
    // Long enough for thousands of tries; on a slow machine there are fewer.
    std::thread::sleep(Duration::from_millis(50));
    let looks = rig.log.looks.load(Ordering::Relaxed);
    assert!(looks < 100, "it looked {looks} times");
    drop(block);
    assert_eq!(rig.feed().acquire(1).unwrap().index, 1);
    rig.end();
}

#[test]
fn no_block_is_read_twice_in_a_sweep_and_kept_ones_not_again() {
    for room in 1..=7u64 {
        // A block that is read ahead takes its place, unless all are kept.
        let kept = if room < 6 { room - 1 } else { 6 };
        let budget = budget_to_fill(room * BLOCK_BYTES);
        let mut rig = Rig::new(6, budget, settings(1, true, false));
        for sweep in 1..=4 {
            rig.sweep();
            let again = (6 - kept as usize) * (sweep - 1);
            assert_eq!(rig.log.loads(), 6 + again, "{kept} kept, sweep {sweep}");
        }
        let probe = rig.feed().probe().observe();
        assert_eq!((probe.loads, probe.read_bytes), (6 + 3 * (6 - kept), 5 * (6 + 3 * (6 - kept))));
        assert_eq!((probe.hits, probe.swept_bytes), (3 * kept, probe.read_bytes));
        assert_eq!(rig.ledger.observe().of(MemoryUse::Retained), kept * BLOCK_BYTES);
        assert!(rig.ledger.observe().peak_bytes <= budget);
        rig.end();
        assert_eq!(rig.ledger.observe().total_bytes(), 0);
    }
}

#[test]
fn when_memory_gets_short_kept_blocks_go_those_chosen_last_first() {
    let mut rig = Rig::new(4, 5 * BLOCK_BYTES, settings(1, true, false));
    rig.sweep();
    rig.sweep();
    assert_eq!(rig.log.loads(), 4);
    rig.ledger.set_budget(2 * BLOCK_BYTES);
    let dropped: Vec<_> =
        rig.log.events().into_iter().filter(|e| matches!(e, Happened::Dropped(_))).collect();
    let order = retention_order(4);
    assert_eq!(dropped, [Happened::Dropped(order[3]), Happened::Dropped(order[2])]);
    rig.sweep();
    assert!(rig.ledger.observe().total_bytes() <= 2 * BLOCK_BYTES);
    // Down to the one block of the lease.
    rig.ledger.set_budget(0);
    rig.sweep();
    assert_eq!(rig.ledger.observe().total_bytes(), 0);
    rig.ledger.set_budget(5 * BLOCK_BYTES);
    rig.sweep();
    let loads = rig.log.loads();
    rig.sweep();
    assert_eq!(rig.log.loads(), loads);
    rig.end();
}

#[test]
fn the_next_sweep_s_blocks_are_read_before_it_begins_and_given_back_at_rest() {
    let mut rig = Rig::new(3, 1000, settings(1, false, true));
    rig.sweep();
    rig.log.wait_for(1, 2);
    assert_eq!(rig.log.loads(), 5);
    rig.feed().rest();
    assert_eq!(rig.ledger.observe().total_bytes(), 0);
    rig.sweep();
    rig.end();
    let loaded = rig.log.loads();
    let events = rig.log.events();
    assert_eq!(events.iter().filter(|e| matches!(e, Happened::Dropped(_))).count(), loaded);
}

#[test]
fn a_failed_load_fails_its_sweep_and_the_next_one_tries_again() {
    let mut rig = Rig::with_mishaps(3, 1000, settings(1, true, true), &[(1, false), (2, true)]);
    assert!(rig.feed().acquire(0).is_ok());
    let failure = rig.feed().acquire(1).err().unwrap();
    assert!(failure.to_string().contains("no such block"), "{failure}");
    assert!(rig.feed().acquire(0).is_ok() && rig.feed().acquire(1).is_ok());
    let failure = rig.feed().acquire(2).err().unwrap();
    assert!(failure.to_string().contains("deliberate"), "{failure}");
    rig.sweep();
    rig.end();
    assert_eq!(rig.ledger.observe().total_bytes(), 0);
}

#[test]
fn a_sweep_that_is_left_early_leaves_nothing_in_the_way() {
    let mut rig = Rig::new(8, 20, settings(1, false, true));
    for left_at in [1, 5, 0, 7] {
        for index in 0..left_at {
            rig.feed().acquire(index).unwrap();
        }
        rig.sweep();
    }
    rig.feed().rest();
    assert_eq!(rig.ledger.observe().total_bytes(), 0);
    rig.end();
}

#[test]
fn bytes_of_sweeps_do_not_count_what_is_read_ahead_or_left_early() {
    let mut rig = Rig::new(8, 1000, settings(1, false, true));
    rig.sweep();
    // The first blocks of the next sweep.
    rig.log.wait_for(1, 2);
    assert_eq!(rig.feed().probe().observe().swept_bytes, 8 * 5);
    rig.feed().acquire(0).unwrap();
    rig.sweep();
    assert_eq!(rig.feed().probe().observe().swept_bytes, 2 * 8 * 5);
    rig.end();
}

#[test]
fn a_loader_that_is_gone_is_an_error_and_no_wait() {
    let (inbox, _) = bounded("inbox", 20);
    let (deliveries, feed_end) = bounded("deliveries", 1);
    drop(deliveries);
    let probe = probe::LoaderProbe::new(LoaderOf::VaeDecoder);
    let mut feed = BlockFeed::<Block>::new(2, inbox, feed_end, probe);
    assert!(matches!(feed.acquire(0), Err(StageFailure::StageDied { .. })));
    feed.rest();
}
