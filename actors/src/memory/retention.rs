//! Which blocks to keep when not all fit.
//!
//! Blocks are used one after the other, sweep after sweep. A cache that keeps what was used last keeps nothing then: each
//! block is thrown out just before it is needed again. The best that any policy can do is to keep a fixed set: for each
//! block kept, one load a sweep is saved, and a block can only be found in memory if it was kept all the way round.
//!
//! Any fixed set saves as many loads. The one chosen here is spread evenly over the sweep: a load can hide behind the
//! computation of the blocks before it only as far as memory for blocks read ahead reaches, so kept blocks do most good
//! between those that are loaded. (The paper keeps the first blocks; then the loads of all others come in one row.)

/// Blocks in the order in which they are chosen to be kept: the first `r` of them are spread evenly, for every `r`.
///
/// # Source
/// Our choice: the van der Corput sequence, which halves the largest gaps in turn.
pub fn retention_order(blocks: usize) -> Vec<usize> {
    let bits = usize::BITS - blocks.saturating_sub(1).leading_zeros();
    let mirrored = |index: usize| match bits {
        0 => 0,
        bits => index.reverse_bits() >> (usize::BITS - bits),
    };
    (0..1usize << bits).map(mirrored).filter(|&block| block < blocks).collect()
}

/// For each block its place in [`retention_order`].
pub fn retention_ranks(blocks: usize) -> Vec<usize> {
    let mut ranks = vec![0; blocks];
    for (rank, block) in retention_order(blocks).into_iter().enumerate() {
        ranks[block] = rank;
    }
    ranks
}

/// How many blocks may be kept, with `kept` kept already, when `free_bytes` are free and `ahead_bytes` of them will be
/// needed for blocks that are read ahead.
pub fn retention_target(kept: usize, block_bytes: u64, free_bytes: u64, ahead_bytes: u64) -> usize {
    let more = free_bytes.saturating_sub(ahead_bytes) / block_bytes.max(1);
    kept.saturating_add(usize::try_from(more).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Loads of Belady's policy, which knows the future: of the blocks in memory and the one just used, that one goes
    /// which is needed last.
    fn belady_loads(accesses: &[usize], capacity: usize) -> usize {
        let mut cache = BTreeSet::new();
        let mut loads = 0;
        for (now, block) in accesses.iter().enumerate() {
            if !cache.contains(block) {
                loads += 1;
                cache.insert(*block);
            }
            if cache.len() > capacity {
                let next_use = |block: &usize| accesses[now + 1..].iter().position(|b| b == block);
                let last = cache.iter().copied().max_by_key(|b| next_use(b).unwrap_or(usize::MAX));
                cache.remove(&last.unwrap_or_default());
            }
        }
        loads
    }

    fn fixed_set_loads(accesses: &[usize], kept: &[usize]) -> usize {
        let mut loaded = BTreeSet::new();
        accesses.iter().filter(|block| !kept.contains(block) || loaded.insert(**block)).count()
    }

    fn recently_used_loads(accesses: &[usize], capacity: usize) -> usize {
        let mut recent: Vec<usize> = Vec::new();
        let mut loads = 0;
        for &block in accesses {
            match recent.iter().position(|&other| other == block) {
                Some(place) => drop(recent.remove(place)),
                None => loads += 1,
            }
            recent.push(block);
            if recent.len() > capacity {
                recent.remove(0);
            }
        }
        loads
    }

    #[test]
    fn a_fixed_set_is_as_good_as_knowing_the_future() {
        for blocks in 1..12 {
            let sweeps = 6;
            let accesses: Vec<_> = (0..sweeps).flat_map(|_| 0..blocks).collect();
            for capacity in 0..=blocks {
                let kept = &retention_order(blocks)[..capacity];
                let loads = fixed_set_loads(&accesses, kept);
                assert_eq!(loads, blocks + (sweeps - 1) * (blocks - capacity));
                assert_eq!(loads, belady_loads(&accesses, capacity), "{capacity} of {blocks}");
                if capacity < blocks {
                    assert_eq!(recently_used_loads(&accesses, capacity), sweeps * blocks);
                }
            }
        }
    }

    #[test]
    fn kept_blocks_are_spread_evenly_and_sets_grow() {
        assert_eq!(retention_order(8), [0, 4, 2, 6, 1, 5, 3, 7]);
        for blocks in 0..70 {
            let order = retention_order(blocks);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..blocks).collect::<Vec<_>>());
            assert!(order.iter().zip(0..).all(|(&b, rank)| retention_ranks(blocks)[b] == rank));
            // As many gaps as kept blocks, none more than about twice as long as they would all be at best.
            for kept in 1..=blocks {
                let mut places = order[..kept].to_vec();
                places.sort_unstable();
                places.push(places[0] + blocks);
                let longest = places.windows(2).map(|pair| pair[1] - pair[0]).max();
                assert!(longest <= Some(2 * blocks.div_ceil(kept) + 1), "{kept} of {blocks}");
            }
        }
    }

    #[test]
    fn what_is_free_beyond_reading_ahead_is_kept() {
        assert_eq!(retention_target(3, 10, 45, 20), 5);
        assert_eq!(retention_target(3, 10, 15, 20), 3);
        assert_eq!(retention_target(0, 0, 5, 0), 5);
    }
}
