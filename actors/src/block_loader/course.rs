//! Which block is next: the loader's decisions, without threads, channels or disk.

/// How far a loader is on its way through the sweeps.
///
/// Sweeps are numbered as the stage that is served numbers them. With `ahead`, the loader goes on to the next sweep's blocks
/// before that sweep is asked for: the transformer's blocks are used in a cycle, so it nearly always comes.
#[derive(Debug)]
pub(super) struct Course {
    blocks: usize,
    ahead: bool,
    places: usize,
    free_places: usize,
    /// The latest sweep that was asked for.
    asked: u64,
    resting: bool,
    sweep: u64,
    index: usize,
}

impl Course {
    /// Through `blocks` blocks, with at most `places` deliveries that were not taken yet.
    pub(super) fn new(blocks: usize, places: usize, ahead: bool) -> Self {
        Self {
            blocks,
            ahead,
            places,
            free_places: places,
            asked: 0,
            resting: true,
            sweep: 1,
            index: 0,
        }
    }

    /// The next sweep and block to deliver; `None` while there is nothing to do, or no place for it.
    pub(super) fn next(&self) -> Option<(u64, usize)> {
        let wanted = self.sweep <= self.asked + u64::from(self.ahead);
        let some = !self.resting && wanted && self.free_places > 0 && self.blocks > 0;
        some.then_some((self.sweep, self.index))
    }

    /// The block that was next is on its way.
    pub(super) fn delivered(&mut self) {
        self.free_places -= 1;
        self.index += 1;
        if self.index == self.blocks {
            self.move_to(self.sweep + 1);
        }
    }

    /// The failure of the block that was next is on its way; nothing follows until another sweep begins.
    pub(super) fn failed(&mut self) {
        self.free_places -= 1;
        self.move_to(self.sweep + 1);
        self.resting = true;
    }

    pub(super) fn taken(&mut self) {
        self.free_places = (self.free_places + 1).min(self.places);
    }

    /// A sweep begins; one that was left early is over.
    pub(super) fn asked(&mut self, sweep: u64) {
        self.asked = sweep;
        self.resting = false;
        // What was read ahead for it stays valid.
        if self.sweep < sweep {
            self.move_to(sweep);
        }
    }

    /// Nothing is wanted for now, and all deliveries that were not taken are lost.
    pub(super) fn rest(&mut self) {
        self.resting = true;
        self.free_places = self.places;
        self.move_to(self.asked + 1);
    }

    fn move_to(&mut self, sweep: u64) {
        (self.sweep, self.index) = (sweep, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(course: &mut Course, count: usize) -> Vec<(u64, usize)> {
        let mut delivered = Vec::new();
        while delivered.len() < count {
            let Some(next) = course.next() else { break };
            delivered.push(next);
            course.delivered();
        }
        delivered
    }

    #[test]
    fn it_reads_ahead_into_the_next_sweep_as_far_as_places_allow() {
        let mut course = Course::new(3, 2, true);
        assert_eq!(course.next(), None);
        course.asked(1);
        assert_eq!(deliver(&mut course, 9), [(1, 0), (1, 1)]);
        course.taken();
        course.taken();
        assert_eq!(deliver(&mut course, 9), [(1, 2), (2, 0)]);
        course.taken();
        course.taken();
        assert_eq!(deliver(&mut course, 9), [(2, 1), (2, 2)]);
        course.taken();
        // A third sweep is too far ahead of the first.
        assert_eq!(course.next(), None);
        course.asked(2);
        assert_eq!(course.next(), Some((3, 0)));
    }

    #[test]
    fn without_reading_ahead_it_waits_for_the_next_sweep() {
        let mut course = Course::new(2, 4, false);
        course.asked(1);
        assert_eq!(deliver(&mut course, 9), [(1, 0), (1, 1)]);
        course.asked(2);
        assert_eq!(deliver(&mut course, 9), [(2, 0), (2, 1)]);
    }

    #[test]
    fn a_sweep_that_was_left_early_is_over_when_the_next_begins() {
        let mut course = Course::new(5, 9, true);
        course.asked(1);
        assert_eq!(deliver(&mut course, 2), [(1, 0), (1, 1)]);
        course.asked(2);
        assert_eq!(course.next(), Some((2, 0)));
    }

    #[test]
    fn after_a_failure_nothing_follows_until_another_sweep_begins() {
        let mut course = Course::new(3, 9, true);
        course.asked(1);
        deliver(&mut course, 1);
        course.failed();
        assert_eq!(course.next(), None);
        course.asked(2);
        assert_eq!(course.next(), Some((2, 0)));
        // A failure ahead of its sweep: that sweep finds it, and the one after it is tried anew.
        deliver(&mut course, 3);
        assert_eq!(course.next(), Some((3, 0)));
        course.failed();
        course.asked(3);
        assert_eq!(course.next(), Some((4, 0)));
    }

    #[test]
    fn resting_frees_all_places_and_forgets_what_was_read_ahead() {
        let mut course = Course::new(3, 4, true);
        course.asked(1);
        assert_eq!(deliver(&mut course, 9).len(), 4);
        course.rest();
        assert_eq!(course.next(), None);
        course.asked(2);
        assert_eq!(deliver(&mut course, 9), [(2, 0), (2, 1), (2, 2), (3, 0)]);
    }
}
