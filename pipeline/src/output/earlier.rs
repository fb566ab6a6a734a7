//! What earlier runs left where videos go.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use sora_actors::messages::GenerationRequest;

use super::{NamingFacts, OutputError, OutputTarget};
use crate::saved_job::{SAVED_JOB_EXTENSION, SavedJob, SavedJobError};
use crate::sidecar::MadeVideo;

/// What an earlier run left at a target.
#[derive(Debug, Clone, PartialEq)]
pub enum Earlier {
    /// Nothing that can be gone on with.
    Nothing,
    /// Unfinished work.
    Saved(Box<SavedJob>),
    /// The whole video.
    Finished(Box<MadeVideo>),
}

impl Earlier {
    /// What was asked for.
    pub fn request(&self) -> Option<&GenerationRequest> {
        match self {
            Self::Nothing => None,
            Self::Saved(job) => Some(&job.checkpoint.request),
            Self::Finished(video) => Some(&video.request),
        }
    }
}

impl OutputTarget {
    /// The file beside the video that its work is saved in until it is finished.
    pub fn saved_job(&self) -> PathBuf {
        let mut name = self.video.clone().into_os_string();
        name.push(".");
        name.push(SAVED_JOB_EXTENSION);
        name.into()
    }

    /// What an earlier run left here. Saved work of the very video that is here counts for nothing.
    ///
    /// # Errors
    /// There is a file for saved work that cannot be used.
    pub fn earlier(&self) -> Result<Earlier, SavedJobError> {
        let made = (self.video.exists() && self.sidecar_is_own())
            .then(|| MadeVideo::read(&self.sidecar))
            .flatten();
        let saved = match SavedJob::load(&self.saved_job()) {
            Ok(saved) => Some(saved),
            Err(SavedJobError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        Ok(match (saved, made) {
            (Some(saved), Some(made)) if saved.is_of(&made) => Earlier::Finished(Box::new(made)),
            (Some(saved), _) => Earlier::Saved(Box::new(saved)),
            (None, Some(made)) => Earlier::Finished(Box::new(made)),
            (None, None) => Earlier::Nothing,
        })
    }

    /// Names videos as [`OutputTarget::name_all`] named them in an earlier run that did not finish all of them: without a
    /// wish, a video has the name at which it was begun or, failing that, finished, and else the next free one.
    ///
    /// # Arguments
    /// With `any_seed`, earlier videos of the same prompt are meant whatever their seed.
    ///
    /// # Errors
    /// As [`OutputTarget::name_all`].
    pub fn find_all(
        wish: Option<&str>,
        videos: &[NamingFacts],
        any_seed: bool,
    ) -> Result<Vec<Self>, OutputError> {
        Self::name_each(wish, videos, |facts, taken| {
            let is_meant = |request: &GenerationRequest| {
                request.prompt == facts.prompt && (any_seed || request.seed == facts.seed)
            };
            Self::begun_or_free(facts, taken, is_meant)
        })
    }

    fn begun_or_free(
        facts: &NamingFacts,
        taken: &HashSet<PathBuf>,
        is_meant: impl Fn(&GenerationRequest) -> bool,
    ) -> Option<Self> {
        let mut finished = None;
        for target in Self::after_prompt(&facts.prompt).filter(|target| !target.is_among(taken)) {
            if target.is_free() {
                return finished.or(Some(target));
            }
            match target.earlier() {
                Ok(Earlier::Saved(job)) if is_meant(&job.checkpoint.request) => {
                    return Some(target);
                }
                Ok(Earlier::Finished(video)) if is_meant(&video.request) => {
                    finished.get_or_insert(target);
                }
                Ok(_) => {}
                // It may be what is looked for; whoever reads it is told what is wrong with it.
                Err(_) => return Some(target),
            }
        }
        finished
    }
}
