//! The server's folder: the database, and the files of each video.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::ids::VideoId;
use super::store::{Kept, Store, StoreError};
use crate::output::OutputTarget;
use crate::saved_job::SAVED_JOB_EXTENSION;
use crate::sinks::SinkKind;
use crate::whole_file::PARTIAL_EXTENSION;

/// What the folder holds.
const DATABASE: &str = "videos.sqlite";
const LOCK: &str = "lock";
const VIDEOS: &str = "videos";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another server runs on it.
    #[error("another server uses {}: stop it, or choose another folder with --data", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Paths to videos go through parts of this program that take text.
    #[error("the name of {} is not text: choose another folder with --data", path.display())]
    NotText {
        /// The folder.
        path: PathBuf,
    },
}

/// A folder that this process alone uses.
pub struct DataFolder {
    root: PathBuf,
    videos: String,
    /// Locked as long as it is open.
    _lock: File,
}

/// A file that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoAsset {
    /// The video.
    Video,
    /// One frame.
    Thumbnail,
    /// Evenly chosen frames in a grid.
    Spritesheet,
}

impl VideoAsset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Video, Self::Thumbnail, Self::Spritesheet];

    /// Its word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Thumbnail => "thumbnail",
            Self::Spritesheet => "spritesheet",
        }
    }

    /// What is added to a video's id and a dot to name its file.
    fn suffix(self) -> &'static str {
        match self {
            Self::Video => SinkKind::DEFAULT.extension().unwrap_or_default(),
            Self::Thumbnail => "thumbnail.png",
            Self::Spritesheet => "spritesheet.png",
        }
    }
}

impl DataFolder {
    /// Opens a folder, or makes it, and locks it.
    ///
    /// # Errors
    /// Another process uses it, or it cannot be written to.
    pub fn open(root: &Path) -> Result<Self, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| FolderError::Io { path, source }
        };
        let videos = root.join(VIDEOS);
        make_private(root).map_err(failed(root))?;
        fs::create_dir_all(&videos).map_err(failed(&videos))?;
        let lock = root.join(LOCK);
        let file = File::create(&lock).map_err(failed(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::InUse { path: root.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(FolderError::Io { path: lock, source }),
        }
        let text = videos.to_str().ok_or_else(|| FolderError::NotText { path: videos.clone() })?;
        Ok(Self { root: root.to_path_buf(), videos: text.to_string(), _lock: file })
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// Where a video's file is.
    pub fn path(&self, id: VideoId, asset: VideoAsset) -> String {
        format!("{}/{id}.{}", self.videos, asset.suffix())
    }

    /// Bytes of all files of a video.
    pub fn bytes_of(&self, id: VideoId) -> u64 {
        let assets = VideoAsset::ALL.map(|asset| PathBuf::from(self.path(id, asset)));
        let target = OutputTarget::new(&self.path(id, VideoAsset::Video)).ok();
        let sidecar = target.map(|target| target.sidecar().to_path_buf());
        let files = assets.into_iter().chain(sidecar);
        files.filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    /// Removes all files of a video; what cannot be removed is told to the log and stays until the next start.
    pub fn remove(&self, id: VideoId) {
        for asset in VideoAsset::ALL {
            remove(Path::new(&self.path(id, asset)));
        }
        if let Ok(target) = OutputTarget::new(&self.path(id, VideoAsset::Video)) {
            remove(target.sidecar());
            remove(&target.saved_job());
        }
    }

    /// Removes what no video needs: files of videos that failed or are gone, saved work of finished ones, and what was
    /// being written when a process ended.
    ///
    /// # Errors
    /// The folder or the database cannot be read.
    pub async fn tidy(&self, store: &Store) -> Result<(), StoreError> {
        let files = self.files().unwrap_or_default();
        let ids: Vec<VideoId> = files.iter().filter_map(|path| id_of(path)).collect();
        let mut kept = store.kept(ids).await?.into_iter();
        for path in files {
            let keep = match id_of(&path) {
                None => !is_partial(&path),
                Some(_) => match kept.next() {
                    Some(Kept::Unfinished) | None => true,
                    Some(Kept::Finished) => !has_extension(&path, SAVED_JOB_EXTENSION),
                    Some(Kept::Nothing) => false,
                },
            };
            if !keep {
                remove(&path);
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&self.videos)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }
}

/// Makes a folder that only its owner may look into: it holds the prompts of all keys. One that is there stays as it is.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn id_of(path: &Path) -> Option<VideoId> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// Whether it is what an interrupted write left.
fn is_partial(path: &Path) -> bool {
    has_extension(path, PARTIAL_EXTENSION)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(cause) = removed
        && cause.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %cause, "a file that is not needed cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::store::tests::{new_video, owner};
    use super::super::store::{Acceptance, QueueLimits};
    use super::*;

    async fn accepted(store: &Store) -> VideoId {
        let limits = QueueLimits { waiting: 9, of_owner: 9 };
        match store.accept(new_video("a", 0), limits).await.unwrap() {
            Acceptance::Accepted(record) => record.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_has_one_server() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        assert!(matches!(DataFolder::open(root.path()), Err(FolderError::InUse { .. })));
        drop(folder);
        assert!(DataFolder::open(root.path()).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_new_folder_is_its_owner_s_alone_and_one_that_is_there_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let new = root.path().join("new");
        DataFolder::open(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o750)).unwrap();
        DataFolder::open(&new).unwrap();
        assert_eq!(mode(&new), 0o750);
    }

    #[actix::test]
    async fn tidying_leaves_what_is_needed() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let store = Store::open(&folder.database()).unwrap();
        let finished = accepted(&store).await;
        store.claim(1).await.unwrap();
        store.complete(finished, "00".into(), 1, 1).await.unwrap();
        let (waiting, gone) = (accepted(&store).await, VideoId::random().unwrap());
        for id in [finished, waiting, gone] {
            for asset in VideoAsset::ALL {
                fs::write(folder.path(id, asset), "").unwrap();
            }
            fs::write(format!("{}.sora-job", folder.path(id, VideoAsset::Video)), "").unwrap();
        }
        fs::write(root.path().join("videos/.sora-123.partial"), "").unwrap();
        fs::write(root.path().join("videos/notes.txt"), "").unwrap();
        folder.tidy(&store).await.unwrap();
        let count = |id| folder.files().unwrap().iter().filter(|path| id_of(path) == id).count();
        let counts = [Some(finished), Some(waiting), Some(gone), None].map(count);
        assert_eq!(counts, [3, 4, 0, 1]);
        store.delete(&owner("a"), finished).await.unwrap();
        folder.remove(finished);
        assert_eq!(count(Some(finished)), 0);
    }
}
