//! A video while it is being written: all of it appears at its target, or nothing does.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use sora_actors::messages::VideoChunk;
use tempfile::{TempDir, TempPath};

use super::moves::Moves;
use super::{OutputError, OutputTarget};
use crate::sidecar::Sidecar;
use crate::sinks::{SinkKind, VideoFormat, VideoSink, is_frame_name};
use crate::whole_file::{PARTIAL_EXTENSION, sync_folder, temporary_file};

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
                let place = staging_place(&target.video, folder);
                Staged::Folder(temporary_folder(place).map_err(not_writable)?)
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

    /// Completes the video, and puts it and its settings in place, to outlast a power failure from then on. When the
    /// power fails meanwhile, what was there before is in a folder `.sora-….partial`.
    ///
    /// # Errors
    /// The disk refuses; then neither is there, and what was there before is put back.
    pub fn complete(self, sidecar: &Sidecar) -> Result<(), OutputError> {
        let Self { sink, staged, target } = self;
        sink.finish()?;
        // Before anything takes its name, so that no name ever stands for half a file.
        staged
            .sync()
            .map_err(|source| OutputError::NotWritable { path: target.video.clone(), source })?;
        let not_writable = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OutputError::NotWritable { path, source }
        };
        let settings = temporary_file(target.folder())
            .and_then(|file| {
                sidecar.write_to(file.as_file())?;
                file.as_file().sync_all()?;
                Ok(file.into_temp_path())
            })
            .map_err(not_writable(&target.sidecar))?;
        // Declared before `moves`, so that after a failure it is empty again when it is removed.
        let earlier = temporary_folder(staging_place(&target.video, target.folder()))
            .map_err(not_writable(&target.video))?;
        let mut moves = Moves::default();
        staged
            .put_in_place(&target.video, earlier.path(), &mut moves)
            .map_err(not_writable(&target.video))?;
        // The last of all, since replacing a file cannot be undone.
        settings
            .persist(&target.sidecar)
            .map_err(|failure| failure.error)
            .map_err(not_writable(&target.sidecar))?;
        moves.keep();
        sync_folder(target.folder()).map_err(not_writable(&target.video))
    }
}

impl Staged {
    /// Returns when a file's bytes are on the disk. The frames of a folder are left to the operating system: there are
    /// many, and nobody relies on them.
    fn sync(&self) -> io::Result<()> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::File(file) => fs::File::open(file)?.sync_all(),
        }
    }

    /// Moves the video to `video`, and what was there before into the empty folder `earlier`.
    fn put_in_place(&self, video: &Path, earlier: &Path, moves: &mut Moves) -> io::Result<()> {
        match self {
            Self::Folder(new) if video.is_dir() => {
                move_frames(video, earlier, moves)?;
                move_frames(new.path(), video, moves)
            }
            Self::Folder(new) => moves.make(new.path(), video),
            Self::File(new) => {
                if video.exists() {
                    moves.make(video, &earlier.join("video"))?;
                }
                moves.make(new, video)
            }
        }
    }
}

fn temporary_folder(folder: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.prefix(".sora-").suffix(&format!(".{PARTIAL_EXTENSION}")).tempdir_in(folder)
}

/// Where to collect what becomes `video`, which lies in `folder`: within it when it is a folder already, so that moving
/// frames never crosses file systems.
pub(super) fn staging_place<'a>(video: &'a Path, folder: &'a Path) -> &'a Path {
    if video.is_dir() { video } else { folder }
}

/// Whether this is a frame of a video, rather than something of the user's.
pub(super) fn is_frame(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file()) && is_frame_name(&entry.file_name())
}

/// Moves the frames in the folder `from`, and nothing else, to the folder `to`.
fn move_frames(from: &Path, to: &Path, moves: &mut Moves) -> io::Result<()> {
    let entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries
        .iter()
        .filter(|entry| is_frame(entry))
        .try_for_each(|frame| moves.make(&frame.path(), &to.join(frame.file_name())))
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
        grey_chunk(7)
    }

    fn grey_chunk(level: u8) -> VideoChunk {
        VideoChunk::new(0, 32, 32, vec![RgbFrame(vec![level; 32 * 32 * 3]); 2]).unwrap()
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
        for name in ["a.gif", "b.png", "c/"] {
            let path = format!("{}/{name}", folder.path().display());
            let target = OutputTarget::new(&path).unwrap();
            for _ in 0..2 {
                target.check(FORMAT).unwrap();
                let mut video = target.begin(FORMAT).unwrap();
                video.write_chunk(&chunk()).unwrap();
                video.complete(&sidecar_of(&target)).unwrap();
            }
            assert!(target.video().exists() && target.sidecar().is_file(), "{name}");
        }
        let expected = ["a.gif", "a.json", "b.json", "b.png", "c", "c.json"].map(PathBuf::from);
        assert_eq!(entries(folder.path()), expected);
        assert_eq!(entries(&folder.path().join("c")), ["0000.png", "0001.png"].map(PathBuf::from));
    }

    fn sidecar_of(target: &OutputTarget) -> Sidecar {
        let mut sidecar = sidecar();
        sidecar.video.name = target.video_name();
        sidecar
    }

    #[test]
    fn what_was_saved_among_the_frames_meanwhile_is_spared() {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("frames");
        let target = OutputTarget::new(&format!("{}/", frames.display())).unwrap();
        fs::create_dir(&frames).unwrap();
        fs::write(frames.join("0007.png"), "an earlier frame").unwrap();
        let mut video = target.begin(FORMAT).unwrap();
        video.write_chunk(&chunk()).unwrap();
        fs::write(frames.join("notes.txt"), "mine").unwrap();
        fs::create_dir(frames.join("0008.png")).unwrap();
        video.complete(&sidecar_of(&target)).unwrap();
        let expected = ["0000.png", "0001.png", "0008.png", "notes.txt"].map(PathBuf::from);
        assert_eq!(entries(&frames), expected);
        assert_eq!(fs::read_to_string(frames.join("notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn a_video_whose_settings_cannot_be_saved_leaves_the_one_before_in_place() {
        for (name, shown, new) in
            [("a.gif", "a.gif", false), ("a/", "a/0000.png", false), ("a/", "a", true)]
        {
            let folder = tempfile::tempdir().unwrap();
            let target = OutputTarget::new(&format!("{}/{name}", folder.path().display())).unwrap();
            let write = |level| {
                let mut video = target.begin(FORMAT).unwrap();
                video.write_chunk(&grey_chunk(level)).unwrap();
                video.complete(&sidecar_of(&target))
            };
            let shown = folder.path().join(shown);
            let before = (!new).then(|| {
                write(7).unwrap();
                fs::remove_file(target.sidecar()).unwrap();
                (fs::read(&shown).unwrap(), entries(folder.path()))
            });
            // No file can take the name of a folder.
            fs::create_dir(target.sidecar()).unwrap();
            let error = write(200).unwrap_err().to_string();
            assert!(error.contains("a.json"), "{error}");
            fs::remove_dir(target.sidecar()).unwrap();
            match before {
                Some((bytes, names)) => {
                    assert!(fs::read(&shown).unwrap() == bytes, "{name} was replaced");
                    assert_eq!(entries(folder.path()), names);
                }
                None => assert!(entries(folder.path()).is_empty(), "{:?}", entries(folder.path())),
            }
        }
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
