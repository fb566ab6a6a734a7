//! A video while it is being written: all of it appears at its target, or nothing does.

use std::fs;
use std::io;
use std::path::Path;

use sora_actors::messages::VideoChunk;
use tempfile::{NamedTempFile, TempDir, TempPath};

use super::{OutputError, OutputTarget};
use crate::sidecar::Sidecar;
use crate::sinks::{SinkKind, VideoFormat, VideoSink};

/// A video being written: a temporary file beside its target, which takes the target's name when it is complete and
/// disappears when it is dropped before.
pub struct PendingVideo {
    // Declared before `staged`, so that it is closed before the file is removed.
    sink: Box<dyn VideoSink>,
    staged: Staged,
    target: OutputTarget,
}

enum Staged {
    File(TempPath),
    Folder(TempDir),
}

impl PendingVideo {
    pub(super) fn begin(target: OutputTarget, format: VideoFormat) -> Result<Self, OutputError> {
        let folder = target.folder();
        let not_writable = |source| OutputError::NotWritable { path: target.video.clone(), source };
        let staged = match target.kind {
            SinkKind::FrameFolder => {
                Staged::Folder(temporary_folder(staging_place(&target)).map_err(not_writable)?)
            }
            _ => Staged::File(temporary_file(folder).map_err(not_writable)?.into_temp_path()),
        };
        let path = match &staged {
            Staged::Folder(folder) => folder.path(),
            Staged::File(file) => file,
        };
        let sink = target.kind.open(path, &target.video, format)?;
        Ok(Self { sink, staged, target })
    }

    /// Writes the next frames.
    ///
    /// # Errors
    /// The sink's.
    pub fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), OutputError> {
        Ok(self.sink.write_chunk(chunk)?)
    }

    /// Completes the video, and puts it and its settings in place.
    ///
    /// # Errors
    /// The disk refuses; then neither is there, and what was there before still is.
    pub fn complete(self, sidecar: &Sidecar) -> Result<(), OutputError> {
        let Self { sink, staged, target } = self;
        sink.finish()?;
        let not_writable = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OutputError::NotWritable { path, source }
        };
        let settings = temporary_file(target.folder())
            .and_then(|file| sidecar.write_to(file.as_file()).map(|()| file.into_temp_path()))
            .map_err(not_writable(&target.sidecar))?;
        match staged {
            Staged::File(file) => file
                .persist(&target.video)
                .map_err(|failure| failure.error)
                .map_err(not_writable(&target.video))?,
            Staged::Folder(folder) => {
                replace_frames(folder, &target.video).map_err(not_writable(&target.video))?;
            }
        }
        settings
            .persist(&target.sidecar)
            .map_err(|failure| failure.error)
            .map_err(not_writable(&target.sidecar))
    }
}

/// A new file whose name says what it is, in case the power fails before it is removed or renamed.
pub(super) fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // Unlike other temporary files, this one becomes the user's: as readable as any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".sora-").suffix(".partial").tempfile_in(folder)
}

fn temporary_folder(folder: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.prefix(".sora-").suffix(".partial").tempdir_in(folder)
}

/// Where to collect frames for `target`: within it when it is there, so that moving them never crosses file systems.
fn staging_place(target: &OutputTarget) -> &Path {
    if target.video.is_dir() { &target.video } else { target.folder() }
}

/// Puts the frames of `new` in the place of those in `target`.
fn replace_frames(new: TempDir, target: &Path) -> io::Result<()> {
    if !target.is_dir() {
        fs::rename(new.path(), target)?;
        // It has moved, so there is nothing left to remove at its old place.
        let _ = new.keep();
        return Ok(());
    }
    for entry in fs::read_dir(target)? {
        let path = entry?.path();
        if path.is_file() {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(new.path())? {
        let entry = entry?;
        fs::rename(entry.path(), target.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use sora_actors::messages::RgbFrame;

    use super::*;
    use crate::sidecar::tests::sidecar;

    const FORMAT: VideoFormat =
        VideoFormat { width_px: 32, height_px: 32, num_frames: 2, fps: 8.0 };

    fn chunk() -> VideoChunk {
        VideoChunk::new(0, 32, 32, vec![RgbFrame(vec![7; 32 * 32 * 3]); 2]).unwrap()
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_video_appears_when_it_is_complete_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.gif", "a.png", "a/"] {
            let path = format!("{}/{name}", folder.path().display());
            let target = OutputTarget::new(&path).unwrap();
            for _ in 0..2 {
                target.check(FORMAT).unwrap();
                let mut video = target.begin(FORMAT).unwrap();
                video.write_chunk(&chunk()).unwrap();
                video.complete(&sidecar()).unwrap();
            }
            assert!(target.video().exists() && target.sidecar().is_file(), "{name}");
        }
        assert_eq!(entries(folder.path()), ["a", "a.gif", "a.json", "a.png"].map(PathBuf::from));
        assert_eq!(entries(&folder.path().join("a")), ["0000.png", "0001.png"].map(PathBuf::from));
    }

    #[test]
    fn a_video_that_is_given_up_leaves_nothing_and_spares_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.gif"), "an earlier video").unwrap();
        for name in ["a.gif", "b.png", "frames/"] {
            let path = format!("{}/{name}", folder.path().display());
            let mut video = OutputTarget::new(&path).unwrap().begin(FORMAT).unwrap();
            video.write_chunk(&chunk()).unwrap();
            assert_eq!(entries(folder.path()).len(), 2, "{name} is being written");
            drop(video);
        }
        assert_eq!(entries(folder.path()), [PathBuf::from("a.gif")]);
        assert_eq!(fs::read_to_string(folder.path().join("a.gif")).unwrap(), "an earlier video");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_a_video_as_they_may_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let video = temporary_file(folder.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(video.path()), mode(&plain));
    }
}
