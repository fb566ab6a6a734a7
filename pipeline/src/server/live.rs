//! What is going on right now: how far each video in the graph is, and that the queue has changed.
//!
//! Watchers see the latest state and not each one, so whoever reads slowly costs nothing and holds up nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use sora_actors::PreviewRequester;
use sora_actors::messages::VideoChunk;
use sora_telemetry::record_server_trouble;
use tokio::sync::{Notify, watch};
use utoipa::ToSchema;

use super::ids::VideoId;

/// Which part of the work a video is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Waiting, in the server's queue or at the graph's door.
    Queued,
    /// The prompt is being embedded.
    Embedding,
    /// The latent is being denoised.
    Denoising,
    /// Frames are being decoded and written.
    Decoding,
}

/// How far a video in the graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which part of the work it is in.
    pub stage: Stage,
    /// Denoising steps that are done.
    pub step: usize,
    /// Denoising steps that there will be at most.
    pub steps: usize,
    /// Frames that are written.
    pub frames: usize,
    /// Frames that there will be.
    pub num_frames: usize,
}

/// Shares of a bar's hundred: our choice, near what the parts take with the models on a CPU.
const DENOISING_BEGINS: usize = 5;
const DECODING_BEGINS: usize = 85;
const ALMOST_DONE: usize = 99;

impl Progress {
    /// Of a video that is handed to the graph.
    pub fn begin(steps: usize, num_frames: usize) -> Self {
        Self { stage: Stage::Queued, step: 0, steps, frames: 0, num_frames }
    }

    /// Of a hundred; 100 is for finished videos.
    pub fn percent(&self) -> u8 {
        let share = |from: usize, to: usize, done: usize, all: usize| {
            from + (to - from) * done.min(all) / all.max(1)
        };
        let percent = match self.stage {
            Stage::Queued => 0,
            Stage::Embedding => 1,
            Stage::Denoising => share(DENOISING_BEGINS, DECODING_BEGINS, self.step, self.steps),
            Stage::Decoding => share(DECODING_BEGINS, ALMOST_DONE, self.frames, self.num_frames),
        };
        u8::try_from(percent).unwrap_or(u8::MAX)
    }
}

/// A video in the graph, as those see it who watch it or want it to end.
struct LiveVideo {
    progress: watch::Sender<Progress>,
    given_up: watch::Sender<bool>,
    /// What asks the graph for pictures, once the video is in it.
    previews: Option<PreviewRequester>,
    latest_picture: Option<Arc<VideoChunk>>,
}

/// What of the server can be in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Taking videos up and making them.
    Making,
    /// Noting down what came of them.
    Noting,
}

/// Why a part does not work at the moment.
#[derive(Debug, Default)]
struct Troubles {
    making: Option<&'static str>,
    noting: Option<&'static str>,
}

impl Troubles {
    fn first(&self) -> Option<&'static str> {
        self.making.or(self.noting)
    }
}

/// All videos in the graph, and the queue's changes.
pub struct LiveVideos {
    videos: Mutex<HashMap<VideoId, LiveVideo>>,
    /// Counts changes of the queue and of statuses.
    changes: watch::Sender<u64>,
    /// Wakes the one who takes videos out of the queue.
    wake: Notify,
    stopping: watch::Sender<bool>,
    troubles: Mutex<Troubles>,
}

/// The dispatcher's end of a video in the graph; with it, the video leaves the list.
pub struct LiveHandle<'a> {
    live: &'a LiveVideos,
    id: VideoId,
    given_up: watch::Receiver<bool>,
}

impl LiveVideos {
    /// None yet.
    pub fn new() -> Self {
        Self {
            videos: Mutex::default(),
            changes: watch::Sender::new(0),
            wake: Notify::new(),
            stopping: watch::Sender::new(false),
            troubles: Mutex::default(),
        }
    }

    /// Enters a video.
    pub fn enter(&self, id: VideoId, progress: Progress) -> LiveHandle<'_> {
        let video = LiveVideo {
            progress: watch::Sender::new(progress),
            given_up: watch::Sender::new(false),
            previews: None,
            latest_picture: None,
        };
        let given_up = video.given_up.subscribe();
        self.videos().insert(id, video);
        LiveHandle { live: self, id, given_up }
    }

    /// How far a video is; `None` when it is not in the graph.
    pub fn progress(&self, id: VideoId) -> Option<Progress> {
        self.videos().get(&id).map(|video| *video.progress.borrow())
    }

    /// How far all videos in the graph are.
    pub fn all_progress(&self) -> HashMap<VideoId, Progress> {
        self.videos().iter().map(|(&id, video)| (id, *video.progress.borrow())).collect()
    }

    /// Follows a video in the graph.
    pub fn watch(&self, id: VideoId) -> Option<watch::Receiver<Progress>> {
        self.videos().get(&id).map(|video| video.progress.subscribe())
    }

    /// The latest picture of a video in the graph, if there is one; and asks the graph for the next, so that only videos
    /// that somebody looks at cost the decoder's time.
    pub fn picture(&self, id: VideoId) -> Option<Arc<VideoChunk>> {
        let videos = self.videos();
        let video = videos.get(&id)?;
        if let Some(previews) = &video.previews {
            previews.request();
        }
        video.latest_picture.clone()
    }

    /// Has work on a video end.
    pub fn give_up(&self, id: VideoId) {
        if let Some(video) = self.videos().get(&id) {
            video.given_up.send_replace(true);
        }
    }

    /// Tells that the queue or a status has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        self.wake.notify_one();
    }

    /// Follows the changes of the queue and of statuses.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits for a change since the last wait; for one waiter.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Says why a part does not work at the moment, or that it works again.
    pub fn set_trouble(&self, part: Part, trouble: Option<&'static str>) {
        let mut troubles = self.troubles();
        match part {
            Part::Making => troubles.making = trouble,
            Part::Noting => troubles.noting = trouble,
        }
        record_server_trouble(troubles.first().is_some());
    }

    /// Why no video can be made at the moment.
    pub fn trouble(&self) -> Option<&'static str> {
        self.troubles().first()
    }

    /// Tells everybody that the server is stopping.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Completes when the server is stopping.
    pub async fn stopping(&self) {
        // The sender is this object's own, so it is there.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn videos(&self) -> MutexGuard<'_, HashMap<VideoId, LiveVideo>> {
        self.videos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LiveVideos {
    fn default() -> Self {
        Self::new()
    }
}

impl LiveHandle<'_> {
    /// Changes what watchers see.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(video) = self.live.videos().get(&self.id) {
            video.progress.send_modify(change);
        }
    }

    /// Tells where pictures of the video can be asked for.
    pub fn offer_pictures(&self, previews: PreviewRequester) {
        if let Some(video) = self.live.videos().get_mut(&self.id) {
            video.previews = Some(previews);
        }
    }

    /// Puts a picture in the place of the one before.
    pub fn show(&self, picture: VideoChunk) {
        if let Some(video) = self.live.videos().get_mut(&self.id) {
            video.latest_picture = Some(Arc::new(picture));
        }
    }

    /// Whether nobody wants the video any more.
    pub fn is_given_up(&self) -> bool {
        *self.given_up.borrow()
    }

    /// Completes when nobody wants the video any more.
    pub async fn given_up(&mut self) {
        // The sender is in the list as long as this handle is.
        let _ = self.given_up.wait_for(|given_up| *given_up).await;
    }
}

impl Drop for LiveHandle<'_> {
    fn drop(&mut self) {
        self.live.videos().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn progress_only_rises_and_leaves_a_hundred_to_the_end() {
        let mut progress = Progress::begin(30, 17);
        let mut last = progress.percent();
        let mut states = vec![(Stage::Embedding, 0, 0)];
        states.extend((0..=30).map(|step| (Stage::Denoising, step, 0)));
        states.extend((0..=17).map(|frames| (Stage::Decoding, 30, frames)));
        for (stage, step, frames) in states {
            (progress.stage, progress.step, progress.frames) = (stage, step, frames);
            assert!(progress.percent() >= last, "{progress:?}");
            last = progress.percent();
        }
        assert_eq!(last, 99);
        assert_eq!(Progress { steps: 0, num_frames: 0, ..progress }.percent(), 85);
    }

    #[test]
    fn a_part_that_works_does_not_hide_another_one_s_trouble() {
        let live = LiveVideos::new();
        live.set_trouble(Part::Making, Some("no weights"));
        live.set_trouble(Part::Noting, Some("no disk"));
        live.set_trouble(Part::Noting, None);
        assert_eq!(live.trouble(), Some("no weights"));
        live.set_trouble(Part::Noting, Some("no disk"));
        live.set_trouble(Part::Making, None);
        assert_eq!(live.trouble(), Some("no disk"));
        live.set_trouble(Part::Noting, None);
        assert_eq!(live.trouble(), None);
    }

    #[actix::test]
    async fn a_video_is_seen_and_given_up_while_it_is_in_the_graph() {
        let (live, id) = (LiveVideos::new(), VideoId::random().unwrap());
        live.give_up(id);
        let mut handle = live.enter(id, Progress::begin(3, 17));
        assert!(!handle.is_given_up(), "what came before does not count");
        let watcher = live.watch(id).unwrap();
        handle.update(|progress| progress.step = 2);
        assert_eq!(watcher.borrow().step, 2);
        live.give_up(id);
        handle.given_up().await;
        drop(handle);
        assert!(live.progress(id).is_none() && live.watch(id).is_none());
    }
}
