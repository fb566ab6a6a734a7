//! What the exit code says.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it worked.
    Done,
    /// Some of it did not.
    SomeFailed,
    /// What was asked for cannot be done; nothing was computed.
    BadInput,
    /// The user stopped it, or went away from its output.
    Interrupted,
}

impl Outcome {
    /// The exit code: that of a process ended by Ctrl-C is 128 + SIGINT, as shells have it.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::BadInput => 2,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}
