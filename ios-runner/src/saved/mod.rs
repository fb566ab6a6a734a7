//! Videos that are not finished: what was asked for, and what was done, in files that outlive the app.
//!
//! Each has a key. `KEY.json` says what was asked for, from the moment it was accepted; `KEY.sora-job` holds the work, from
//! the moment its prompt is embedded.
//!
//! # Who may do what when
//! A key is reserved before anything is done with its files: for a run, or to delete it. Each run is a writer with a number of its
//! own, and each key has a gate that one writer at a time may pass: the latest one, until the work is thrown away. The lock of all
//! keys is held for a look at the maps, never while a file is written.

mod files;
mod kept_job;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sora_actors::messages::{GenerationRequest, JobCheckpoint};
use sora_pipeline::plan::PlannedVideo;
use sora_pipeline::sidecar::{Compute, ModelIdentity};

use self::files::{JobFiles, not_found};
use self::kept_job::Gate;
use crate::error::RunnerError;

pub(crate) use self::kept_job::KeptJob;

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

/// The folder of unfinished videos.
pub(crate) struct JobStore {
    files: JobFiles,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Keys that are reserved.
    active: BTreeMap<String, Active>,
    gates: BTreeMap<String, Arc<Gate>>,
    writers: u64,
    /// Whether the device is being checked, and no video may begin.
    checking: bool,
}

/// Who has reserved a key.
struct Active {
    writer: u64,
    /// Once it is known.
    video: Option<PlannedVideo>,
}

impl JobStore {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(
        folder: &Path,
        model: ModelIdentity,
        compute: Compute,
    ) -> Result<Arc<Self>, RunnerError> {
        let files = JobFiles::open(folder, model, compute)?;
        Ok(Arc::new(Self { files, state: Mutex::default() }))
    }

    /// Keeps a new video from now on.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: &GenerationRequest,
    ) -> Result<KeptJob, RunnerError> {
        for key in self.files.new_keys() {
            match self.reserve(&key) {
                Ok(kept) if !self.files.has(&key) => {
                    self.is_of(&kept, request.into());
                    let written = self.files.write_request(&key, request);
                    written.inspect_err(|_| self.is_no_video(&key))?;
                    return Ok(kept);
                }
                // The next one is free, but for a check of the device.
                Err(busy) if self.state().checking => return Err(busy),
                _ => {}
            }
        }
        Err(RunnerError::System("no key is free for another video".into()))
    }

    /// Takes up an unfinished video again.
    pub(crate) fn claim(
        self: &Arc<Self>,
        key: &str,
    ) -> Result<(KeptJob, GenerationRequest, Option<JobCheckpoint>), RunnerError> {
        files::check_key(key)?;
        let kept = self.reserve_video(key)?;
        let request = self.files.request(key)?;
        let checkpoint = self.files.checkpoint(key)?;
        self.is_of(&kept, (&request).into());
        Ok((kept, request, checkpoint))
    }

    /// Throws the work on a video away that is not under way.
    pub(crate) fn forget(self: &Arc<Self>, key: &str) -> Result<(), RunnerError> {
        files::check_key(key)?;
        self.reserve_video(key)?
            .delete()
            .map_err(|cause| RunnerError::system(format!("{key} cannot be deleted"), &cause))
    }

    /// All unfinished videos that are not under way, in the order in which they were begun.
    pub(crate) fn unfinished(&self) -> Result<Vec<UnfinishedVideo>, RunnerError> {
        let mut keys = self.files.keys()?;
        let active: Vec<_> = self.state().active.keys().cloned().collect();
        keys.retain(|key| !active.contains(key));
        // A file of somebody else's is none of ours to list.
        Ok(keys.iter().filter_map(|key| self.files.describe(key)).collect())
    }

    /// All videos that are under way.
    pub(crate) fn active_videos(&self) -> Vec<PlannedVideo> {
        self.state().active.values().filter_map(|active| active.video).collect()
    }

    /// Lets no video begin until what it gives is dropped.
    ///
    /// # Errors
    /// [`RunnerError::Busy`] while videos are under way, or while another check is.
    pub(crate) fn check_device(self: &Arc<Self>) -> Result<DeviceCheck, RunnerError> {
        let mut state = self.state();
        if state.checking {
            return Err(checking());
        }
        if !state.active.is_empty() {
            let videos = state.active.len();
            return Err(RunnerError::Busy(format!(
                "{videos} videos are under way: check when they are done"
            )));
        }
        state.checking = true;
        Ok(DeviceCheck(self.clone()))
    }

    /// Reserves a key for a new writer, which alone may write from now on.
    fn reserve(self: &Arc<Self>, key: &str) -> Result<KeptJob, RunnerError> {
        let mut state = self.state();
        if state.checking {
            return Err(checking());
        }
        if state.active.contains_key(key) {
            return Err(RunnerError::Busy(format!("{key} is being made at this moment")));
        }
        state.writers += 1;
        let writer = state.writers;
        state.active.insert(key.to_string(), Active { writer, video: None });
        let gate = state.gates.entry(key.to_string()).or_default().clone();
        drop(state);
        // This waits for a save of the run before.
        gate.give_to(writer);
        Ok(KeptJob::new(self.clone(), key.to_string(), writer, gate))
    }

    /// Reserves the key of an unfinished video.
    fn reserve_video(self: &Arc<Self>, key: &str) -> Result<KeptJob, RunnerError> {
        let kept = self.reserve(key)?;
        if !self.files.has(key) {
            self.is_no_video(key);
            return Err(not_found(key));
        }
        Ok(kept)
    }

    /// Forgets about a key that is reserved, and no video's.
    fn is_no_video(&self, key: &str) {
        self.state().gates.remove(key);
    }

    fn is_of(&self, kept: &KeptJob, video: PlannedVideo) {
        if let Some(active) = self.state().active.get_mut(kept.key()) {
            active.video = Some(video);
        }
    }

    /// A writer's run is over; a later one of the same key is not touched.
    fn release(&self, key: &str, writer: u64) {
        let mut state = self.state();
        if state.active.get(key).is_some_and(|active| active.writer == writer) {
            state.active.remove(key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device is being checked until this is dropped.
pub(crate) struct DeviceCheck(Arc<JobStore>);

impl Drop for DeviceCheck {
    fn drop(&mut self) {
        self.0.state().checking = false;
    }
}

fn checking() -> RunnerError {
    RunnerError::Busy("the device is being checked: try again when that is done".into())
}
