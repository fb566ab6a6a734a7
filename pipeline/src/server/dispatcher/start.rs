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
    /// Looks at the files. What cannot be used counts for nothing: the seed is in the record, so the same bytes come out.
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
                let is_whole = is_same && has_pictures;
                let sha256 = is_whole.then(|| file_sha256(Path::new(&path)).ok()).flatten();
                sha256.map_or(Start::Afresh, Start::Finished)
            }
            Ok(Earlier::Saved(saved)) if usable(&saved).unwrap_or(false) => {
                Start::At(Arc::new(saved.checkpoint))
            }
            Ok(Earlier::Saved(_)) => {
                tracing::warn!(%id, "saved work is of another request or model: beginning afresh");
                Start::Afresh
            }
            Err(cause) => {
                tracing::warn!(%id, %cause, "saved work cannot be used: beginning afresh");
                Start::Afresh
            }
        }
    }
}
