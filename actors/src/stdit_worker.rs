//! The ring: each worker runs one span of the transformer's blocks.

use crate::channel::{Receiver, Sender};
use crate::compute::BlockSpan;
use crate::denoise_controller::ControllerInput;
use crate::error::StageName;
use crate::stage::{Stage, StageCore};
use crate::token::{Token, sweep};

/// Where tokens go next on the ring.
pub enum RingHop<A> {
    /// To a worker.
    Worker(Sender<Token<A>>),
    /// Back to the controller, from the last worker.
    Controller(Sender<ControllerInput<A>>),
}

impl<A> RingHop<A> {
    /// `false` when the receiver is gone. Sending never waits: there is a place for each token.
    pub(crate) fn send(&self, token: Token<A>) -> bool {
        match self {
            Self::Worker(next) => next.send(token).is_ok(),
            Self::Controller(inbox) => inbox.send(ControllerInput::Token(token)).is_ok(),
        }
    }
}

/// Takes every token that waits through its span of blocks in one sweep, and sends them on.
pub struct StditWorker<S: BlockSpan> {
    core: StageCore,
    span: S,
    tokens: Receiver<Token<S::Activation>>,
    next: RingHop<S::Activation>,
    /// The tokens at hand: kept here, so that a panic does not lose them.
    sweeping: Vec<Token<S::Activation>>,
}

impl<S: BlockSpan> StditWorker<S> {
    /// The worker of this index.
    pub fn new(
        index: usize,
        span: S,
        tokens: Receiver<Token<S::Activation>>,
        next: RingHop<S::Activation>,
    ) -> Self {
        let core = StageCore::new(StageName::StditWorker(index));
        Self { core, span, tokens, next, sweeping: Vec::new() }
    }

    /// Waits for a token and takes all others that are there; `false` when there will be none.
    fn gather(&mut self) -> bool {
        if self.sweeping.is_empty() {
            let Some(first) = self.tokens.recv() else { return false };
            self.sweeping.push(first);
        }
        while let Some(next) = self.tokens.try_recv() {
            self.sweeping.push(next);
        }
        true
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
                if self.next.send(token) {
                    self.core.metrics().items_out(1);
                }
            }
        }
    }
}
