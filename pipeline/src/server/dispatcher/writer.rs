//! A video's files while they are being written: the video, a thumbnail and a sprite sheet.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use sora_actors::messages::VideoChunk;
use tempfile::TempPath;

use crate::hexadecimal::hexadecimal;
use crate::output::{OutputError, OutputTarget, PendingVideo};
use crate::server::folder::{DataFolder, VideoAsset};
use crate::server::ids::VideoId;
use crate::sidecar::Sidecar;
use crate::sinks::{SinkKind, VideoFormat, VideoSink};
use crate::whole_file::temporary_file;

/// SHA-256 of a finished file, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub(super) fn file_sha256(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(hexadecimal(&digest.finalize()))
}

/// Writes frames to all files of a video at once; dropped before the end, it leaves none.
pub(super) struct VideoWriter {
    video: PendingVideo,
    target: OutputTarget,
    thumbnail: Picture,
    spritesheet: Picture,
    thumbnail_frame: usize,
}

impl VideoWriter {
    /// Begins to write beside where the files will be.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn begin(
        folder: &DataFolder,
        id: VideoId,
        format: VideoFormat,
    ) -> Result<Self, OutputError> {
        let target = OutputTarget::new(&folder.path(id, VideoAsset::Video))?;
        let one_frame = VideoFormat { num_frames: 1, ..format };
        Ok(Self {
            video: target.begin(format)?,
            thumbnail: Picture::begin(folder.path(id, VideoAsset::Thumbnail), one_frame)?,
            spritesheet: Picture::begin(folder.path(id, VideoAsset::Spritesheet), format)?,
            // The middle, since films often begin with little to see.
            thumbnail_frame: format.num_frames / 2,
            target,
        })
    }

    /// Writes the next frames.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), OutputError> {
        let frame = self.thumbnail_frame.checked_sub(chunk.first_frame);
        if let Some(frame) = frame.and_then(|frame| chunk.frames.get(frame)) {
            let alone =
                VideoChunk { first_frame: 0, frames: vec![frame.clone()], ..head_of(chunk) };
            self.thumbnail.sink.write_chunk(&alone)?;
        }
        self.spritesheet.sink.write_chunk(chunk)?;
        self.video.write_chunk(chunk)
    }

    /// Completes all files and puts them in place, the video last; when this returns, they outlast a power failure. Answers
    /// the video's SHA-256.
    ///
    /// # Errors
    /// The disk refuses; then there is no video.
    pub(super) fn complete(self, sidecar: &Sidecar) -> Result<String, OutputError> {
        self.thumbnail.complete()?;
        self.spritesheet.complete()?;
        self.video.complete(sidecar)?;
        let path = self.target.video();
        file_sha256(path)
            .map_err(|source| OutputError::NotWritable { path: path.to_path_buf(), source })
    }
}

fn head_of(chunk: &VideoChunk) -> VideoChunk {
    let VideoChunk { format_version, first_frame, width_px, height_px, .. } = *chunk;
    VideoChunk { format_version, first_frame, width_px, height_px, frames: Vec::new() }
}

/// A picture of some of the frames.
struct Picture {
    // Declared before `staged`, so that it is closed before the file is removed.
    sink: Box<dyn VideoSink>,
    staged: TempPath,
    path: String,
}

impl Picture {
    fn begin(path: String, format: VideoFormat) -> Result<Self, OutputError> {
        let target = Path::new(&path);
        let not_writable = |source| OutputError::NotWritable { path: target.to_path_buf(), source };
        let folder = target.parent().unwrap_or(target);
        let staged = temporary_file(folder).map_err(not_writable)?.into_temp_path();
        let sink = SinkKind::ContactSheet.open(&staged, target, format)?;
        Ok(Self { sink, staged, path })
    }

    fn complete(self) -> Result<(), OutputError> {
        let Self { sink, staged, path } = self;
        sink.finish()?;
        let synced = File::open(&staged).and_then(|file| file.sync_all());
        synced
            .and_then(|()| staged.persist(&path).map_err(|failure| failure.error))
            .map_err(|source| OutputError::NotWritable { path: path.into(), source })
    }
}
