//! One PNG with a row of frames for every setting, so that settings can be compared at a glance.

use std::io;
use std::path::{Path, PathBuf};

use crate::whole_file::replace;

/// Space between frames, and its brightness; that of contact sheets.
const GAP_PX: usize = 2;
const GAP_GREY: u8 = 255;

/// Longest side of a picture in pixels. Our choice: browsers show no much larger ones, and it keeps a wrong size from
/// taking all memory.
const MAX_SIDE_PX: usize = 16_384;

/// How frames are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparisonSheet {
    /// Width of a frame in pixels.
    pub width_px: usize,
    /// Height of a frame in pixels.
    pub height_px: usize,
    /// At most so many frames of a clip are shown, evenly chosen; the first and the last are always among them, or
    /// the first alone when there is one column.
    pub columns: usize,
    /// Every pixel becomes a square of so many pixels a side.
    pub scale: usize,
}

/// Why a sheet could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// There are no rows or no columns, or frames have no pixels.
    #[error("{}: a sheet needs rows, columns and frames of at least one pixel", target.display())]
    Empty {
        /// The file asked for.
        target: PathBuf,
    },

    /// The picture would be too large to be looked at.
    #[error("{}: a side would have more than {MAX_SIDE_PX} pixels", target.display())]
    TooLarge {
        /// The file asked for.
        target: PathBuf,
    },

    /// A frame is not packed RGB of the sheet's size.
    #[error(
        "{}: frame {frame} of row {row} has {actual_bytes} bytes instead of {expected_bytes}",
        target.display()
    )]
    FrameSize {
        /// The file asked for.
        target: PathBuf,
        /// Index of the row.
        row: usize,
        /// Index of the frame in its clip.
        frame: usize,
        /// Bytes that it has.
        actual_bytes: usize,
        /// Bytes that it should have.
        expected_bytes: usize,
    },

    /// The encoder refused the picture.
    #[error("cannot encode {}: {reason}", target.display())]
    Encoder {
        /// The file asked for.
        target: PathBuf,
        /// The encoder's reason.
        reason: String,
    },

    /// The operating system refused to write.
    #[error("cannot write {}: {source}", target.display())]
    Io {
        /// The file asked for.
        target: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl ComparisonSheet {
    /// Writes the sheet of `rows` to the PNG file `path`, which is replaced as a whole. A row is a clip's frames, each
    /// packed RGB; a row with fewer frames than columns ends in empty space.
    ///
    /// # Errors
    /// The sheet would be empty or too large, a frame has another size, or the file cannot be written.
    pub fn write(&self, path: &Path, rows: &[&[Vec<u8>]]) -> Result<(), SheetError> {
        let target = || path.to_path_buf();
        if rows.is_empty() || [self.width_px, self.height_px, self.columns, self.scale].contains(&0)
        {
            return Err(SheetError::Empty { target: target() });
        }
        let too_large = || SheetError::TooLarge { target: target() };
        let width_px = side_px(self.columns, self.width_px, self.scale).ok_or_else(too_large)?;
        let height_px = side_px(rows.len(), self.height_px, self.scale).ok_or_else(too_large)?;
        let expected_bytes = self.width_px * self.height_px * 3;
        for (row, frames) in rows.iter().enumerate() {
            if let Some(frame) = frames.iter().position(|rgb| rgb.len() != expected_bytes) {
                return Err(SheetError::FrameSize {
                    target: target(),
                    row,
                    frame,
                    actual_bytes: frames[frame].len(),
                    expected_bytes,
                });
            }
        }

        let mut picture = vec![GAP_GREY; width_px * height_px * 3];
        for (row, frames) in rows.iter().enumerate() {
            for (column, frame) in chosen(frames.len(), self.columns).enumerate() {
                self.paste(&mut picture, width_px, (row, column), &frames[frame]);
            }
        }
        let png = encoded((width_px, height_px), &picture)
            .map_err(|cause| SheetError::Encoder { target: target(), reason: cause.to_string() })?;
        replace(path, &png).map_err(|source| SheetError::Io { target: target(), source })
    }

    fn paste(
        &self,
        picture: &mut [u8],
        picture_px: usize,
        (row, column): (usize, usize),
        rgb: &[u8],
    ) {
        let left = column * (self.width_px * self.scale + GAP_PX);
        let top = row * (self.height_px * self.scale + GAP_PX);
        for (y, line) in rgb.chunks_exact(self.width_px * 3).enumerate() {
            let wide: Vec<u8> =
                line.chunks_exact(3).flat_map(|pixel| pixel.repeat(self.scale)).collect();
            for copy in 0..self.scale {
                let at = ((top + y * self.scale + copy) * picture_px + left) * 3;
                picture[at..at + wide.len()].copy_from_slice(&wide);
            }
        }
    }
}

/// The length of a side with `count` frames, unless it is too long.
fn side_px(count: usize, frame_px: usize, scale: usize) -> Option<usize> {
    let frame_and_gap = frame_px.checked_mul(scale)?.checked_add(GAP_PX)?;
    let side_px = count.checked_mul(frame_and_gap)?.checked_sub(GAP_PX)?;
    (side_px <= MAX_SIDE_PX).then_some(side_px)
}

/// The frames shown, of `num_frames`.
fn chosen(num_frames: usize, columns: usize) -> impl Iterator<Item = usize> {
    let shown = num_frames.min(columns);
    let spans = shown.saturating_sub(1).max(1);
    let last = num_frames.saturating_sub(1);
    (0..shown).map(move |column| (column * last + spans / 2) / spans)
}

fn encoded(
    (width_px, height_px): (usize, usize),
    rgb: &[u8],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut png = Vec::new();
    // Both are at most `MAX_SIDE_PX`.
    let mut encoder = png::Encoder::new(&mut png, width_px as u32, height_px as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::BufReader;

    use super::*;

    const SHEET: ComparisonSheet =
        ComparisonSheet { width_px: 2, height_px: 1, columns: 3, scale: 2 };

    /// A clip of 2x1 frames; the left pixel tells the row, the right one the frame.
    fn clip(row: u8, num_frames: u8) -> Vec<Vec<u8>> {
        (0..num_frames).map(|frame| vec![row, 0, 0, 0, 0, frame]).collect()
    }

    struct Picture {
        width: usize,
        rgb: Vec<u8>,
    }

    impl Picture {
        fn written(sheet: ComparisonSheet, rows: &[&[Vec<u8>]]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sheet.png");
            sheet.write(&path, rows).unwrap();
            let decoder = png::Decoder::new(BufReader::new(File::open(path).unwrap()));
            let mut reader = decoder.read_info().unwrap();
            let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
            let width = reader.next_frame(&mut rgb).unwrap().width as usize;
            Self { width, rgb }
        }

        fn height(&self) -> usize {
            self.rgb.len() / 3 / self.width
        }

        fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
            let at = (y * self.width + x) * 3;
            [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
        }
    }

    #[test]
    fn rows_are_settings_and_columns_are_even_frames() {
        let (a, b) = (clip(10, 9), clip(20, 5));
        let picture = Picture::written(SHEET, &[&a, &b]);
        assert_eq!((picture.width, picture.height()), (3 * 4 + 2 * GAP_PX, 2 * 2 + GAP_PX));
        for (row, (name, frames)) in [(10, [0, 4, 8]), (20, [0, 2, 4])].into_iter().enumerate() {
            for (column, frame) in frames.into_iter().enumerate() {
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (x, y) = (column * (4 + GAP_PX) + dx, row * (2 + GAP_PX) + dy);
                    assert_eq!(picture.pixel(x, y), [name, 0, 0]);
                    assert_eq!(picture.pixel(x + 2, y), [0, 0, frame]);
                }
            }
        }
        assert_eq!((picture.pixel(4, 0), picture.pixel(0, 3)), ([GAP_GREY; 3], [GAP_GREY; 3]));
    }

    #[test]
    fn short_and_empty_rows_end_in_empty_space() {
        let (full, short) = (clip(10, 3), clip(20, 1));
        let picture = Picture::written(SHEET, &[&full, &short, &[]]);
        let column = |index| index * (4 + GAP_PX);
        let row = |index| index * (2 + GAP_PX);
        assert_eq!(picture.pixel(column(0), row(1)), [20, 0, 0]);
        assert_eq!(picture.pixel(column(1), row(1)), [GAP_GREY; 3]);
        assert_eq!(picture.pixel(column(0), row(2)), [GAP_GREY; 3]);
    }

    #[test]
    fn chosen_frames_are_even_and_include_both_ends() {
        for num_frames in [2, 3, 8, 9, 51, 408] {
            let frames: Vec<usize> = chosen(num_frames, 8).collect();
            assert_eq!(frames.len(), num_frames.min(8));
            assert_eq!((frames[0], frames[frames.len() - 1]), (0, num_frames - 1));
            let steps: Vec<usize> = frames.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let spread = steps.iter().max().unwrap() - steps.iter().min().unwrap();
            assert!(spread <= 1, "{num_frames} frames: {steps:?}");
        }
        assert_eq!(chosen(5, 1).collect::<Vec<_>>(), [0]);
        assert_eq!(chosen(0, 8).count(), 0);
    }

    #[test]
    fn wrong_input_is_an_error_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let (good, mut bad) = (clip(10, 3), clip(20, 3));
        bad[2].push(0);
        let error = SHEET.write(&path, &[&good, &bad]).unwrap_err();
        assert!(matches!(
            error,
            SheetError::FrameSize { row: 1, frame: 2, actual_bytes: 7, expected_bytes: 6, .. }
        ));
        let empty = |sheet: ComparisonSheet| {
            matches!(sheet.write(&path, &[&good]), Err(SheetError::Empty { .. }))
        };
        assert!(empty(ComparisonSheet { columns: 0, ..SHEET }));
        assert!(empty(ComparisonSheet { scale: 0, ..SHEET }));
        assert!(matches!(SHEET.write(&path, &[]), Err(SheetError::Empty { .. })));
        for scale in [5_000, usize::MAX] {
            let result = ComparisonSheet { scale, ..SHEET }.write(&path, &[&good]);
            assert!(matches!(result, Err(SheetError::TooLarge { .. })));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
