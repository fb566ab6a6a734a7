//! Where finished frames go: one [`VideoSink`] for each kind of output, fed chunk by chunk.
//!
//! A sink never holds the whole video: what it keeps is one frame (`mp4`), one chunk (`gif`), the chosen frames
//! (contact sheet) or nothing (folder of frames). For equal frames it writes equal bytes, on every machine.

#[cfg(feature = "mp4")]
mod colour;
mod contact_sheet;
mod error;
mod frame_folder;
mod gif;
#[cfg(feature = "mp4")]
mod h264;
#[cfg(feature = "mp4")]
mod mp4;
mod palette;
mod video_file;

use std::fmt;
use std::path::Path;

use sora_actors::messages::{GenerationRequest, VideoChunk};
use sora_models::sizes::SPATIAL_FACTOR;

pub use contact_sheet::ContactSheetSink;
pub use error::SinkError;
pub(crate) use frame_folder::is_frame_name;
pub use frame_folder::{FrameFolderSink, picture_png};
pub use gif::GifSink;
#[cfg(feature = "mp4")]
pub use mp4::Mp4Sink;

/// What a sink has to know before the first frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoFormat {
    /// Width of every frame.
    ///
    /// # Units
    /// Pixels.
    pub width_px: usize,
    /// Height of every frame.
    ///
    /// # Units
    /// Pixels.
    pub height_px: usize,
    /// How many frames will come.
    pub num_frames: usize,
    /// Playing speed.
    ///
    /// # Units
    /// Frames per second.
    pub fps: f64,
}

impl VideoFormat {
    /// The frames that come of a request: pixels beyond a whole latent value are not generated.
    pub fn of(request: &GenerationRequest) -> Self {
        Self {
            width_px: request.width_px / SPATIAL_FACTOR * SPATIAL_FACTOR,
            height_px: request.height_px / SPATIAL_FACTOR * SPATIAL_FACTOR,
            num_frames: request.num_frames,
            fps: request.fps,
        }
    }
}

/// Takes a video's frames in order and writes them to one file or folder.
pub trait VideoSink: Send {
    /// Writes the next frames.
    ///
    /// # Errors
    /// The disk refuses, or the frames are not of the announced size.
    fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), SinkError>;

    /// Writes what is still held and completes the file.
    ///
    /// # Errors
    /// The disk refuses, or there were no frames.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// The kinds of output, told apart by a path's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// H.264 in MP4 (`.mp4`).
    Mp4,
    /// Animated, looping (`.gif`).
    Gif,
    /// Evenly chosen frames in one picture (`.png`).
    ContactSheet,
    /// Every frame as a picture in a folder (no extension, or a trailing `/`).
    FrameFolder,
}

impl SinkKind {
    /// What an error message lists as known outputs.
    pub const KNOWN: &'static str = "`.mp4`, `.gif`, `.png` (contact sheet), or a folder (no extension, or ending in `/`) for single frames";

    /// The kind of file that a path without any wish becomes.
    pub const DEFAULT: Self = if cfg!(feature = "mp4") { Self::Mp4 } else { Self::Gif };

    /// The kind that `path` asks for.
    ///
    /// # Errors
    /// [`SinkError::UnknownExtension`], or [`SinkError::NotCompiledIn`] for `.mp4` without the feature `mp4`.
    pub fn of(path: &Path) -> Result<Self, SinkError> {
        let extension = path.extension().map(|text| text.to_string_lossy().to_lowercase());
        if path.to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]) {
            return Ok(Self::FrameFolder);
        }
        match extension.as_deref() {
            None => Ok(Self::FrameFolder),
            Some("gif") => Ok(Self::Gif),
            Some("png") => Ok(Self::ContactSheet),
            Some("mp4") if cfg!(feature = "mp4") => Ok(Self::Mp4),
            Some("mp4") => Err(SinkError::NotCompiledIn { target: path.to_path_buf() }),
            Some(_) => Err(SinkError::UnknownExtension { target: path.to_path_buf() }),
        }
    }

    /// The file extension, without a dot; folders have none.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Self::Mp4 => Some("mp4"),
            Self::Gif => Some("gif"),
            Self::ContactSheet => Some("png"),
            Self::FrameFolder => None,
        }
    }

    /// Whether this kind can hold such a video at all; asked before any model work.
    ///
    /// # Errors
    /// [`SinkError::Format`], with the limit.
    pub fn check(self, format: VideoFormat, target: &Path) -> Result<(), SinkError> {
        let refuse =
            |reason: String| Err(SinkError::Format { target: target.to_path_buf(), reason });
        let VideoFormat { width_px, height_px, num_frames, fps } = format;
        if width_px == 0 || height_px == 0 || num_frames == 0 {
            return refuse("a video needs at least one frame of at least one pixel".into());
        }
        if !(fps.is_finite() && (MIN_FPS..=MAX_FPS).contains(&fps)) {
            return refuse(format!("{fps} frames a second is not between {MIN_FPS} and {MAX_FPS}"));
        }
        match self {
            #[cfg(feature = "mp4")]
            Self::Mp4 => h264::check_size(width_px, height_px).or_else(refuse),
            Self::Gif if width_px.max(height_px) > usize::from(u16::MAX) => {
                refuse(format!("a GIF is at most {} pixels wide and high", u16::MAX))
            }
            _ => Ok(()),
        }
    }

    /// Opens a sink of this kind.
    ///
    /// # Arguments
    /// `path` is where bytes go: an existing empty file, or an existing empty folder. `target` is what to call it in
    /// errors: the path that the user will find it at.
    ///
    /// # Errors
    /// The file cannot be opened, or [`SinkKind::check`] refuses the format.
    pub fn open(
        self,
        path: &Path,
        target: &Path,
        format: VideoFormat,
    ) -> Result<Box<dyn VideoSink>, SinkError> {
        self.check(format, target)?;
        Ok(match self {
            #[cfg(feature = "mp4")]
            Self::Mp4 => Box::new(Mp4Sink::create(path, target, format)?),
            #[cfg(not(feature = "mp4"))]
            Self::Mp4 => return Err(SinkError::NotCompiledIn { target: target.to_path_buf() }),
            Self::Gif => Box::new(GifSink::create(path, target, format)?),
            Self::ContactSheet => Box::new(ContactSheetSink::create(path, target, format)?),
            Self::FrameFolder => Box::new(FrameFolderSink::new(path, target, format)),
        })
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mp4 => "mp4",
            Self::Gif => "gif",
            Self::ContactSheet => "contact sheet",
            Self::FrameFolder => "folder of frames",
        })
    }
}

/// One frame in a hundred seconds: slower is a typing error, and would overflow container time fields.
const MIN_FPS: f64 = 0.01;

/// No screen shows more, and MP4 durations stay exact integers.
const MAX_FPS: f64 = 240.0;

/// A frame's bytes, after checking that they are what `format` announced.
fn checked_frames<'a>(
    chunk: &'a VideoChunk,
    format: VideoFormat,
    target: &Path,
) -> Result<impl Iterator<Item = &'a [u8]>, SinkError> {
    let expected_bytes = format.width_px * format.height_px * 3;
    let as_announced = (chunk.width_px, chunk.height_px) == (format.width_px, format.height_px)
        && chunk.frames.iter().all(|frame| frame.0.len() == expected_bytes);
    if !as_announced {
        let reason = format!(
            "frames of {}x{} were announced, but a chunk of {}x{} came",
            format.width_px, format.height_px, chunk.width_px, chunk.height_px
        );
        return Err(SinkError::Format { target: target.to_path_buf(), reason });
    }
    Ok(chunk.frames.iter().map(|frame| frame.0.as_slice()))
}
