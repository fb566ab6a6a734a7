//! The files of unfinished videos, by key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sora_actors::messages::{GenerationRequest, JobCheckpoint};
use sora_pipeline::saved_job::{
    FileJournal, PARTIAL_EXTENSION, SAVED_JOB_EXTENSION, SavedJob, exact_json,
};
use sora_pipeline::sidecar::{Compute, ModelIdentity};
use sora_pipeline::whole_file::replace_durably;

use super::UnfinishedVideo;
use crate::error::RunnerError;

/// What `KEY.json` holds.
#[derive(Serialize, Deserialize)]
struct SavedRequest {
    /// [`REQUEST_FORMAT`].
    format: String,
    model: ModelIdentity,
    request: GenerationRequest,
}

const REQUEST_FORMAT: &str = "sora-request/1";
const REQUEST_EXTENSION: &str = "json";

/// The folder, and what its videos are computed with.
pub(super) struct JobFiles {
    folder: PathBuf,
    model: ModelIdentity,
    compute: Compute,
}

impl JobFiles {
    pub(super) fn open(
        folder: &Path,
        model: ModelIdentity,
        compute: Compute,
    ) -> Result<Self, RunnerError> {
        fs::create_dir_all(folder).map_err(|cause| {
            RunnerError::system(format!("{} cannot be made", folder.display()), &cause)
        })?;
        remove_unfinished_files(folder);
        Ok(Self { folder: folder.to_path_buf(), model, compute })
    }

    /// Keys for a video that is begun now, one after the other. Keys sort by time for as long as milliseconds have 13 digits:
    /// some centuries.
    pub(super) fn new_keys(&self) -> impl Iterator<Item = String> + use<> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        (0u32..).map(move |number| format!("{now:013}-{number}"))
    }

    /// Whether a video has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.path(key, REQUEST_EXTENSION).exists()
    }

    /// All keys, in the order in which their videos were begun.
    pub(super) fn keys(&self) -> Result<Vec<String>, RunnerError> {
        let unreadable = |cause: io::Error| {
            RunnerError::system(format!("{} cannot be read", self.folder.display()), &cause)
        };
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_request = path.extension().is_some_and(|end| end == REQUEST_EXTENSION);
            if let (true, Some(key)) = (is_request, path.file_stem().and_then(|stem| stem.to_str()))
            {
                keys.push(key.to_string());
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Writes down what was asked for.
    pub(super) fn write_request(
        &self,
        key: &str,
        request: &GenerationRequest,
    ) -> Result<(), RunnerError> {
        let (model, request) = (self.model.clone(), request.clone());
        let saved = SavedRequest { format: REQUEST_FORMAT.into(), model, request };
        let text = exact_json::to_text(&saved).map_err(|cause| {
            RunnerError::BadInput(format!("the request cannot be saved: {cause}"))
        })?;
        replace_durably(&self.path(key, REQUEST_EXTENSION), text.as_bytes()).map_err(|cause| {
            RunnerError::system(format!("{} cannot be written", self.folder.display()), &cause)
        })
    }

    /// What was asked for, of the model at hand.
    pub(super) fn request(&self, key: &str) -> Result<GenerationRequest, RunnerError> {
        let SavedRequest { model, request, .. } = self.saved_request(key)?;
        self.check_model(&model)?;
        Ok(request)
    }

    /// What was done for a video; `None` when its prompt is not embedded yet.
    pub(super) fn checkpoint(&self, key: &str) -> Result<Option<JobCheckpoint>, RunnerError> {
        let path = self.path(key, SAVED_JOB_EXTENSION);
        if !path.exists() {
            return Ok(None);
        }
        let SavedJob { model, compute, checkpoint } = SavedJob::load(&path)?;
        self.check_model(&model)?;
        if compute != self.compute {
            let Compute { device, dtype } = compute;
            return Err(RunnerError::SavedWork(format!(
                "the video was begun on {device} in {dtype}: go on there, since here it would become another one"
            )));
        }
        Ok(Some(checkpoint))
    }

    pub(super) fn describe(&self, key: &str) -> Option<UnfinishedVideo> {
        let SavedRequest { model, request, .. } = self.saved_request(key).ok()?;
        let checkpoint = self.check_model(&model).and_then(|()| self.checkpoint(key));
        let done = checkpoint.as_ref().ok().and_then(Option::as_ref);
        Some(UnfinishedVideo {
            key: key.to_string(),
            seed: request.seed,
            width_px: request.width_px as u32,
            height_px: request.height_px as u32,
            frames: request.num_frames as u32,
            fps: request.fps,
            steps_done: done.map_or(0, |checkpoint| checkpoint.steps_done().0) as u32,
            steps: request.sampling.steps as u32,
            obstacle: checkpoint.err().map(|cause| cause.to_string()),
            prompt: request.prompt,
        })
    }

    /// Where the work on a video is saved.
    pub(super) fn journal(&self, key: &str) -> FileJournal {
        let path = self.path(key, SAVED_JOB_EXTENSION);
        FileJournal::new(path, self.model.clone(), self.compute.clone())
    }

    /// Deletes all of a video.
    pub(super) fn delete(&self, key: &str) -> io::Result<()> {
        // The request last: what is left of a crash in between can be begun afresh.
        for extension in [SAVED_JOB_EXTENSION, REQUEST_EXTENSION] {
            match fs::remove_file(self.path(key, extension)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
        }
        Ok(())
    }

    fn saved_request(&self, key: &str) -> Result<SavedRequest, RunnerError> {
        check_key(key)?;
        let text = match fs::read_to_string(self.path(key, REQUEST_EXTENSION)) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(not_found(key)),
            Err(cause) => return Err(RunnerError::system(format!("{key} cannot be read"), &cause)),
        };
        let saved = exact_json::from_text::<SavedRequest>(&text).ok();
        saved.filter(|saved| saved.format == REQUEST_FORMAT).ok_or_else(|| {
            RunnerError::SavedWork(format!(
                "{key} is damaged, or another version saved it: delete it"
            ))
        })
    }

    fn check_model(&self, saved: &ModelIdentity) -> Result<(), RunnerError> {
        if saved.fingerprint == self.model.fingerprint {
            return Ok(());
        }
        Err(RunnerError::SavedWork(format!(
            "the video was begun with another model ({}) than this one ({})",
            saved.name, self.model.name
        )))
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{key}.{extension}"))
    }
}

/// Removes what an app left that was killed while it saved. What cannot be removed harms nobody.
fn remove_unfinished_files(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == PARTIAL_EXTENSION) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Keys come from outside and become names of files.
pub(super) fn check_key(key: &str) -> Result<(), RunnerError> {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if plain { Ok(()) } else { Err(not_found(key)) }
}

pub(super) fn not_found(key: &str) -> RunnerError {
    RunnerError::NotFound(format!("no unfinished video is called {key}"))
}
