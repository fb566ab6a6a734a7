//! Videos that are not finished: what was asked for, and what was done, in files that outlive the app.
//!
//! Each has a key. `KEY.json` says what was asked for, from the moment it was accepted; `KEY.sora-job` holds the work, from
//! the moment its prompt is embedded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sora_actors::messages::{GenerationRequest, JobCheckpoint};
use sora_actors::{JobJournal, JournalError};
use sora_models::sizes::VideoSize;
use sora_pipeline::saved_job::{
    FileJournal, PARTIAL_EXTENSION, SAVED_JOB_EXTENSION, SavedJob, exact_json,
};
use sora_pipeline::sidecar::{Compute, ModelIdentity};

use crate::error::RunnerError;

/// A video that was begun and is not finished.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct UnfinishedVideo {
    /// Names it for [`crate::SoraRunner::continue_job`].
    pub key: String,
    /// Its prompt.
    pub prompt: String,
    /// Its seed.
    pub seed: u64,
    /// Width of a frame in pixels.
    pub width_px: u32,
    /// Height of a frame in pixels.
    pub height_px: u32,
    /// Number of frames.
    pub frames: u32,
    /// Frames a second.
    pub fps: f64,
    /// Steps that are done.
    pub steps_done: u32,
    /// Of how many.
    pub steps: u32,
    /// Why it cannot go on here, if it cannot.
    pub obstacle: Option<String>,
}

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

/// The folder of unfinished videos.
pub(crate) struct JobStore {
    folder: PathBuf,
    model: ModelIdentity,
    compute: Compute,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Jobs that are under way.
    active: BTreeMap<String, VideoSize>,
    /// Which journal of a key may write: the latest one, until the work is thrown away.
    writers: BTreeMap<String, u64>,
    journals: u64,
}

impl JobStore {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(
        folder: &Path,
        model: ModelIdentity,
        compute: Compute,
    ) -> Result<Arc<Self>, RunnerError> {
        fs::create_dir_all(folder).map_err(|cause| {
            RunnerError::system(format!("{} cannot be made", folder.display()), &cause)
        })?;
        remove_unfinished_files(folder);
        let (folder, state) = (folder.to_path_buf(), Mutex::default());
        Ok(Arc::new(Self { folder, model, compute, state }))
    }

    /// Keeps a new video from now on.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: &GenerationRequest,
    ) -> Result<KeptJob, RunnerError> {
        let (model, request) = (self.model.clone(), request.clone());
        let size = request.video_settings().size;
        let saved = SavedRequest { format: REQUEST_FORMAT.into(), model, request };
        let text = exact_json::to_text(&saved).map_err(|cause| {
            RunnerError::BadInput(format!("the request cannot be saved: {cause}"))
        })?;
        let key = self.write_new(&text).map_err(|cause| {
            RunnerError::system(format!("{} cannot be written", self.folder.display()), &cause)
        })?;
        Ok(self.keep(key, size))
    }

    /// Takes up an unfinished video again.
    pub(crate) fn claim(
        self: &Arc<Self>,
        key: &str,
    ) -> Result<(KeptJob, GenerationRequest, Option<JobCheckpoint>), RunnerError> {
        let SavedRequest { model, request, .. } = self.request(key)?;
        if self.state().active.contains_key(key) {
            return Err(RunnerError::Busy(format!("{key} is being made at this moment")));
        }
        if model.fingerprint != self.model.fingerprint {
            return Err(RunnerError::SavedWork(other_model(&model, &self.model)));
        }
        let checkpoint = self.checkpoint(key)?;
        let kept = self.keep(key.to_string(), request.video_settings().size);
        Ok((kept, request, checkpoint))
    }

    /// Throws the work on a video away that is not under way.
    pub(crate) fn forget(&self, key: &str) -> Result<(), RunnerError> {
        check_key(key)?;
        if self.state().active.contains_key(key) {
            return Err(RunnerError::Busy(format!("{key} is being made: cancel it instead")));
        }
        if !self.path(key, REQUEST_EXTENSION).exists() {
            return Err(not_found(key));
        }
        self.discard(key)
            .map_err(|cause| RunnerError::system(format!("{key} cannot be deleted"), &cause))
    }

    /// All unfinished videos that are not under way, in the order in which they were begun.
    pub(crate) fn unfinished(&self) -> Result<Vec<UnfinishedVideo>, RunnerError> {
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
        let active: Vec<_> = self.state().active.keys().cloned().collect();
        keys.retain(|key| !active.contains(key));
        // A file of somebody else's is none of ours to list.
        Ok(keys.iter().filter_map(|key| self.describe(key)).collect())
    }

    /// The sizes of all videos that are under way.
    pub(crate) fn active_sizes(&self) -> Vec<VideoSize> {
        self.state().active.values().copied().collect()
    }

    fn describe(&self, key: &str) -> Option<UnfinishedVideo> {
        let SavedRequest { model, request, .. } = self.request(key).ok()?;
        let checkpoint = match model.fingerprint == self.model.fingerprint {
            true => self.checkpoint(key).map_err(|cause| cause.to_string()),
            false => Err(other_model(&model, &self.model)),
        };
        let steps = request.sampling.steps;
        let done = checkpoint.as_ref().ok().and_then(Option::as_ref);
        Some(UnfinishedVideo {
            key: key.to_string(),
            seed: request.seed,
            width_px: request.width_px as u32,
            height_px: request.height_px as u32,
            frames: request.num_frames as u32,
            fps: request.fps,
            steps_done: done.map_or(0, |checkpoint| checkpoint.steps_done().0) as u32,
            steps: steps as u32,
            obstacle: checkpoint.err(),
            prompt: request.prompt,
        })
    }

    fn request(&self, key: &str) -> Result<SavedRequest, RunnerError> {
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

    /// What was done for a video; `None` when its prompt is not embedded yet.
    fn checkpoint(&self, key: &str) -> Result<Option<JobCheckpoint>, RunnerError> {
        let path = self.path(key, SAVED_JOB_EXTENSION);
        if !path.exists() {
            return Ok(None);
        }
        let SavedJob { model, compute, checkpoint } = SavedJob::load(&path)?;
        if model.fingerprint != self.model.fingerprint {
            return Err(RunnerError::SavedWork(other_model(&model, &self.model)));
        }
        if compute != self.compute {
            let Compute { device, dtype } = compute;
            return Err(RunnerError::SavedWork(format!(
                "the video was begun on {device} in {dtype}: go on there, since here it would become another one"
            )));
        }
        Ok(Some(checkpoint))
    }

    fn keep(self: &Arc<Self>, key: String, size: VideoSize) -> KeptJob {
        let mut state = self.state();
        state.journals += 1;
        let writer = state.journals;
        state.active.insert(key.clone(), size);
        state.writers.insert(key.clone(), writer);
        drop(state);
        let path = self.path(&key, SAVED_JOB_EXTENSION);
        let file = FileJournal::new(path, self.model.clone(), self.compute.clone());
        let journal =
            Arc::new(StoreJournal { store: self.clone(), key: key.clone(), writer, file });
        KeptJob { store: self.clone(), key, journal }
    }

    /// Deletes what is kept of a video; whoever still works on it saves no more.
    fn discard(&self, key: &str) -> io::Result<()> {
        let mut state = self.state();
        state.writers.remove(key);
        // The request last: what is left of a crash in between can be begun afresh.
        for extension in [SAVED_JOB_EXTENSION, REQUEST_EXTENSION] {
            match fs::remove_file(self.path(key, extension)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a file under a key that nothing else has.
    fn write_new(&self, text: &str) -> io::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        for number in 0.. {
            // Keys sort by time for as long as milliseconds have 13 digits: some centuries.
            let key = format!("{now:013}-{number}");
            match fs::File::create_new(self.path(&key, REQUEST_EXTENSION)) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()?;
                    return Ok(key);
                }
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(cause),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{key}.{extension}"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
fn check_key(key: &str) -> Result<(), RunnerError> {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if plain { Ok(()) } else { Err(not_found(key)) }
}

fn not_found(key: &str) -> RunnerError {
    RunnerError::NotFound(format!("no unfinished video is called {key}"))
}

fn other_model(saved: &ModelIdentity, at_hand: &ModelIdentity) -> String {
    format!(
        "the video was begun with another model ({}) than this one ({})",
        saved.name, at_hand.name
    )
}

/// A video that is under way, and what is kept of it.
pub(crate) struct KeptJob {
    store: Arc<JobStore>,
    key: String,
    journal: Arc<StoreJournal>,
}

impl KeptJob {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn journal(&self) -> Arc<dyn JobJournal> {
        self.journal.clone()
    }

    /// The job is over: it can be taken up again.
    pub(crate) fn over(&self) {
        self.store.state().active.remove(&self.key);
    }

    /// Deletes what is kept: the video is finished, or nobody wants it.
    pub(crate) fn discard(&self) {
        if let Err(cause) = self.store.discard(&self.key) {
            tracing::warn!(key = self.key, %cause, "saved work cannot be deleted");
        }
    }
}

impl Drop for KeptJob {
    fn drop(&mut self) {
        self.store.state().active.remove(&self.key);
    }
}

/// Saves a job for as long as nobody else has taken it up, and it is not thrown away.
struct StoreJournal {
    store: Arc<JobStore>,
    key: String,
    writer: u64,
    file: FileJournal,
}

impl JobJournal for StoreJournal {
    fn is_due(&self) -> bool {
        self.file.is_due()
    }

    fn save(&self, checkpoint: &JobCheckpoint) -> Result<(), JournalError> {
        let state = self.store.state();
        match state.writers.get(&self.key) {
            Some(writer) if *writer == self.writer => self.file.save(checkpoint),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_models::bundle::GenerationConfig;
    use sora_pipeline::request_settings::default_request;

    use super::*;

    fn store(folder: &Path, fingerprint: &str) -> Arc<JobStore> {
        let model = ModelIdentity { name: "tiny".into(), fingerprint: fingerprint.into() };
        let compute = Compute { device: "cpu".into(), dtype: "f32".into() };
        JobStore::open(folder, model, compute).unwrap()
    }

    fn request() -> GenerationRequest {
        default_request("a cat", 7, &GenerationConfig::default())
    }

    #[test]
    fn a_request_is_there_from_the_beginning_until_it_is_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), "a");
        let kept = store.begin(&request()).unwrap();
        let key = kept.key().to_string();
        assert!(store.unfinished().unwrap().is_empty(), "it is under way");
        assert!(matches!(store.claim(&key), Err(RunnerError::Busy(_))));
        assert!(matches!(store.forget(&key), Err(RunnerError::Busy(_))));
        drop(kept);
        let found = store.unfinished().unwrap();
        assert_eq!(
            (found[0].key.as_str(), found[0].steps_done, found[0].steps),
            (key.as_str(), 0, 30)
        );
        let (kept, again, checkpoint) = store.claim(&key).unwrap();
        assert_eq!(again, request());
        assert!(checkpoint.is_none());
        kept.discard();
        drop(kept);
        assert!(store.unfinished().unwrap().is_empty());
        assert!(matches!(store.forget(&key), Err(RunnerError::NotFound(_))));
    }

    #[test]
    fn keys_from_outside_reach_no_other_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.json"), "{}").unwrap();
        let inner = folder.path().join("jobs");
        let store = store(&inner, "a");
        for key in ["", "../other", "other", "1/2"] {
            assert!(matches!(store.claim(key), Err(RunnerError::NotFound(_))), "{key}");
            assert!(matches!(store.forget(key), Err(RunnerError::NotFound(_))), "{key}");
        }
        assert!(folder.path().join("other.json").exists());
    }

    #[test]
    fn another_model_and_damage_are_obstacles() {
        let folder = tempfile::tempdir().unwrap();
        let key = store(folder.path(), "a").begin(&request()).unwrap().key().to_string();
        let other = store(folder.path(), "b");
        assert!(
            other.unfinished().unwrap()[0].obstacle.as_ref().unwrap().contains("another model")
        );
        assert!(matches!(other.claim(&key), Err(RunnerError::SavedWork(_))));
        fs::write(folder.path().join(format!("{key}.{SAVED_JOB_EXTENSION}")), "nonsense").unwrap();
        let same = store(folder.path(), "a");
        assert!(same.unfinished().unwrap()[0].obstacle.is_some());
        assert!(matches!(same.claim(&key), Err(RunnerError::SavedWork(_))));
        same.forget(&key).unwrap();
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
