//! The innermost loop of every product: a few rows by a few vectors of the result, kept in registers.
//!
//! A convolution's rows are output channels and its vectors run over positions; a linear layer's rows are tokens and its
//! vectors run over output features; an attention's rows are queries and its vectors run over keys, then over values.

use super::simd::SimdLevel;

/// A tile of a result: `sums[row][column] = sum over channels and taps of scalars[channel][tap][row] *
/// vectors[channel][tap + column]`.
pub(super) struct Tile<'a> {
    /// `[channels, taps, rows]`.
    pub(super) scalars: &'a [f32],
    /// Rows of the tile: those of [`largest_tile`], or what [`panel_rows`] says.
    pub(super) rows: usize,
    /// From the tile's first column in the first channel on.
    pub(super) vectors: &'a [f32],
    pub(super) channels: usize,
    /// Distance between two channels of the vectors.
    pub(super) channel_pitch: usize,
    /// Distance of each tap within a channel.
    pub(super) taps: &'a [usize],
    /// The sums, from the tile's first column in its first row on.
    pub(super) sums: &'a mut [f32],
    pub(super) sums_pitch: usize,
    /// How many vectors wide the tile is, at most as [`largest_tile`] says.
    pub(super) width: usize,
    /// Whether to add to the sums instead of replacing them.
    pub(super) add: bool,
    /// What will be read soon and is not in a core's cache yet, or nothing: it is fetched meanwhile.
    pub(super) next: &'a [f32],
}

/// Multiplications that are not worth another thread. Our choice: they take a core a few tenths of a millisecond.
pub(super) const PRODUCTS_ON_ONE_THREAD: usize = 1 << 23;

/// The taps of a product that has only one for each channel.
pub(super) const ONE_TAP: &[usize] = &[0];

/// The largest tile: its rows, and its vectors. With the values and the scalar that they are multiplied by, the sums just
/// fit the registers: 32 of AVX-512 and NEON, 16 of AVX2 and SSE2.
pub(super) const fn largest_tile(level: SimdLevel) -> (usize, usize) {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => (8, 3),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => (6, 2),
        SimdLevel::Portable if cfg!(target_arch = "aarch64") => (8, 3),
        SimdLevel::Portable => (4, 3),
    }
}

/// Values of a vector.
pub(super) fn lanes(level: SimdLevel) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => 16,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => 8,
        SimdLevel::Portable => PORTABLE_LANES,
    }
}

/// Columns of the largest tile.
pub(super) fn panel_width(level: SimdLevel) -> usize {
    largest_tile(level).1 * lanes(level)
}

/// Rows of a tile when so many are left.
pub(super) fn panel_rows(level: SimdLevel, left: usize) -> usize {
    const FEW: usize = 4;
    if left > FEW { largest_tile(level).0 } else { FEW }
}

/// Fetches what will be written in a while, so that writing does not wait for it.
pub(super) fn fetch_to_write(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(super::aligned::LINE_VALUES) {
        x86::fetch_to_write(line);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

impl Tile<'_> {
    /// Computes the tile. For each sum the products are added in the order of channels and taps, whatever the tile's size.
    pub(super) fn compute(self, level: SimdLevel) {
        match (self.rows, self.width) {
            (8, 3) => self.compute_sized::<8, 3>(level),
            (8, 2) => self.compute_sized::<8, 2>(level),
            (8, 1) => self.compute_sized::<8, 1>(level),
            (6, 2) => self.compute_sized::<6, 2>(level),
            (6, 1) => self.compute_sized::<6, 1>(level),
            (4, 3) => self.compute_sized::<4, 3>(level),
            (4, 2) => self.compute_sized::<4, 2>(level),
            (4, 1) => self.compute_sized::<4, 1>(level),
            (rows, vectors) => unreachable!("invariant: no tile has {rows} x {vectors} vectors"),
        }
    }

    fn compute_sized<const ROWS: usize, const VECTORS: usize>(self, level: SimdLevel) {
        // A loop of taps that ends at once would cost a fifth of the time.
        match self.taps.len() {
            1 => self.compute_taps::<ROWS, VECTORS, true>(level),
            _ => self.compute_taps::<ROWS, VECTORS, false>(level),
        }
    }

    fn compute_taps<const ROWS: usize, const VECTORS: usize, const SINGLE: bool>(
        self,
        level: SimdLevel,
    ) {
        let columns = VECTORS * lanes(level);
        let last_tap = self.taps.iter().copied().max().unwrap_or(0);
        assert!(!SINGLE || self.taps.len() == 1);
        assert!(self.channels > 0 && self.scalars.len() == self.channels * self.taps.len() * ROWS);
        assert!(
            (self.channels - 1) * self.channel_pitch + last_tap + columns <= self.vectors.len()
        );
        assert!((ROWS - 1) * self.sums_pitch + columns <= self.sums.len());
        // SAFETY: what the assertions above say is what the functions below ask for; and a level other than
        // `Portable` is only ever made when the processor has it.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx512 => x86::avx512::<ROWS, VECTORS, SINGLE>(self),
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx2 => x86::avx2::<ROWS, VECTORS, SINGLE>(self),
                SimdLevel::Portable => portable::<ROWS, VECTORS, SINGLE>(self),
            }
        }
    }

    /// Where the vectors of a channel begin, and the taps from there on. With one, the loop over them has a known end.
    #[inline(always)]
    fn taps_from_the_first<const SINGLE: bool>(&self) -> (usize, &[usize]) {
        if SINGLE { (self.taps[0], ONE_TAP) } else { (0, self.taps) }
    }
}

const PORTABLE_LANES: usize = 4;

/// # Safety
/// Every channel must hold `VECTORS` vectors behind each tap, every row of the sums as many, and the scalars `ROWS`
/// values for each channel and tap. With `SINGLE` there is one tap.
#[allow(clippy::needless_range_loop)] // As in `x86`.
unsafe fn portable<const ROWS: usize, const VECTORS: usize, const SINGLE: bool>(tile: Tile) {
    let mut sums = [[[0f32; PORTABLE_LANES]; VECTORS]; ROWS];
    let mut scalars = tile.scalars.as_ptr().cast::<[f32; ROWS]>();
    let (first_tap, taps) = tile.taps_from_the_first::<SINGLE>();
    let mut vectors = tile.vectors.as_ptr().wrapping_add(first_tap);
    for _ in 0..tile.channels {
        for &tap in taps {
            // SAFETY: the caller vouches for all vectors behind each tap of every channel.
            let values = unsafe {
                vectors.add(tap).cast::<[[f32; PORTABLE_LANES]; VECTORS]>().read_unaligned()
            };
            // SAFETY: the caller vouches for the scalars of all channels and taps.
            let scalars_here = unsafe { scalars.read() };
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    for lane in 0..PORTABLE_LANES {
                        let sum = &mut sums[row][vector][lane];
                        *sum = multiply_add(scalars_here[row], values[vector][lane], *sum);
                    }
                }
            }
            // SAFETY: at most one past the end of the scalars.
            scalars = unsafe { scalars.add(1) };
        }
        vectors = vectors.wrapping_add(tile.channel_pitch);
    }
    for (row, sums) in sums.iter().enumerate() {
        let to = &mut tile.sums[row * tile.sums_pitch..];
        for (to, sum) in to.iter_mut().zip(sums.as_flattened()) {
            *to = if tile.add { *to + sum } else { *sum };
        }
    }
}

/// Fused where that is one instruction; elsewhere it would be a call.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
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
            pub(super) unsafe fn $name<
                const ROWS: usize,
                const VECTORS: usize,
                const SINGLE: bool,
            >(
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
                        let ahead = CHANNELS_AHEAD * tile.channel_pitch + vector * $lanes;
                        _mm_prefetch::<_MM_HINT_T0>(vectors.wrapping_add(ahead).cast());
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_the_sum_of_its_products_wherever_its_taps_are() {
        let channels = 7;
        for level in SimdLevel::available() {
            let (rows, width) = largest_tile(level);
            let (columns, channel_pitch) = (width * lanes(level), width * lanes(level) + 9);
            // Whole numbers, so that no sum depends on rounding.
            let values = |count: usize| -> Vec<f32> {
                (0..count).map(|i| (i * 37 % 11) as f32 - 5.0).collect()
            };
            let vectors = values(channels * channel_pitch);
            for (taps, add) in [(&[0][..], false), (&[9], true), (&[2, 0, 9], false)] {
                let scalars = values(channels * taps.len() * rows);
                let mut sums = vec![1f32; rows * columns];
                Tile {
                    scalars: &scalars,
                    rows,
                    vectors: &vectors,
                    channels,
                    channel_pitch,
                    taps,
                    sums: &mut sums,
                    sums_pitch: columns,
                    width,
                    add,
                    next: &[],
                }
                .compute(level);
                for (index, &sum) in sums.iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let products = (0..channels * taps.len()).map(|step| {
                        let (channel, tap) = (step / taps.len(), taps[step % taps.len()]);
                        scalars[step * rows + row] * vectors[channel * channel_pitch + tap + column]
                    });
                    let expected = products.sum::<f32>() + if add { 1.0 } else { 0.0 };
                    assert_eq!(sum, expected, "{level:?} {taps:?} {row} {column}");
                }
            }
        }
    }
}
