//! One video on its way, as the app holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sora_actors::{JobCanceller, PreviewRequester};

use crate::saved::KeptJob;

/// One video on its way. Dropping it cancels the job; then what was done stays saved, where [`SoraJob::cancel`] deletes it.
#[derive(uniffi::Object)]
pub struct SoraJob {
    pub(crate) canceller: JobCanceller,
    pub(crate) previews: PreviewRequester,
    pub(crate) kept: Arc<KeptJob>,
    /// Whether the listener has heard the last of it.
    pub(crate) over: Arc<AtomicBool>,
}

#[uniffi::export]
impl SoraJob {
    /// Names the job among the saved ones, should the app end before it does.
    pub fn key(&self) -> String {
        self.kept.key().to_string()
    }

    /// Ends the job and deletes what was done for it; `false` when it was over. It waits for nothing: the stages give the job up at
    /// their next block, and what was done is deleted by the time its listener hears of the end.
    pub fn cancel(&self) -> bool {
        self.kept.give_up(|| self.canceller.cancel())
    }

    /// Asks for a preview, which comes after one of the next steps, if nothing is in its way then.
    pub fn request_preview(&self) {
        self.previews.request();
    }

    /// Whether the listener has heard the last of it.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Drop for SoraJob {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}
