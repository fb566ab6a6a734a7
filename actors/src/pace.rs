//! How fast the stages may go: not at all while an app is in the background, with rests while the machine is hot.
//!
//! A stage does its work in *turns*: a block for one token, a step's beginning and end, some frames. Between two turns it
//! looks here. So a pause takes effect after one turn, and neither it nor a rest can change what is computed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sora_models::device_work::begin_work;

/// How much of the time the stages work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// All of it.
    #[default]
    Full,
    /// Half of it: each turn is followed by a rest as long as itself.
    Half,
    /// A fifth of it: the rest is four times as long.
    Fifth,
}

impl Load {
    /// How long a stage rests after it has worked for so long.
    pub fn rest_after(self, worked: Duration) -> Duration {
        match self {
            Self::Full => Duration::ZERO,
            Self::Half => worked,
            Self::Fifth => worked.saturating_mul(4),
        }
    }
}

/// The pace of one graph. Clones share it.
#[derive(Clone, Default)]
pub struct Pace {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    paused: bool,
    load: Load,
    /// The graph is to end: nothing is held up any more.
    lifted: bool,
    /// Turns under way.
    turns: usize,
}

impl State {
    fn holds(&self) -> bool {
        self.paused && !self.lifted
    }
}

impl Pace {
    /// Lets no turn begin from now on; those under way end. Jobs keep their places and their memory.
    pub fn pause(&self) {
        self.change(|state| state.paused = true);
    }

    /// Goes on after [`Pace::pause`].
    pub fn resume(&self) {
        self.change(|state| state.paused = false);
    }

    /// Whether turns are held up.
    pub fn is_paused(&self) -> bool {
        self.lock().holds()
    }

    /// Changes how much of the time the stages work; rests under way end.
    pub fn set_load(&self, load: Load) {
        self.change(|state| state.load = load);
    }

    /// Ends every pause and rest for good, so that a graph that is to end can.
    pub fn lift(&self) {
        self.change(|state| state.lifted = true);
    }

    /// Waits until a pause has taken effect: `true` when no turn is under way, `false` when the pause was ended meanwhile.
    pub fn wait_until_still(&self) -> bool {
        let state = self.lock();
        let state = self.wait_while(state, |state| state.holds() && state.turns > 0);
        state.holds()
    }

    /// Begins a turn, waiting while the graph is paused. A thread has one turn at a time.
    pub fn turn(&self) -> Turn {
        self.begin();
        Turn { pace: self.clone(), began: Instant::now(), under_way: true }
    }

    fn begin(&self) {
        let mut state = self.wait_while(self.lock(), |state| state.holds());
        state.turns += 1;
        drop(state);
        // What a device failed on before is nothing of this turn's.
        begin_work();
    }

    fn end(&self) {
        self.change(|state| state.turns -= 1);
    }

    fn rest(&self, worked: Duration) {
        let mut state = self.lock();
        let load = state.load;
        let until = load.rest_after(worked);
        let rested = Instant::now();
        while let Some(left) = until.checked_sub(rested.elapsed()).filter(|left| !left.is_zero()) {
            if state.load != load || state.lifted {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        mut condition: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.shared.changed.wait_while(state, |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work under way. Dropping it ends it, and rests as long as the load demands.
pub struct Turn {
    pace: Pace,
    began: Instant,
    under_way: bool,
}

impl Turn {
    /// Ends this turn, waits for something that is no work, and begins the next one.
    pub fn wait_between<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let worked = self.leave();
        let outcome = wait();
        self.pace.rest(worked);
        self.pace.begin();
        (self.began, self.under_way) = (Instant::now(), true);
        outcome
    }

    /// Ends the turn, and says how long it took.
    fn leave(&mut self) -> Duration {
        if std::mem::take(&mut self.under_way) {
            self.pace.end();
        }
        self.began.elapsed()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What was waited for between two turns may have panicked.
        if self.under_way {
            let worked = self.leave();
            self.pace.rest(worked);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn rests_are_in_proportion_to_work() {
        let worked = Duration::from_millis(30);
        let rests = [Load::Full, Load::Half, Load::Fifth].map(|load| load.rest_after(worked));
        assert_eq!(rests, [0, 30, 120].map(Duration::from_millis));
        assert_eq!(Load::Fifth.rest_after(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn a_pause_is_still_when_the_last_turn_has_ended_and_holds_the_next_one() {
        let pace = Pace::default();
        let turn = pace.turn();
        pace.pause();
        let (told, still) = mpsc::channel();
        let waiting = pace.clone();
        let waiter = thread::spawn(move || told.send(waiting.wait_until_still()));
        assert!(still.try_recv().is_err(), "a turn is under way");
        drop(turn);
        assert!(still.recv().unwrap());
        waiter.join().unwrap().unwrap();

        let (began, beginning) = mpsc::channel();
        let worker = pace.clone();
        let worker = thread::spawn(move || {
            let _turn = worker.turn();
            began.send(()).unwrap();
        });
        assert!(beginning.try_recv().is_err(), "a turn began in a pause");
        pace.resume();
        beginning.recv().unwrap();
        worker.join().unwrap();
        assert!(!pace.wait_until_still(), "nothing is paused");
    }

    #[test]
    fn a_lifted_pace_holds_nothing_and_rests_no_more() {
        let pace = Pace::default();
        pace.pause();
        pace.set_load(Load::Fifth);
        pace.lift();
        pace.pause();
        let mut turn = pace.turn();
        // Without the lift this rest would outlast everything.
        turn.began = turn.began.checked_sub(Duration::from_secs(3600)).unwrap_or(turn.began);
        turn.wait_between(|| ());
        assert!(!pace.is_paused());
    }

    #[test]
    fn whoever_waits_between_turns_does_not_work() {
        let pace = Pace::default();
        let mut turn = pace.turn();
        turn.wait_between(|| {
            pace.pause();
            assert!(pace.wait_until_still());
            pace.resume();
        });
        let broken = std::panic::AssertUnwindSafe(|| turn.wait_between(|| panic!("deliberate")));
        assert!(std::panic::catch_unwind(broken).is_err());
        drop(turn);
        pace.pause();
        assert!(pace.wait_until_still(), "a turn was counted twice");
    }

    #[test]
    fn another_load_ends_a_rest() {
        let pace = Pace::default();
        pace.set_load(Load::Fifth);
        let resting = pace.clone();
        let (ended, end) = mpsc::channel();
        let rest = thread::spawn(move || {
            let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
            let mut turn = resting.turn();
            turn.began = long_ago.unwrap_or(turn.began);
            drop(turn);
            ended.send(()).unwrap();
        });
        // Whether the rest has begun by now or not, it ends.
        pace.set_load(Load::Full);
        end.recv().unwrap();
        rest.join().unwrap();
    }
}
