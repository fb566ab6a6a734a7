//! Every frame as a PNG of its own.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sora_actors::messages::{RgbFrame, VideoChunk};

use super::error::SinkError;
use super::video_file::VideoFile;
use super::{VideoFormat, VideoSink, checked_frames};

/// Digits in a frame's name, unless it needs more.
const MIN_DIGITS: usize = 4;

/// Writes `0000.png`, `0001.png`, … into a folder; videos of more than 10,000 frames get longer numbers.
pub struct FrameFolderSink {
    folder: PathBuf,
    target: PathBuf,
    format: VideoFormat,
    next_frame: usize,
}

impl FrameFolderSink {
    /// A sink into the existing folder `folder`.
    pub fn new(folder: &Path, target: &Path, format: VideoFormat) -> Self {
        Self { folder: folder.to_path_buf(), target: target.to_path_buf(), format, next_frame: 0 }
    }
}

impl VideoSink for FrameFolderSink {
    fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), SinkError> {
        let digits = self.format.num_frames.saturating_sub(1).to_string().len().max(MIN_DIGITS);
        for rgb in checked_frames(chunk, self.format, &self.target)? {
            let name = format!("{:0digits$}.png", self.next_frame);
            let size = (self.format.width_px, self.format.height_px);
            write_png(&self.folder.join(&name), &self.target.join(&name), size, rgb)?;
            self.next_frame += 1;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Whether a file in such a folder can be one of the frames.
pub(crate) fn is_frame_name(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_suffix(".png")).unwrap_or_default();
    number.len() >= MIN_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Writes packed RGB as a PNG file; `target` is what errors call it.
pub(super) fn write_png(
    path: &Path,
    target: &Path,
    (width_px, height_px): (usize, usize),
    rgb: &[u8],
) -> Result<(), SinkError> {
    let mut file = VideoFile::create(path, target)?;
    encode_png(&mut file, target, (width_px, height_px), rgb)?;
    file.flush().map_err(|source: io::Error| SinkError::Io { target: target.to_path_buf(), source })
}

/// One frame as the bytes of a PNG file; `target` is what errors call it.
///
/// # Errors
/// [`SinkError`] when the picture is too large for the format, or is not of its own size.
pub fn picture_png(
    target: &Path,
    width_px: usize,
    height_px: usize,
    frame: &RgbFrame,
) -> Result<Vec<u8>, SinkError> {
    let mut png = Vec::new();
    encode_png(&mut png, target, (width_px, height_px), &frame.0)?;
    Ok(png)
}

fn encode_png(
    out: impl Write,
    target: &Path,
    (width_px, height_px): (usize, usize),
    rgb: &[u8],
) -> Result<(), SinkError> {
    let failed = |cause: png::EncodingError| match cause {
        png::EncodingError::IoError(source) => {
            SinkError::Io { target: target.to_path_buf(), source }
        }
        other => SinkError::Encoder { target: target.to_path_buf(), reason: other.to_string() },
    };
    let too_large = |_| SinkError::Format {
        target: target.to_path_buf(),
        reason: format!("a PNG of {width_px}x{height_px} pixels is too large"),
    };
    let width = u32::try_from(width_px).map_err(too_large)?;
    let height = u32::try_from(height_px).map_err(too_large)?;
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(rgb).map_err(failed)?;
    writer.finish().map_err(failed)
}
