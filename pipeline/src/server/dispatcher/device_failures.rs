//! When a device that fails is to blame, and when it is the video.
//!
//! A video whose own computation the device refuses, say for its size, looks like any other on a device that fails. What
//! tells them apart is that others are made meanwhile.

use std::collections::HashMap;

use crate::server::ids::VideoId;

/// So many failures, with another video made between each and the next, are a video's own. Our choice: a device that
/// several programs share may fail a few times by chance.
const MOST_FAILURES: u32 = 5;

/// The device's failures at each video of this process that is not over.
#[derive(Debug, Default)]
pub(super) struct DeviceFailures {
    /// Videos that were made.
    made: u64,
    videos: HashMap<VideoId, Failures>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    /// How many videos were made before the last one that counts.
    made_before: u64,
}

impl DeviceFailures {
    /// A video was made.
    pub(super) fn made(&mut self, id: VideoId) {
        self.made += 1;
        self.over(id);
    }

    /// A video will not be tried again.
    pub(super) fn over(&mut self, id: VideoId) {
        self.videos.remove(&id);
    }

    /// The device failed at a video; whether that is the video's own doing.
    pub(super) fn is_of_video(&mut self, id: VideoId) -> bool {
        let made = self.made;
        let failures = self.videos.entry(id).or_insert(Failures { count: 1, made_before: made });
        if made > failures.made_before {
            *failures = Failures { count: failures.count + 1, made_before: made };
        }
        failures.count >= MOST_FAILURES
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_device_that_fails_all_videos_is_to_blame_and_one_that_makes_others_is_not() {
        let mut failures = DeviceFailures::default();
        let [video, other] = [(); 2].map(|()| VideoId::random().unwrap());
        for _ in 0..100 {
            assert!(!failures.is_of_video(video) && !failures.is_of_video(other));
        }
        for _ in 2..MOST_FAILURES {
            failures.made(other);
            assert!(!failures.is_of_video(video) && !failures.is_of_video(video));
        }
        failures.made(other);
        assert!(failures.is_of_video(video));
        failures.over(video);
        assert!(!failures.is_of_video(video), "it begins anew");
    }
}
