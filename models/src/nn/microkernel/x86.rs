//! The tile in vectors of AVX-512 and AVX2.

use std::arch::x86_64::{
    _MM_HINT_ET0, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::Tile;

/// How many channels ahead vectors are fetched. Our choice, measured: with a tile of 8 rows a channel takes 12 cycles, so
/// they are on their way for as long as an outer cache takes.
const CHANNELS_AHEAD: usize = 24;

/// Fetches the cache line of the first value; a processor that cannot fetch for writing passes over it.
pub(super) fn fetch_to_write(line: &[f32]) {
    // SAFETY: SSE is part of every processor of 64 bits, and fetching reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
}

/// The same loops for each width of vectors.
macro_rules! tile_function {
    ($name:ident, $features:literal, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $multiply_add:ident, $add:ident) => {
        /// # Safety
        /// The processor must have the features. Every channel must hold `VECTORS` vectors behind each tap, every
        /// row of the sums as many, and the scalars `ROWS` values for each channel and tap. With `SINGLE` there is one tap.
        #[target_feature(enable = $features)]
        #[allow(clippy::needless_range_loop)] // Builds for tests, too, unroll these; iterators they do not.
        pub(super) unsafe fn $name<const ROWS: usize, const VECTORS: usize, const SINGLE: bool>(
            tile: Tile,
        ) {
            let mut sums = [[$zero(); VECTORS]; ROWS];
            let mut scalars = tile.scalars.as_ptr();
            let mut next = tile.next.as_ptr();
            let next_step = tile.next.len().div_ceil(tile.channels);
            let (first_tap, taps) = tile.taps_from_the_first::<SINGLE>();
            let mut vectors = tile.vectors.as_ptr().wrapping_add(first_tap);
            for _ in 0..tile.channels {
                // Fetching reads nothing, so the addresses may be anywhere.
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(next_step);
                for vector in 0..VECTORS {
                    let ahead = CHANNELS_AHEAD.wrapping_mul(tile.channel_pitch);
                    let line = vectors.wrapping_add(ahead).wrapping_add(vector * $lanes);
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                for &tap in taps {
                    let mut values = [$zero(); VECTORS];
                    for vector in 0..VECTORS {
                        // SAFETY: the caller vouches for all vectors behind each tap of every channel.
                        values[vector] = unsafe { $load(vectors.add(tap + vector * $lanes)) };
                    }
                    for row in 0..ROWS {
                        // SAFETY: the caller vouches for the scalars of all channels and taps.
                        let scalar = $splat(unsafe { *scalars.add(row) });
                        for vector in 0..VECTORS {
                            sums[row][vector] =
                                $multiply_add(scalar, values[vector], sums[row][vector]);
                        }
                    }
                    // SAFETY: at most one past the end of the scalars.
                    scalars = unsafe { scalars.add(ROWS) };
                }
                vectors = vectors.wrapping_add(tile.channel_pitch);
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    let mut sum = sums[row][vector];
                    let at = row * tile.sums_pitch + vector * $lanes;
                    // SAFETY: the caller vouches for all vectors of each row of the sums.
                    unsafe {
                        let to = tile.sums.as_mut_ptr().add(at);
                        if tile.add {
                            sum = $add($load(to), sum);
                        }
                        $store(to, sum);
                    }
                }
            }
        }
    };
}

tile_function!(
    avx512,
    "avx512f",
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps
);
tile_function!(
    avx2,
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);
