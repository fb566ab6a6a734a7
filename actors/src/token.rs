//! A job's turn on its way through blocks, and the sweep that takes several through together.

use std::sync::Arc;

use sora_telemetry::timeline;

use crate::compute::BlockSpan;
use crate::error::{StageError, StageFailure, StageName};
use crate::job::JobContext;

/// What goes round the ring for a job in flight: its activation, or why there is none any more. A token never gets
/// lost: failed and cancelled ones go round, too, without work being done on them.
pub struct Token<A> {
    job: Arc<JobContext>,
    state: Result<A, StageError>,
}

impl<A> Token<A> {
    /// A token for a job.
    pub fn new(job: Arc<JobContext>, activation: A) -> Self {
        Self { job, state: Ok(activation) }
    }

    /// Whose turn it is.
    pub fn job(&self) -> &Arc<JobContext> {
        &self.job
    }

    /// What came of it.
    ///
    /// # Errors
    /// A stage failed on it.
    pub fn into_activation(self) -> Result<A, StageError> {
        self.state
    }

    fn wants_work(&self) -> bool {
        self.state.is_ok() && !self.job.is_over()
    }

    pub(crate) fn fail(&mut self, stage: StageName, cause: Arc<StageFailure>) {
        // The first failure is the cause.
        if self.state.is_ok() {
            self.state = Err(StageError { stage, job: self.job.id(), cause });
        }
    }
}

/// Takes tokens through a span of blocks together: each block is brought into memory once for all of them, and each
/// token passes it by itself, so that its bits do not depend on its company.
pub fn sweep<S: BlockSpan>(
    core: &crate::stage::StageCore,
    span: &mut S,
    tokens: &mut [Token<S::Activation>],
) {
    for index in 0..span.block_count() {
        if !tokens.iter().any(Token::wants_work) {
            return;
        }
        // Waiting for weights is no work.
        let block = match core.guard(|| span.acquire(index)) {
            Ok(block) => block,
            Err(cause) => {
                for token in tokens {
                    token.fail(core.name(), cause.clone());
                }
                return;
            }
        };
        for token in tokens.iter_mut().filter(|token| token.wants_work()) {
            let _turn = core.turn();
            // It may have been cancelled in a pause.
            if token.job.is_over() {
                continue;
            }
            let Ok(activation) = &mut token.state else { continue };
            let _computing = timeline::compute_block(index, token.job.id().0);
            if let Err(cause) = core.compute(|| span.run(&block, activation)) {
                token.fail(core.name(), cause);
            }
        }
    }
}
