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
    /// `false` when the receiver is gone. Sending never waits: there is a place for each token, and for the rest.
    pub(crate) fn send(&self, item: RingItem<A>) -> bool {
        match self {
            Self::Worker(next) => next.send(item).is_ok(),
            Self::Controller(inbox) => inbox.send(ControllerInput::FromRing(item)).is_ok(),
        }
    }
}

/// Takes every token that waits through its span of blocks in one sweep, and sends them on.
pub struct StditWorker<S: BlockSpan> {
    core: StageCore,
    span: S,
    tokens: Receiver<RingItem<S::Activation>>,
    next: RingHop<S::Activation>,
    /// The tokens at hand: kept here, so that a panic does not lose them.
    sweeping: Vec<Token<S::Activation>>,
    /// Whether a rest came behind them.
    resting: bool,
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
        Self { core, span, tokens, next, sweeping: Vec::new(), resting: false }
    }

    /// Waits for a token and takes all others that are there, up to a rest; `false` when there will be none.
    fn gather(&mut self) -> bool {
        if self.sweeping.is_empty() && !self.resting {
            let Some(first) = self.tokens.recv() else { return false };
            self.take(first);
        }
        while !self.resting {
            let Some(next) = self.tokens.try_recv() else { break };
            self.take(next);
        }
        true
    }

    fn take(&mut self, item: RingItem<S::Activation>) {
        match item {
            RingItem::Token(token) => self.sweeping.push(token),
            RingItem::Rest => self.resting = true,
        }
    }
}

impl<S: BlockSpan> Stage for StditWorker<S> {
    fn core(&self) -> &StageCore {
        &self.core
    }

    fn run(&mut self) {
        while self.gather() {
            let tokens = self.sweeping.len();
            self.core.metrics().items_in(tokens);
            sweep(&self.core, &mut self.span, &mut self.sweeping);
            for token in self.sweeping.drain(..) {
                if self.next.send(RingItem::Token(token)) {
                    self.core.metrics().items_out(1);
                }
            }
            if std::mem::take(&mut self.resting) {
                self.span.rest();
                self.next.send(RingItem::Rest);
            }
        }
    }
}
