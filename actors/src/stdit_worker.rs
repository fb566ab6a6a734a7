//! The ring: each worker runs one span of the transformer's blocks.

use crate::channel::{Receiver, Sender};
use crate::compute::BlockSpan;
use crate::denoise_controller::ControllerInput;
use crate::error::StageName;
use crate::stage::{Stage, StageCore};
use crate::token::{Token, sweep};

/// What goes round the ring.
pub enum RingItem<A> {
    /// A job's turn.
    Token(Token<A>),
    /// The tokens since the last end go through the blocks together, as the sweep of this number.
    EndOfSweep(u64),
    /// No job is in flight any more: each worker gives back what it has read ahead.
    Rest,
}

/// Where tokens go next on the ring.
pub enum RingHop<A> {
    /// To a worker.
    Worker(Sender<RingItem<A>>),
    /// Back to the controller, from the last worker.
    Controller(Sender<ControllerInput<A>>),
}

impl<A> RingHop<A> {
    /// `false` when the receiver is gone. Sending never waits: there is a place for everything that can be on the ring.
    pub(crate) fn send(&self, item: RingItem<A>) -> bool {
        match self {
            Self::Worker(next) => next.send(item).is_ok(),
            Self::Controller(inbox) => inbox.send(ControllerInput::FromRing(item)).is_ok(),
        }
    }
}

/// Takes the tokens of a sweep through its span of blocks together, and sends them on.
pub struct StditWorker<S: BlockSpan> {
    core: StageCore,
    span: S,
    tokens: Receiver<RingItem<S::Activation>>,
    next: RingHop<S::Activation>,
    /// The tokens at hand: kept here, so that a panic does not lose them.
    sweeping: Vec<Token<S::Activation>>,
    /// Which sweep they are, when they are complete.
    due: Option<u64>,
}

impl<S: BlockSpan> StditWorker<S> {
    /// The worker of this index.
    pub fn new(
        index: usize,
        span: S,
        tokens: Receiver<RingItem<S::Activation>>,
        next: RingHop<S::Activation>,
    ) -> Self {
        let core = StageCore::new(StageName::StditWorker(index));
        Self { core, span, tokens, next, sweeping: Vec::new(), due: None }
    }

    fn sweep(&mut self, number: u64) {
        self.core.metrics().items_in(self.sweeping.len());
        sweep(&self.core, &mut self.span, &mut self.sweeping);
        while !self.sweeping.is_empty() {
            let token = self.sweeping.remove(0);
            if self.next.send(RingItem::Token(token)) {
                self.core.metrics().items_out(1);
            }
        }
        self.due = None;
        self.next.send(RingItem::EndOfSweep(number));
    }
}

impl<S: BlockSpan> Stage for StditWorker<S> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        loop {
            if let Some(number) = self.due {
                self.sweep(number);
            }
            match self.tokens.recv() {
                Some(RingItem::Token(token)) => self.sweeping.push(token),
                Some(RingItem::EndOfSweep(number)) => self.due = Some(number),
                Some(RingItem::Rest) => {
                    self.span.rest();
                    self.next.send(RingItem::Rest);
                }
                None => return,
            }
        }
    }
}
