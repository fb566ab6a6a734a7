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
//! Missing folders are created. A file that is there already is replaced, but only by a finished video; a folder with
//! frames in it only when the settings beside it say that they are a video of this program, and settings only with
//! their own video.

mod earlier;
mod moves;
mod naming;
mod pending;
mod preview;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sidecar::video_named_in;
use crate::sinks::{SinkError, SinkKind, VideoFormat};

pub use earlier::Earlier;
pub use naming::NamingFacts;
pub use pending::PendingVideo;
pub use preview::PreviewFile;

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
        Self::name_each(wish, videos, |facts, taken| {
            let is_free = |target: &Self| target.is_free() && !target.is_among(taken);
            // The names do not end.
            Self::after_prompt(&facts.prompt).find(is_free)
        })
    }

    /// As [`OutputTarget::name_all`]; without a wish, `choose` names a video, given the paths that are taken.
    fn name_each(
        wish: Option<&str>,
        videos: &[NamingFacts],
        choose: impl Fn(&NamingFacts, &HashSet<PathBuf>) -> Option<Self>,
    ) -> Result<Vec<Self>, OutputError> {
        let mut taken = HashSet::new();
        let mut targets = Vec::with_capacity(videos.len());
        for (index, facts) in (1..).zip(videos) {
            let target = match wish {
                None => match choose(facts, &taken) {
                    Some(target) => target,
                    None => continue,
                },
                Some(wish) => Self::new(&naming::expanded(wish, index, videos.len(), facts)?)?,
            };
            for path in [&target.video, &target.sidecar] {
                if !taken.insert(path.clone()) {
                    return Err(OutputError::SameName { path: path.clone() });
                }
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

    /// The names of a prompt's videos, one after the other.
    fn after_prompt(prompt: &str) -> impl Iterator<Item = Self> {
        let kind = SinkKind::DEFAULT;
        let (stem, extension) = (naming::name_of(prompt), kind.extension().unwrap_or_default());
        let suffixes = (2u64..).map(|number| format!("-{number}"));
        std::iter::once(String::new()).chain(suffixes).map(move |suffix| {
            let video = PathBuf::from(format!("{stem}{suffix}.{extension}"));
            Self { kind, sidecar: video.with_extension("json"), video }
        })
    }

    /// Whether nothing is there, unfinished work included.
    fn is_free(&self) -> bool {
        !(self.video.exists() || self.sidecar.exists() || self.saved_job().exists())
    }

    fn is_among(&self, taken: &HashSet<PathBuf>) -> bool {
        taken.contains(&self.video) || taken.contains(&self.sidecar)
    }

    /// The video's path.
    pub fn video(&self) -> &Path {
        &self.video
    }

    /// The path of the settings beside it.
    pub fn sidecar(&self) -> &Path {
        &self.sidecar
    }

    /// The video's name, without the folders that lead to it.
    pub fn video_name(&self) -> String {
        self.video.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
        self.check_video_place()?;
        self.check_sidecar_place()?;
        let folder = self.folder();
        fs::create_dir_all(folder)
            .map_err(|source| OutputError::NotWritable { path: folder.to_path_buf(), source })?;
        for place in [folder, pending::staging_place(&self.video, folder)] {
            crate::whole_file::temporary_file(place)
                .map_err(|source| OutputError::NotWritable { path: place.to_path_buf(), source })?;
        }
        Ok(())
    }

    fn check_video_place(&self) -> Result<(), OutputError> {
        let in_the_way = |reason: &str| {
            Err(OutputError::InTheWay { path: self.video.clone(), reason: reason.into() })
        };
        if self.video.file_name().is_none() {
            return in_the_way("frames need a folder of their own; name a new one");
        }
        match (self.kind, self.video.is_dir()) {
            (SinkKind::FrameFolder, true) => match contents(&self.video) {
                FolderContents::Nothing => Ok(()),
                FolderContents::Frames if self.sidecar_is_own() => Ok(()),
                FolderContents::Frames => in_the_way(
                    "nothing beside the folder says that this program made its frames; choose an empty or a new one",
                ),
                FolderContents::OtherThings => in_the_way(
                    "the folder holds other things than numbered frames; choose an empty or a new one",
                ),
            },
            (SinkKind::FrameFolder, false) if self.video.exists() => {
                in_the_way("it is a file, and a folder for frames is asked for")
            }
            (SinkKind::FrameFolder, false) => Ok(()),
            (_, true) => in_the_way("it is a folder"),
            (_, false) => Ok(()),
        }
    }

    fn check_sidecar_place(&self) -> Result<(), OutputError> {
        if !self.sidecar.exists() || self.sidecar_is_own() {
            return Ok(());
        }
        let reason = match video_named_in(&self.sidecar) {
            None => "the video's settings go there, and it does not hold such; choose another name"
                .into(),
            Some(other) if self.folder().join(&other).exists() => {
                format!("it holds the settings of {other}; choose another name")
            }
            Some(_) => return Ok(()),
        };
        Err(OutputError::InTheWay { path: self.sidecar.clone(), reason })
    }

    /// Whether the settings that are there are those of the video that is there.
    fn sidecar_is_own(&self) -> bool {
        video_named_in(&self.sidecar).is_some_and(|name| name == self.video_name())
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

/// What would be lost with a folder.
enum FolderContents {
    Nothing,
    Frames,
    OtherThings,
}

fn contents(folder: &Path) -> FolderContents {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    match entries {
        Ok(entries) if entries.is_empty() => FolderContents::Nothing,
        Ok(entries) if entries.iter().all(pending::is_frame) => FolderContents::Frames,
        // What cannot be read cannot be known to be frames.
        Ok(_) | Err(_) => FolderContents::OtherThings,
    }
}
