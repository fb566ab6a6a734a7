//! Where videos end up: names for many videos from one wish, checks before any work, and all or nothing after it.
//!
//! # Names
//! One wish (`-o`) names the videos of all prompts:
//! - `film.mp4` is one video; with several prompts, `film-1.mp4`, `film-2.mp4`, ….
//! - `frames/` is a folder of single frames; with several prompts, `frames/1/`, `frames/2/`, ….
//! - `films/{index}-{prompt}-{seed}.gif` names each video itself. `{index}` counts from 1, `{prompt}` is the prompt in
//!   letters that every file system takes.
//! - without a wish, a video is named after its prompt, and a number is added rather than overwriting anything.
//!
//! Missing folders are created. A file that is there already is replaced, but only by a finished video.

mod naming;
mod pending;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sidecar::is_sidecar;
use crate::sinks::{SinkError, SinkKind, VideoFormat};

pub use naming::NamingFacts;
pub use pending::PendingVideo;

/// Why videos cannot be put where they should go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The kind of output cannot be written, or writing failed.
    #[error(transparent)]
    Sink(#[from] SinkError),

    /// The folder cannot be created or written to.
    #[error("{} cannot be written: {source}", path.display())]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// Something is in the way that must not be replaced.
    #[error("{} is in the way: {reason}", path.display())]
    InTheWay {
        /// What is there.
        path: PathBuf,
        /// Why it is left alone, and what to do.
        reason: String,
    },

    /// A template has a placeholder that does not exist.
    #[error(
        "the output name holds {{{placeholder}}}: known are {{index}}, {{prompt}} and {{seed}}"
    )]
    UnknownPlaceholder {
        /// What stands between the braces.
        placeholder: String,
    },

    /// Two prompts would write the same file.
    #[error("two prompts would write {}: add {{index}} to the output name", path.display())]
    SameName {
        /// The name.
        path: PathBuf,
    },
}

/// Where one video goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTarget {
    kind: SinkKind,
    video: PathBuf,
    sidecar: PathBuf,
}

impl OutputTarget {
    /// Names the videos of all prompts; see the module's text.
    ///
    /// # Errors
    /// The extension is not known, a placeholder is not, or two videos would have one name.
    pub fn name_all(wish: Option<&str>, videos: &[NamingFacts]) -> Result<Vec<Self>, OutputError> {
        let mut taken = HashSet::new();
        let mut targets = Vec::with_capacity(videos.len());
        for (index, facts) in (1..).zip(videos) {
            let target = match wish {
                None => Self::after_prompt(&facts.prompt, &taken),
                Some(wish) => Self::new(&naming::expanded(wish, index, videos.len(), facts)?)?,
            };
            if !taken.insert(target.video.clone()) {
                return Err(OutputError::SameName { path: target.video });
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// The target at `path`.
    ///
    /// # Errors
    /// Its extension is not known.
    pub fn new(path: &str) -> Result<Self, OutputError> {
        let kind = SinkKind::of(Path::new(path))?;
        // Without a trailing separator, which file operations do not want.
        let video: PathBuf = Path::new(path).components().collect();
        let sidecar = match kind {
            SinkKind::FrameFolder => {
                let mut name = video.clone().into_os_string();
                name.push(".json");
                name.into()
            }
            _ => video.with_extension("json"),
        };
        Ok(Self { kind, video, sidecar })
    }

    fn after_prompt(prompt: &str, taken: &HashSet<PathBuf>) -> Self {
        let kind = SinkKind::DEFAULT;
        let (stem, extension) = (naming::name_of(prompt), kind.extension().unwrap_or_default());
        let named = |suffix: &str| {
            let video = PathBuf::from(format!("{stem}{suffix}.{extension}"));
            Self { kind, sidecar: video.with_extension("json"), video }
        };
        let is_free = |target: &Self| {
            !(taken.contains(&target.video) || target.video.exists() || target.sidecar.exists())
        };
        let numbered = (2u64..).map(|number| named(&format!("-{number}")));
        std::iter::once(named("")).chain(numbered).find(is_free).unwrap_or_else(|| named(""))
    }

    /// The video's path.
    pub fn video(&self) -> &Path {
        &self.video
    }

    /// The path of the settings beside it.
    pub fn sidecar(&self) -> &Path {
        &self.sidecar
    }

    /// What is written there.
    pub fn kind(&self) -> SinkKind {
        self.kind
    }

    /// Finds out before the work what would spoil it after: creates missing folders, tries to write there, and looks
    /// for things that must not be replaced.
    ///
    /// # Errors
    /// [`OutputError::NotWritable`], [`OutputError::InTheWay`], or the format is none for this kind of output.
    pub fn check(&self, format: VideoFormat) -> Result<(), OutputError> {
        self.kind.check(format, &self.video)?;
        let folder = self.folder();
        let not_writable = |source| OutputError::NotWritable { path: folder.to_path_buf(), source };
        fs::create_dir_all(folder).map_err(not_writable)?;
        drop(pending::temporary_file(folder).map_err(not_writable)?);
        self.check_video_place()?;
        self.check_sidecar_place()
    }

    fn check_video_place(&self) -> Result<(), OutputError> {
        let in_the_way = |reason: &str| {
            Err(OutputError::InTheWay { path: self.video.clone(), reason: reason.into() })
        };
        if self.video.file_name().is_none() {
            return in_the_way("frames need a folder of their own; name a new one");
        }
        match (self.kind, self.video.is_dir()) {
            (SinkKind::FrameFolder, true) if !holds_only_frames(&self.video) => in_the_way(
                "the folder holds other things than numbered frames; choose an empty or a new one",
            ),
            (SinkKind::FrameFolder, false) if self.video.exists() => {
                in_the_way("it is a file, and a folder for frames is asked for")
            }
            (SinkKind::FrameFolder, _) => Ok(()),
            (_, true) => in_the_way("it is a folder"),
            (_, false) => Ok(()),
        }
    }

    fn check_sidecar_place(&self) -> Result<(), OutputError> {
        if !self.sidecar.exists() || is_sidecar(&self.sidecar) {
            return Ok(());
        }
        let reason =
            "the video's settings go there, and it does not hold such; choose another name".into();
        Err(OutputError::InTheWay { path: self.sidecar.clone(), reason })
    }

    /// Begins to write: to a temporary place beside the target.
    ///
    /// # Errors
    /// The folder has become unwritable.
    pub fn begin(&self, format: VideoFormat) -> Result<PendingVideo, OutputError> {
        PendingVideo::begin(self.clone(), format)
    }

    fn folder(&self) -> &Path {
        match self.video.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

/// Whether nothing but earlier frames would be lost with this folder.
fn holds_only_frames(folder: &Path) -> bool {
    let is_frame = |name: &str| {
        let number = name.strip_suffix(".png").unwrap_or_default();
        number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries
            .all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_frame)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FORMAT: VideoFormat =
        VideoFormat { width_px: 32, height_px: 32, num_frames: 1, fps: 8.0 };

    fn target(folder: &Path, name: &str) -> OutputTarget {
        OutputTarget::new(&format!("{}/{name}", folder.display())).unwrap()
    }

    #[test]
    fn missing_folders_are_created_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        target(folder.path(), "new/films/a.gif").check(FORMAT).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("new/films")).unwrap().count(), 0);
    }

    #[test]
    fn what_must_not_be_replaced_is_found_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("a.gif")).unwrap();
        fs::create_dir(path.join("photos")).unwrap();
        fs::write(path.join("photos/holiday.png"), "mine").unwrap();
        fs::write(path.join("notes"), "mine").unwrap();
        fs::write(path.join("b.json"), "{\"mine\": true}").unwrap();
        for (name, told) in [
            ("a.gif", "a folder"),
            ("photos/", "other things"),
            ("notes", "a file"),
            ("b.gif", "b.json"),
        ] {
            let error = target(path, name).check(FORMAT).unwrap_err();
            assert!(matches!(error, OutputError::InTheWay { .. }), "{name}: {error}");
            assert!(error.to_string().contains(told), "{name}: {error}");
        }
        fs::create_dir(path.join("frames")).unwrap();
        fs::write(path.join("frames/0000.png"), "an earlier run").unwrap();
        target(path, "frames/").check(FORMAT).unwrap();
    }

    #[test]
    fn a_folder_that_is_a_file_is_not_writable() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = target(folder.path(), "file/a.gif").check(FORMAT).unwrap_err();
        assert!(matches!(error, OutputError::NotWritable { .. }), "{error}");
    }

    #[test]
    fn the_settings_of_a_folder_lie_beside_it() {
        let target = OutputTarget::new("films/frames.v2/").unwrap();
        assert_eq!(target.kind(), SinkKind::FrameFolder);
        assert_eq!(target.sidecar(), Path::new("films/frames.v2.json"));
    }
}
