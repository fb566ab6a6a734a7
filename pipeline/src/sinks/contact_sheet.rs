//! A grid of evenly chosen frames in one PNG: a video at a glance.

use std::path::{Path, PathBuf};

use sora_actors::messages::VideoChunk;

use super::error::SinkError;
use super::frame_folder::write_png;
use super::{VideoFormat, VideoSink, checked_frames};

/// At most so many frames are shown. Our choice: the motion of a clip can be followed, and a sheet of 64x64 frames
/// still fits a README.
const MAX_TILES: usize = 16;

/// Space between frames, and its brightness.
const GAP_PX: usize = 2;
const GAP_GREY: u8 = 255;

/// Collects evenly chosen frames in a grid; the first and the last are always among them.
pub struct ContactSheetSink {
    path: PathBuf,
    target: PathBuf,
    format: VideoFormat,
    layout: Layout,
    picture: Vec<u8>,
    next_frame: usize,
}

impl ContactSheetSink {
    /// An empty sheet; the picture is written at the end.
    ///
    /// # Errors
    /// None yet; the result is that of the other sinks.
    pub fn create(path: &Path, target: &Path, format: VideoFormat) -> Result<Self, SinkError> {
        let layout = Layout::of(format);
        Ok(Self {
            path: path.to_path_buf(),
            target: target.to_path_buf(),
            format,
            picture: vec![GAP_GREY; layout.width_px * layout.height_px * 3],
            layout,
            next_frame: 0,
        })
    }

    fn paste(&mut self, tile: usize, rgb: &[u8]) {
        let row_bytes = self.format.width_px * 3;
        let (row, column) = (tile / self.layout.columns, tile % self.layout.columns);
        let left = column * (self.format.width_px + GAP_PX);
        let top = row * (self.format.height_px + GAP_PX);
        for (y, line) in rgb.chunks_exact(row_bytes).enumerate() {
            let at = ((top + y) * self.layout.width_px + left) * 3;
            self.picture[at..at + row_bytes].copy_from_slice(line);
        }
    }
}

impl VideoSink for ContactSheetSink {
    fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), SinkError> {
        let target = self.target.clone();
        for rgb in checked_frames(chunk, self.format, &target)? {
            if let Some(tile) = self.layout.tile_of(self.next_frame, self.format.num_frames) {
                self.paste(tile, rgb);
            }
            self.next_frame += 1;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        let size = (self.layout.width_px, self.layout.height_px);
        write_png(&self.path, &self.target, size, &self.picture)
    }
}

struct Layout {
    tiles: usize,
    columns: usize,
    width_px: usize,
    height_px: usize,
}

impl Layout {
    fn of(format: VideoFormat) -> Self {
        let tiles = format.num_frames.min(MAX_TILES);
        let ratio = format.height_px as f64 / format.width_px as f64;
        // Columns that make the sheet about square, a little wider than high.
        let columns = (tiles as f64 * ratio * 1.5).sqrt().ceil().clamp(1.0, tiles as f64) as usize;
        let rows = tiles.div_ceil(columns);
        // No emptier last row than needed.
        let columns = tiles.div_ceil(rows);
        Self {
            tiles,
            columns,
            width_px: columns * (format.width_px + GAP_PX) - GAP_PX,
            height_px: rows * (format.height_px + GAP_PX) - GAP_PX,
        }
    }

    /// The place of frame `frame` of `num_frames`, if it is shown.
    fn tile_of(&self, frame: usize, num_frames: usize) -> Option<usize> {
        let spans = self.tiles.saturating_sub(1).max(1);
        let frame_of = |tile: usize| (tile * (num_frames - 1) + spans / 2) / spans;
        (0..self.tiles).find(|&tile| frame_of(tile) == frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_frames_are_even_and_include_both_ends() {
        for num_frames in [1, 2, 15, 16, 17, 51, 408] {
            let format = VideoFormat { width_px: 64, height_px: 64, num_frames, fps: 8.0 };
            let layout = Layout::of(format);
            let shown: Vec<usize> = (0..num_frames)
                .filter(|&frame| layout.tile_of(frame, num_frames).is_some())
                .collect();
            assert_eq!(shown.len(), num_frames.min(MAX_TILES), "{num_frames} frames");
            assert_eq!((shown[0], shown[shown.len() - 1]), (0, num_frames - 1));
            let steps: Vec<usize> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let spread = steps.iter().max().unwrap_or(&0) - steps.iter().min().unwrap_or(&0);
            assert!(spread <= 1, "{num_frames} frames: {steps:?}");
        }
    }

    #[test]
    fn the_grid_holds_every_tile() {
        for (width_px, height_px) in [(64, 64), (426, 240), (240, 426)] {
            let layout = Layout::of(VideoFormat { width_px, height_px, num_frames: 17, fps: 8.0 });
            let rows = (layout.height_px + GAP_PX) / (height_px + GAP_PX);
            assert!(rows * layout.columns >= layout.tiles);
            assert!((rows - 1) * layout.columns < layout.tiles, "the last row is empty");
        }
    }
}
