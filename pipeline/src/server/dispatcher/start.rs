//! Where work on a video starts: at what an earlier process left of it.

use std::path::Path;
use std::sync::Arc;

use sora_actors::messages::{GenerationRequest, JobCheckpoint};

use super::writer::file_sha256;
use crate::output::{Earlier, OutputTarget};
use crate::saved_job::{SavedJob, SavedJobError};
use crate::server::folder::{DataFolder, VideoAsset};
use crate::server::ids::VideoId;
use crate::sidecar::{Compute, ModelIdentity};

/// Where work on a video starts.
pub(super) enum Start {
    /// The video is there; its SHA-256.
    Finished(String),
    /// So much of the work is saved.
    At(Arc<JobCheckpoint>),
    /// Nothing usable is there.
    Afresh,
    /// The disk refuses to read what is there, and may not do so later.
    Unreadable,
}

/// What must fit what was left.
pub(super) struct StartSearch {
    pub(super) id: VideoId,
    pub(super) request: GenerationRequest,
    pub(super) folder: Arc<DataFolder>,
    pub(super) model: ModelIdentity,
    pub(super) compute: Compute,
}

impl StartSearch {
    /// Looks at the files. What cannot be used counts for nothing: the seed is in the record, so the same bytes come out. What
    /// cannot be read must not be replaced: it may be hours of work.
    pub(super) fn find(self) -> Start {
        let Self { id, request, folder, model, compute } = self;
        let path = folder.path(id, VideoAsset::Video);
        let usable = |saved: &SavedJob| -> Result<bool, SavedJobError> {
            let path = Path::new(&path);
            saved.check_model(&model, path)?;
            saved.check_compute(&compute, path)?;
            Ok(saved.checkpoint.request == request)
        };
        let Ok(target) = OutputTarget::new(&path) else { return Start::Afresh };
        match target.earlier() {
            Ok(Earlier::Nothing) => Start::Afresh,
            Ok(Earlier::Finished(video)) => {
                let is_same =
                    video.model.fingerprint == model.fingerprint && video.request == request;
                let has_pictures = [VideoAsset::Thumbnail, VideoAsset::Spritesheet]
                    .iter()
                    .all(|&asset| Path::new(&folder.path(id, asset)).exists());
                if !(is_same && has_pictures) {
                    return Start::Afresh;
                }
                file_sha256(Path::new(&path)).map_or_else(
                    |cause| {
                        tracing::error!(%id, %cause, "a whole video cannot be read");
                        Start::Unreadable
                    },
                    Start::Finished,
                )
            }
            Ok(Earlier::Saved(saved)) if usable(&saved).unwrap_or(false) => {
                Start::At(Arc::new(saved.checkpoint))
            }
            Ok(Earlier::Saved(_)) => {
                tracing::warn!(%id, "saved work is of another request or model: beginning afresh");
                Start::Afresh
            }
            Err(cause @ SavedJobError::Io { .. }) => {
                tracing::error!(%id, %cause, "saved work cannot be read");
                Start::Unreadable
            }
            Err(cause) => {
                tracing::warn!(%id, %cause, "saved work cannot be used: beginning afresh");
                Start::Afresh
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use sora_actors::JobJournal;

    use super::*;
    use crate::saved_job::FileJournal;
    use crate::saved_job::tests::saved;

    #[test]
    fn damaged_work_is_begun_afresh_and_unreadable_work_is_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(DataFolder::open(root.path()).unwrap());
        let (id, SavedJob { model, compute, checkpoint }) = (VideoId::random().unwrap(), saved());
        let start = || {
            let (folder, request) = (folder.clone(), checkpoint.request.clone());
            StartSearch { id, request, folder, model: model.clone(), compute: compute.clone() }
                .find()
        };
        assert!(matches!(start(), Start::Afresh));
        let target = OutputTarget::new(&folder.path(id, VideoAsset::Video)).unwrap();
        let journal = FileJournal::new(target.saved_job(), model.clone(), compute.clone());
        journal.save(&checkpoint).unwrap();
        assert!(matches!(start(), Start::At(found) if *found == checkpoint));
        fs::write(target.saved_job(), "not what was saved").unwrap();
        assert!(matches!(start(), Start::Afresh));
        // Reading a folder as a file is refused everywhere.
        journal.remove().unwrap();
        fs::create_dir(target.saved_job()).unwrap();
        assert!(matches!(start(), Start::Unreadable));
    }
}
