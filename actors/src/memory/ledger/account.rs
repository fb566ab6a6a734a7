//! What the account tells: bytes by use.

use serde::Serialize;

/// What bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryUse {
    /// The program itself and the parts of the model that never leave memory.
    Base,
    /// A stage's working set: the block at work, the activations, what jobs carry along.
    Working,
    /// Blocks that were read ahead.
    Ahead,
    /// Blocks that stay in memory for the next sweep; the first to go when memory is short.
    Retained,
    /// Embeddings of prompts seen before.
    Embeddings,
}

impl MemoryUse {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Base, Self::Working, Self::Ahead, Self::Retained, Self::Embeddings];

    /// As metrics and tables name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Working => "working",
            Self::Ahead => "ahead",
            Self::Retained => "retained",
            Self::Embeddings => "embeddings",
        }
    }
}

/// What the account says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LedgerSnapshot {
    /// The budget.
    pub budget_bytes: u64,
    /// Bytes held, by [`MemoryUse::ALL`].
    pub used_bytes: [u64; MemoryUse::ALL.len()],
    /// The most that was ever held at a time.
    pub peak_bytes: u64,
}

impl LedgerSnapshot {
    /// Bytes held in all.
    pub fn total_bytes(&self) -> u64 {
        self.used_bytes.iter().sum()
    }

    /// Bytes held for one use.
    pub fn of(&self, purpose: MemoryUse) -> u64 {
        self.used_bytes[purpose as usize]
    }
}
