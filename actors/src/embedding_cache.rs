//! Embeddings of texts that were seen before, so that they skip the text encoder.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compute::EmbeddedPrompt;
use crate::memory::{KeptFor, MemoryLedger, MemoryPermit, MemoryUse, Reclaim};

/// The most that is kept. Our choice: a dozen of the longest prompts of Open-Sora's text encoder, and not much beside one
/// of its blocks.
const MOST_BYTES: u64 = 64 << 20;

/// The texts used last by their captions, as far as memory is to spare; the ledger may take them back.
pub(crate) struct EmbeddingCache {
    ledger: MemoryLedger,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What was used last comes last.
    entries: Mutex<VecDeque<Entry>>,
}

struct Entry {
    prompt: EmbeddedPrompt,
    permit: MemoryPermit,
}

impl EmbeddingCache {
    pub(crate) fn new(ledger: MemoryLedger) -> Self {
        let kept = Arc::<Kept>::default();
        let holder: Arc<dyn Reclaim> = kept.clone();
        ledger.register(KeptFor::Embedding, Arc::downgrade(&holder));
        Self { ledger, kept }
    }

    pub(crate) fn get(&self, caption: &str) -> Option<EmbeddedPrompt> {
        let mut entries = self.kept.lock();
        let place = entries.iter().position(|entry| entry.prompt.caption == caption)?;
        let entry = entries.remove(place)?;
        let prompt = entry.prompt.clone();
        entries.push_back(entry);
        Some(prompt)
    }

    pub(crate) fn keep(&self, prompt: &EmbeddedPrompt) {
        let bytes = size_bytes(prompt);
        if bytes > MOST_BYTES || self.get(&prompt.caption).is_some() {
            return;
        }
        self.kept.make_room(MOST_BYTES - bytes);
        // Taken outside of the lock: the ledger may ask for what is kept here.
        let permit = self.ledger.try_reserve_spare(MemoryUse::Embeddings, bytes);
        if let Some(permit) = permit {
            let prompt = prompt.clone();
            self.kept.lock().push_back(Entry { prompt, permit });
        }
    }
}

impl Kept {
    /// Lets go of what was used longest ago until no more than `bytes` are kept.
    fn make_room(&self, bytes: u64) {
        let mut entries = self.lock();
        while entries.iter().map(|entry| entry.permit.bytes()).sum::<u64>() > bytes {
            entries.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reclaim for Kept {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut entries = self.lock();
        let mut freed = 0;
        while freed < bytes {
            let Some(entry) = entries.pop_front() else { break };
            freed += entry.permit.bytes();
        }
        freed
    }
}

fn size_bytes(prompt: &EmbeddedPrompt) -> u64 {
    let embedding = &prompt.embedding;
    let numbers = embedding.values.len() + embedding.token_ids.len();
    (size_of::<f32>() * numbers + embedding.mask.len() + prompt.caption.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::PromptEmbedding;

    fn prompt(caption: &str, values: usize) -> EmbeddedPrompt {
        let embedding = PromptEmbedding {
            format_version: PromptEmbedding::FORMAT_VERSION,
            token_ids: vec![1],
            mask: vec![1],
            shape: [1, values],
            values: vec![0.5; values],
        };
        EmbeddedPrompt { caption: caption.into(), embedding, cut: None }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = EmbeddingCache::new(MemoryLedger::unlimited());
        let third = MOST_BYTES as usize / 4 / 3 - 100;
        for key in ["a", "b", "c"] {
            cache.keep(&prompt(key, third));
        }
        assert_eq!(cache.get("a"), Some(prompt("a", third)));
        cache.keep(&prompt("d", third));
        assert!(cache.get("b").is_none());
        assert!(["c", "a", "d"].iter().all(|key| cache.get(key).is_some()));
        let used = cache.ledger.observe().of(MemoryUse::Embeddings);
        assert!(used <= MOST_BYTES && used > MOST_BYTES * 9 / 10);
        cache.keep(&prompt("huge", MOST_BYTES as usize / 4 + 1));
        assert!(cache.get("huge").is_none() && cache.get("d").is_some());
    }

    #[test]
    fn nothing_is_kept_at_the_cost_of_work() {
        let ledger = MemoryLedger::new(10_000);
        let cache = EmbeddingCache::new(ledger.clone());
        cache.keep(&prompt("a", 1000));
        cache.keep(&prompt("b", 1000));
        let work = ledger.try_reserve(MemoryUse::Working, 5_000);
        assert!(work.is_some() && cache.get("a").is_none() && cache.get("b").is_some());
        cache.keep(&prompt("c", 1000));
        assert!(cache.get("c").is_none());
        drop((work, cache));
        assert_eq!(ledger.observe().total_bytes(), 0);
    }
}
