//! Videos that were begun and are not in the graph: which is next, and which must be there alone.
//!
//! A video can end the process, as when it takes more memory than the system has. All that were in the graph with it look
//! alike to the next process. So a video that was taken up several times without any work on it being saved is made alone,
//! where another end of the process is its own doing, and at last not at all. Any save clears it of suspicion, and so does
//! a process that ends in order. Each process makes another video first, if one waits: so those are made, too, however
//! often a suspect ends the process.

use std::collections::VecDeque;

use crate::server::store::VideoRecord;

/// So many processes that ended without a save may have been ended by something else. Our choice: one power failure, and one
/// more while it starts.
const ALONE_AFTER: u32 = 2;

/// After so many a video fails. Our choice: far more than chance explains. It was alone in nearly all of them, and nothing of it
/// was saved in any. A healthy video whose process is killed every few seconds got to six in a row before its first save;
/// and others are made meanwhile, since each process makes one of them first.
const MOST_ATTEMPTS: u32 = 50;

/// Who is next.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// This one, which this process took up before.
    Again(VideoRecord),
    /// This one, which an earlier process began.
    Begun(VideoRecord),
    /// This one ended all processes that took it up.
    Crashed(VideoRecord),
    /// Nobody until the graph is empty.
    Wait,
    /// Whoever is first in the queue.
    Queue,
}

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    begun: VecDeque<VideoRecord>,
    again: VecDeque<VideoRecord>,
    /// Whether what is in the graph must be there alone.
    is_alone: bool,
    /// Whether this process made a video.
    has_made: bool,
}

impl Line {
    /// Of what an earlier process began.
    pub(super) fn new(begun: Vec<VideoRecord>) -> Self {
        Self { begun: begun.into(), again: VecDeque::new(), is_alone: false, has_made: false }
    }

    /// A video is to be tried again.
    pub(super) fn put_back(&mut self, record: VideoRecord) {
        self.again.push_back(record);
    }

    /// What an earlier process began was not taken up after all.
    pub(super) fn put_back_begun(&mut self, record: VideoRecord) {
        self.begun.push_front(record);
    }

    /// A video was made.
    pub(super) fn made(&mut self) {
        self.has_made = true;
    }

    /// Who is next, with so many in the graph; `is_queue_empty` where it is known that nobody waits there.
    pub(super) fn next(&mut self, in_graph: usize, is_queue_empty: bool) -> Turn {
        if in_graph == 0 {
            self.is_alone = false;
        } else if self.is_alone {
            return Turn::Wait;
        }
        for suspects in [false, true] {
            let is_next = |record: &VideoRecord| (record.attempts >= ALONE_AFTER) == suspects;
            let again = self.again.iter().position(is_next);
            let begun = self.begun.iter().position(is_next);
            if suspects && (again.is_some() || begun.is_some()) {
                if !(self.has_made || is_queue_empty) {
                    return Turn::Queue;
                }
                if in_graph > 0 {
                    return Turn::Wait;
                }
            }
            if let Some(record) = again.and_then(|place| self.again.remove(place)) {
                self.is_alone = suspects;
                return Turn::Again(record);
            }
            if let Some(record) = begun.and_then(|place| self.begun.remove(place)) {
                if record.attempts >= MOST_ATTEMPTS {
                    return Turn::Crashed(record);
                }
                self.is_alone = suspects;
                return Turn::Begun(record);
            }
        }
        Turn::Queue
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::server::store::tests::record;

    fn attempted(attempts: u32) -> VideoRecord {
        VideoRecord { attempts, ..record() }
    }

    #[test]
    fn those_that_may_have_ended_a_process_go_last_and_alone() {
        let [suspect, innocent] = [2, 1].map(attempted);
        let mut line = Line::new(vec![suspect.clone(), innocent.clone()]);
        assert_eq!(line.next(0, true), Turn::Begun(innocent.clone()));
        assert_eq!(line.next(1, true), Turn::Wait, "the graph is not empty");
        assert_eq!(line.next(0, true), Turn::Begun(suspect.clone()));
        line.put_back(innocent.clone());
        assert_eq!(line.next(1, true), Turn::Wait, "the suspect is there alone");
        assert_eq!(line.next(0, true), Turn::Again(innocent.clone()));
        assert_eq!(line.next(1, false), Turn::Queue);
        line.put_back_begun(suspect.clone());
        line.put_back_begun(innocent.clone());
        assert_eq!(line.next(0, true), Turn::Begun(innocent));
        assert_eq!(line.next(0, true), Turn::Begun(suspect));
    }

    #[test]
    fn who_ends_every_process_keeps_nobody_in_the_queue_from_being_made() {
        let suspect = attempted(ALONE_AFTER);
        let mut line = Line::new(vec![suspect.clone()]);
        for in_graph in 0..3 {
            assert_eq!(line.next(in_graph, false), Turn::Queue, "{in_graph}");
        }
        line.made();
        assert_eq!(line.next(1, false), Turn::Wait, "it gets its turn although others wait");
        assert_eq!(line.next(0, false), Turn::Begun(suspect.clone()));
        // Where nobody waits, there is nothing to make before it.
        assert_eq!(Line::new(vec![suspect.clone()]).next(0, true), Turn::Begun(suspect));
    }

    #[test]
    fn who_ends_every_process_fails_at_last_and_only_then() {
        for attempts in 0..MOST_ATTEMPTS + 2 {
            let video = attempted(attempts);
            let expected = match attempts {
                0..MOST_ATTEMPTS => Turn::Begun(video.clone()),
                _ => Turn::Crashed(video.clone()),
            };
            let mut line = Line::new(vec![video]);
            assert_eq!(line.next(0, true), expected, "{attempts}");
        }
        // Held up by the server's own failures, it is tried as often as it takes.
        let mut line = Line::new(Vec::new());
        line.put_back(attempted(MOST_ATTEMPTS + 1));
        assert!(matches!(line.next(0, true), Turn::Again(_)));
    }
}
