//! The innermost loop of every product: a few rows by a few vectors of the result, kept in registers.
//!
//! A convolution's rows are output channels and its vectors run over positions; a linear layer's rows are tokens and its
//! vectors run over output features; an attention's rows are queries and its vectors run over keys, then over values.

#[cfg(target_arch = "x86_64")]
mod x86;

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
    /// What will be read soon and is not in a core's cache yet, or nothing: it is fetched meanwhile, on x86-64.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "nothing is fetched there")
    )]
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
        let scalars = self.channels.checked_mul(self.taps.len() * ROWS);
        assert!(self.channels > 0 && scalars == Some(self.scalars.len()));
        let last_channel = (self.channels - 1).checked_mul(self.channel_pitch);
        assert!(reaches(self.vectors, last_channel, last_tap.checked_add(columns)));
        assert!(reaches(self.sums, (ROWS - 1).checked_mul(self.sums_pitch), Some(columns)));
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

/// Whether so many values from a place on are there; `None` is a number that is too large to be one.
fn reaches(values: &[f32], place: Option<usize>, count: Option<usize>) -> bool {
    let end = place.zip(count).and_then(|(place, count)| place.checked_add(count));
    end.is_some_and(|end| end <= values.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_the_sum_of_its_products_wherever_its_taps_are() {
        for level in SimdLevel::available() {
            let (largest, most) = largest_tile(level);
            for (rows, width) in
                [4, largest].into_iter().flat_map(|r| (1..=most).map(move |w| (r, w)))
            {
                for (taps, add) in [(&[0][..], false), (&[9], true), (&[2, 0, 9], false)] {
                    check(level, rows, width, taps, add);
                }
            }
        }
    }

    fn check(level: SimdLevel, rows: usize, width: usize, taps: &[usize], add: bool) {
        let (channels, columns) = (7, width * lanes(level));
        let channel_pitch = columns + 9;
        // Whole numbers, so that no sum depends on rounding.
        let values =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 37 % 11) as f32 - 5.0).collect() };
        let vectors = values(channels * channel_pitch);
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
            assert_eq!(sum, expected, "{level:?} {rows} x {width} {taps:?}: {row} {column}");
        }
    }

    #[test]
    #[should_panic(expected = "reaches")]
    fn a_distance_that_no_memory_has_is_refused() {
        let [scalars, vectors] = [[1f32; 12], [1f32; 12]];
        let level = SimdLevel::Portable;
        Tile {
            scalars: &scalars,
            rows: 4,
            vectors: &vectors,
            channels: 3,
            channel_pitch: 1 << (usize::BITS - 1),
            taps: ONE_TAP,
            sums: &mut [0.0; 16],
            sums_pitch: 4,
            width: 1,
            add: false,
            next: &[],
        }
        .compute(level);
    }
}
