//! Rows turned into columns, square by square, so that a line of a cache is used up while it is there.

/// Side of a square. Our choice: a cache line of values.
pub(super) const SQUARE: usize = 16;

/// Turns rows `[at most width, length]` into a panel `[length, width]`; columns without a row stay as they are.
#[inline(always)]
pub(super) fn turn_panel(rows: &[f32], length: usize, panel: &mut [f32], width: usize) {
    for (band, rows) in rows.chunks(SQUARE * length).enumerate() {
        let column = band * SQUARE;
        for first in (0..length).step_by(SQUARE) {
            let count = SQUARE.min(length - first);
            let mut values = [[0f32; SQUARE]; SQUARE];
            for (values, row) in values.iter_mut().zip(rows.chunks_exact(length)) {
                values[..count].copy_from_slice(&row[first..][..count]);
            }
            let rows = rows.len() / length;
            for place in 0..count {
                let to = &mut panel[(first + place) * width + column..][..rows];
                to.iter_mut().zip(&values).for_each(|(to, values)| *to = values[place]);
            }
        }
    }
}

/// Turns values of the rows of one tile, from the one at `first` on, into `[values, rows]`.
///
/// # Shapes
/// `from` `[at most rows, length]`: what lacks becomes zeros. `to` says how many values.
#[inline(always)]
pub(super) fn turn_tile(from: &[f32], length: usize, first: usize, rows: usize, to: &mut [f32]) {
    match rows {
        8 => turn_rows::<8>(from, length, first, to),
        6 => turn_rows::<6>(from, length, first, to),
        4 => turn_rows::<4>(from, length, first, to),
        rows => unreachable!("invariant: no tile has {rows} rows"),
    }
}

#[inline(always)]
fn turn_rows<const ROWS: usize>(from: &[f32], length: usize, first: usize, to: &mut [f32]) {
    let (to, _) = to.as_chunks_mut::<ROWS>();
    for (square, to) in to.chunks_mut(SQUARE).enumerate() {
        let start = first + square * SQUARE;
        let mut values = [[0f32; SQUARE]; ROWS];
        for (values, row) in values.iter_mut().zip(from.chunks_exact(length)) {
            let row = &row[start..];
            // Of a known length where it can be: that is one vector, and otherwise a call.
            match row.first_chunk() {
                Some(row) if to.len() == SQUARE => *values = *row,
                _ => values[..to.len()].copy_from_slice(&row[..to.len()]),
            }
        }
        for (place, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|row| values[row][place]);
        }
    }
}
