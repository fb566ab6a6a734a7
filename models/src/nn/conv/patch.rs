//! The input of some rows of a convolution's output, laid out so that every tap reads a straight run of values.
//!
//! Rows lie one behind the other with their zeros between them, so a position of the output is one number, and the
//! value that a tap reads for it lies at a fixed distance: vectors of positions run on over the ends of rows. What is
//! computed for positions between two rows is thrown away. An axis with a stride is split into one plane for each
//! offset within the stride.

use std::ops::Range;

use super::window::Window;

/// Where everything lies in the packed input of some rows of one output frame.
pub(super) struct PatchLayout {
    windows: [Window; 3],
    /// Rows of a plane.
    plane_rows: usize,
    /// Values of a row without the zeros that it shares with the next row.
    pub(super) row_pitch: usize,
    /// Values of a row.
    row_length: usize,
    plane: usize,
    /// Distance between two channels.
    pub(super) channel_pitch: usize,
    /// Distance of each tap from the position that it is read for, in the order of the kernel's taps.
    pub(super) taps: Vec<usize>,
    /// The largest of them.
    pub(super) farthest_tap: usize,
}

/// One channel of the input: its frames, rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Channel<'a> {
    pub(super) values: &'a [f32],
    pub(super) size: [usize; 3],
}

impl PatchLayout {
    /// The layout for `rows` output rows of `columns` positions.
    pub(super) fn new(windows: [Window; 3], rows: usize, columns: usize) -> Self {
        let [time, height, width] = windows;
        let plane_rows = rows + (height.kernel - 1) / height.stride;
        let row_length = columns + (width.kernel - 1) / width.stride;
        // The zeros behind a row serve as those in front of the next one.
        let shared = if width.stride == 1 { width.before.min(width.after) } else { 0 };
        let row_pitch = row_length - shared;
        let plane = plane_rows * row_pitch + shared;
        let planes = time.kernel * height.stride * width.stride;
        let mut taps = Vec::with_capacity(time.kernel * height.kernel * width.kernel);
        for t in 0..time.kernel {
            for h in 0..height.kernel {
                for w in 0..width.kernel {
                    let phase = (t * height.stride + h % height.stride) * width.stride;
                    let row = h / height.stride * row_pitch;
                    taps.push((phase + w % width.stride) * plane + row + w / width.stride);
                }
            }
        }
        let channel_pitch = spread(planes * plane);
        let farthest_tap = taps.iter().copied().max().unwrap_or(0);
        Self {
            windows,
            plane_rows,
            row_pitch,
            row_length,
            plane,
            channel_pitch,
            taps,
            farthest_tap,
        }
    }

    /// Positions of so many rows, from the first to the last that counts.
    pub(super) fn positions(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_pitch + columns
    }

    /// Packs what output frame `frame` and output rows from `first_row` on read of one channel.
    pub(super) fn pack(&self, channel: Channel, frame: usize, first_row: usize, to: &mut [f32]) {
        let [time, height, width] = self.windows;
        let mut planes = to.chunks_exact_mut(self.plane);
        for t in 0..time.kernel {
            let frame = inside(frame * time.stride + t, time, channel.size[0]);
            for row_phase in 0..height.stride {
                for column_phase in 0..width.stride {
                    let Some(plane) = planes.next() else { return };
                    for row in 0..self.plane_rows {
                        let to = &mut plane[row * self.row_pitch..][..self.row_length];
                        let row = (first_row + row) * height.stride + row_phase;
                        match (frame, inside(row, height, channel.size[1])) {
                            (Some(frame), Some(row)) => {
                                pack_row(channel.row(frame, row), width, column_phase, to);
                            }
                            _ => to.fill(0.0),
                        }
                    }
                }
            }
        }
    }
}

impl<'a> Channel<'a> {
    fn row(self, frame: usize, row: usize) -> &'a [f32] {
        &self.values[(frame * self.size[1] + row) * self.size[2]..][..self.size[2]]
    }
}

/// The index of a padded position in the input, if it is no padding.
fn inside(padded: usize, window: Window, size: usize) -> Option<usize> {
    padded.checked_sub(window.before).filter(|&index| index < size)
}

fn pack_row(row: &[f32], width: Window, phase: usize, to: &mut [f32]) {
    if width.stride == 1 {
        let values: Range<usize> = width.before..(width.before + row.len()).min(to.len());
        to[..values.start].fill(0.0);
        to[values.end..].fill(0.0);
        to[values.clone()].copy_from_slice(&row[..values.len()]);
        return;
    }
    for (column, to) in to.iter_mut().enumerate() {
        let column = inside(column * width.stride + phase, width, row.len());
        *to = column.map_or(0.0, |column| row[column]);
    }
}

/// At least so many values, and an odd number of cache lines: distances that are a power of two would put the
/// channels of one position in the same few places of a cache.
pub(super) fn spread(values: usize) -> usize {
    const LINE: usize = 16;
    (values.div_ceil(LINE) | 1) * LINE
}
