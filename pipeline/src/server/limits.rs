//! What a client may ask for.

use crate::server::api::StreamLimits;
use crate::server::store::QueueLimits;

/// Bounds on requests, so that one client cannot take what is there for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Characters of a prompt.
    pub prompt_chars: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Frames of a video.
    pub frames: usize,
    /// Pixels of a frame.
    pub frame_pixels: usize,
    /// How many videos may wait.
    pub queue: QueueLimits,
    /// Streams of events at a time.
    pub event_streams: StreamLimits,
}

impl Default for RequestLimits {
    /// Our choices. A prompt and its settings take some kilobytes; 408 frames are Open-Sora's `16s`, 1280x720 its largest
    /// trained size; nobody samples with more than 200 steps. A thousand prompts are a night's work for a small device.
    /// A page of the browser follows what is on it, some dozens of videos at most.
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            prompt_chars: 4096,
            steps: 200,
            frames: 408,
            frame_pixels: 1280 * 720,
            queue: QueueLimits { waiting: 1000, of_owner: usize::MAX },
            event_streams: StreamLimits { all: 256, of_key: 64 },
        }
    }
}
