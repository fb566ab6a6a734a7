//! Permits, waiting, kept bytes and a budget that shrinks.

#![allow(clippy::unwrap_used)]

use super::*;

struct Kept(Mutex<Vec<MemoryPermit>>);

impl Reclaim for Kept {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut permits = self.0.lock().unwrap();
        let mut freed = 0;
        while freed < bytes {
            let Some(permit) = permits.pop() else { break };
            freed += permit.bytes();
        }
        freed
    }
}

/// Keeps something else, twice, with what it has just given back.
struct KeepsAgain {
    ledger: MemoryLedger,
    kept: Kept,
    again: Mutex<usize>,
}

impl Reclaim for KeepsAgain {
    fn reclaim(&self, bytes: u64) -> u64 {
        let freed = self.kept.reclaim(bytes);
        let mut again = self.again.lock().unwrap();
        if freed > 0 && *again > 0 {
            *again -= 1;
            let permit = self.ledger.try_reserve_spare(MemoryUse::Retained, freed);
            self.kept.0.lock().unwrap().extend(permit);
        }
        freed
    }
}

#[test]
fn kept_bytes_are_given_up_until_they_suffice_or_there_are_none() {
    let ledger = MemoryLedger::new(100);
    // Nobody gives it up, as nobody does what computes at the moment.
    let in_use = ledger.try_reserve_spare(MemoryUse::Retained, 10).unwrap();
    let permit = ledger.try_reserve_spare(MemoryUse::Retained, 50).unwrap();
    let kept = Kept(Mutex::new(vec![permit]));
    let holder = Arc::new(KeepsAgain { ledger: ledger.clone(), kept, again: Mutex::new(2) });
    let registered: Arc<dyn Reclaim> = holder.clone();
    ledger.register(KeptFor::Denoising, Arc::downgrade(&registered));
    assert!(ledger.try_reserve_unawaited(MemoryUse::Working, 100).is_none());
    assert!(holder.kept.0.lock().unwrap().is_empty());
    drop(in_use);
    let again = ledger.try_reserve_spare(MemoryUse::Retained, 60).unwrap();
    *holder.kept.0.lock().unwrap() = vec![again];
    *holder.again.lock().unwrap() = 2;
    assert!(ledger.try_reserve_unawaited(MemoryUse::Working, 60).is_some());
}

#[test]
fn nothing_is_given_up_in_vain() {
    let ledger = MemoryLedger::new(100);
    let kept = keep(&ledger, KeptFor::Denoising, &[10, 10, 10]);
    let work = ledger.try_reserve(MemoryUse::Working, 60).unwrap();
    assert!(ledger.try_reserve(MemoryUse::Working, 50).is_none());
    assert!(ledger.try_reserve_unawaited(MemoryUse::Working, 50).is_none());
    assert_eq!(kept.0.lock().unwrap().len(), 3);
    // Of what others wait for nothing is to be had either.
    ledger.shared.lock().awaited_bytes = 30;
    assert!(ledger.try_reserve_unawaited(MemoryUse::Working, 20).is_none());
    assert_eq!(kept.0.lock().unwrap().len(), 3);
    ledger.shared.lock().awaited_bytes = 0;
    assert!(ledger.try_reserve_unawaited(MemoryUse::Working, 20).is_some());
    assert_eq!(kept.0.lock().unwrap().len(), 2);
    drop(work);
}

fn keep(ledger: &MemoryLedger, kept_for: KeptFor, permits: &[u64]) -> Arc<Kept> {
    let permits =
        permits.iter().map(|&bytes| ledger.try_reserve_spare(MemoryUse::Retained, bytes).unwrap());
    let kept = Arc::new(Kept(Mutex::new(permits.collect())));
    let holder: Arc<dyn Reclaim> = kept.clone();
    ledger.register(kept_for, Arc::downgrade(&holder));
    kept
}

#[test]
fn permits_give_their_bytes_back_and_the_peak_stays() {
    let ledger = MemoryLedger::new(100);
    let mut first = ledger.try_reserve(MemoryUse::Working, 60).unwrap();
    assert!(ledger.try_reserve(MemoryUse::Ahead, 41).is_none());
    let second = ledger.try_reserve(MemoryUse::Ahead, 40).unwrap();
    assert!(!first.try_resize(61));
    assert!(first.try_resize(50) && first.try_resize(55));
    assert_eq!(ledger.observe().of(MemoryUse::Working), 55);
    drop((first, second));
    let observed = ledger.observe();
    assert_eq!((observed.total_bytes(), observed.peak_bytes), (0, 100));
}

#[test]
fn kept_bytes_make_room_for_work_the_least_worth_first() {
    let ledger = MemoryLedger::new(100);
    let transformer = keep(&ledger, KeptFor::Denoising, &[30, 10]);
    let embedder = keep(&ledger, KeptFor::Embedding, &[20, 20]);
    let work = ledger.try_reserve(MemoryUse::Working, 30).unwrap();
    assert_eq!(embedder.0.lock().unwrap().len(), 1);
    assert_eq!(transformer.0.lock().unwrap().len(), 2);
    drop(work);
    let _work = ledger.reserve(MemoryUse::Working, 70).unwrap();
    assert!(embedder.0.lock().unwrap().is_empty());
    assert_eq!(transformer.0.lock().unwrap().len(), 1);
    // Nothing is kept at the cost of something else.
    assert!(ledger.try_reserve_spare(MemoryUse::Retained, 1).is_none());
    assert_eq!(transformer.0.lock().unwrap().len(), 1);
}

#[test]
fn whoever_waits_gets_what_comes_back_and_nothing_is_kept_in_its_place() {
    let ledger = MemoryLedger::new(100);
    let work = ledger.try_reserve(MemoryUse::Working, 80).unwrap();
    let waiting = std::thread::spawn({
        let ledger = ledger.clone();
        move || ledger.reserve(MemoryUse::Working, 50).map(|permit| permit.bytes())
    });
    while ledger.shared.lock().awaited_bytes == 0 {
        std::thread::yield_now();
    }
    assert!(ledger.try_reserve_spare(MemoryUse::Retained, 1).is_none());
    drop(work);
    assert_eq!(waiting.join().unwrap(), Ok(50));
    assert_eq!(ledger.observe().total_bytes(), 0);
    assert!(ledger.try_reserve_spare(MemoryUse::Retained, 100).is_some());
}

/// Has nothing to give up when it is asked, and something right after it was asked the second time.
struct TooLate {
    ledger: MemoryLedger,
    kept: Kept,
    asked: Mutex<usize>,
}

impl Reclaim for TooLate {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        if *asked == 2 {
            self.ledger.tell_those_who_wait();
        }
        if *asked > 2 { self.kept.reclaim(bytes) } else { 0 }
    }
}

#[test]
fn whoever_is_about_to_wait_hears_of_what_became_reclaimable_meanwhile() {
    let ledger = MemoryLedger::new(100);
    let permit = ledger.try_reserve_spare(MemoryUse::Retained, 100).unwrap();
    let (kept, asked) = (Kept(Mutex::new(vec![permit])), Mutex::default());
    let holder: Arc<dyn Reclaim> = Arc::new(TooLate { ledger: ledger.clone(), kept, asked });
    ledger.register(KeptFor::Denoising, Arc::downgrade(&holder));
    let (reserved, reserving) = std::sync::mpsc::channel();
    std::thread::spawn(move || reserved.send(ledger.reserve(MemoryUse::Working, 50).is_ok()));
    let patience = std::time::Duration::from_secs(20);
    assert_eq!(reserving.recv_timeout(patience), Ok(true), "it waits for ever");
}

#[test]
fn what_can_never_fit_is_refused_also_when_the_budget_shrinks_meanwhile() {
    let ledger = MemoryLedger::new(100);
    let _base = ledger.try_reserve(MemoryUse::Base, 30).unwrap();
    let refused = ledger.reserve(MemoryUse::Working, 71).err().unwrap();
    assert_eq!(refused, OverBudget { needed_bytes: 71, base_bytes: 30, budget_bytes: 100 });
    let work = ledger.reserve(MemoryUse::Working, 70).unwrap();
    let waiting = std::thread::spawn({
        let ledger = ledger.clone();
        move || ledger.reserve(MemoryUse::Working, 60).err()
    });
    while ledger.shared.lock().awaited_bytes == 0 {
        std::thread::yield_now();
    }
    ledger.set_budget(80);
    assert_eq!(waiting.join().unwrap().unwrap().budget_bytes, 80);
    drop(work);
    assert!(ledger.reserve(MemoryUse::Working, 50).is_ok());
}

#[test]
fn a_smaller_budget_takes_kept_bytes_at_once() {
    let ledger = MemoryLedger::new(100);
    let kept = keep(&ledger, KeptFor::Denoising, &[10; 8]);
    assert!(!ledger.is_overdrawn());
    let work = ledger.try_reserve(MemoryUse::Working, 10).unwrap();
    ledger.set_budget(5);
    assert!(kept.0.lock().unwrap().is_empty() && ledger.is_overdrawn());
    drop(work);
    assert!(!ledger.is_overdrawn());
}

#[test]
fn a_smaller_budget_takes_no_more_kept_bytes_than_it_must() {
    let ledger = MemoryLedger::new(100);
    let kept = keep(&ledger, KeptFor::Denoising, &[10; 8]);
    ledger.set_budget(45);
    assert_eq!(kept.0.lock().unwrap().len(), 4);
    assert_eq!(ledger.bytes_to_keep(), 5 - unseen_bytes(45));
}

#[test]
fn a_budget_to_fill_is_the_smallest_that_leaves_so_many_bytes() {
    for bytes in [0, 1, 30, 31, 32, 63, 64, 1000, 3_300_000_000] {
        let budget = budget_to_fill(bytes);
        assert!(budget - unseen_bytes(budget) >= bytes, "{bytes}");
        assert!(budget == 0 || budget - 1 - unseen_bytes(budget - 1) < bytes, "{bytes}");
    }
}
