#![allow(clippy::unwrap_used)]

use sora_actors::messages::GenerationRequest;
use sora_models::bundle::GenerationConfig;

use super::*;
use crate::request_settings::default_request;

const LIMITS: QueueLimits = QueueLimits { waiting: 100, of_owner: 100 };

pub(in crate::server) fn owner(name: &str) -> Owner {
    Owner(name.into())
}

pub(in crate::server) fn new_video(name: &str, priority: i64) -> NewVideo {
    NewVideo {
        id: VideoId::random().unwrap(),
        owner: owner(name),
        priority,
        request: default_request("a red circle", 7, &GenerationConfig::default()),
        model: "demo".into(),
        fingerprint: "0123".into(),
        metadata: None,
        remixed_from: None,
        idempotency_key: None,
        created_at: 1,
    }
}

/// A record for tests of what only passes it on.
pub(in crate::server) fn record() -> VideoRecord {
    let NewVideo { id, priority, request, model, .. } = new_video("a", 0);
    VideoRecord {
        sequence: 1,
        id,
        status: VideoStatus::InProgress,
        priority,
        request,
        is_readable: true,
        model,
        metadata: None,
        remixed_from: None,
        created_at: 1,
        completed_at: None,
        error: None,
        sha256: None,
        attempts: 1,
    }
}

pub(in crate::server) fn opened() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("videos.sqlite")).unwrap();
    (folder, store)
}

pub(in crate::server) async fn accepted(store: &Store, video: NewVideo) -> VideoId {
    match store.accept(video, LIMITS).await.unwrap() {
        Acceptance::Accepted(record) => record.id,
        other => panic!("{other:?}"),
    }
}

fn cancelled() -> VideoError {
    VideoError::new("cancelled", "as asked")
}

#[actix::test]
async fn a_video_is_kept_with_every_bit_of_its_settings() {
    let (folder, store) = opened();
    let mut video = new_video("a", 3);
    video.request.fps = 23.976_023_976_023_978;
    video.request.prompt = "\"; DROP TABLE videos; --\0é".into();
    video.metadata = Some([("shot".to_string(), "1".to_string())].into());
    let id = accepted(&store, video.clone()).await;
    drop(store);
    let store = Store::open(&folder.path().join("videos.sqlite")).unwrap();
    let record = store.get(&video.owner, id).await.unwrap().unwrap();
    assert_eq!((record.request, record.metadata), (video.request, video.metadata));
    assert_eq!((record.status, record.priority), (VideoStatus::Queued, 3));
    assert_eq!(store.get(&owner("b"), id).await.unwrap(), None, "another's");
}

#[actix::test]
async fn the_highest_priority_goes_first_and_then_the_oldest() {
    let (_folder, store) = opened();
    let mut ids = Vec::new();
    for priority in [0, 5, 0, 5] {
        ids.push(accepted(&store, new_video("a", priority)).await);
    }
    assert_eq!(store.position(ids[2]).await.unwrap(), Some(3));
    let mut order = Vec::new();
    while let Some(record) = store.claim(1).await.unwrap().videos {
        assert_eq!(record.status, VideoStatus::InProgress);
        order.push(record.id);
    }
    assert_eq!(order, [ids[1], ids[3], ids[0], ids[2]]);
    assert_eq!(store.position(ids[2]).await.unwrap(), None);
    let begun: Vec<_> =
        store.begun(1).await.unwrap().videos.iter().map(|record| record.id).collect();
    assert_eq!(begun, ids);
}

#[actix::test]
async fn a_full_queue_and_a_greedy_owner_are_refused() {
    let (_folder, store) = opened();
    let limits = QueueLimits { waiting: 3, of_owner: 2 };
    let accept = |name| store.accept(new_video(name, 0), limits);
    assert!(matches!(accept("a").await.unwrap(), Acceptance::Accepted(_)));
    assert!(matches!(accept("a").await.unwrap(), Acceptance::Accepted(_)));
    assert_eq!(accept("a").await.unwrap(), Acceptance::OwnerFull);
    assert!(matches!(accept("b").await.unwrap(), Acceptance::Accepted(_)));
    assert_eq!(accept("c").await.unwrap(), Acceptance::QueueFull);
    let claimed = store.claim(1).await.unwrap().videos.unwrap();
    assert_eq!(accept("a").await.unwrap(), Acceptance::OwnerFull, "those being made count");
    store.fail(claimed.id, cancelled(), 2).await.unwrap();
    assert!(matches!(accept("a").await.unwrap(), Acceptance::Accepted(_)));
}

#[actix::test]
async fn an_idempotency_key_means_one_video_an_owner() {
    let (_folder, store) = opened();
    let keyed = |name| NewVideo { idempotency_key: Some("k".into()), ..new_video(name, 0) };
    let first = accepted(&store, keyed("a")).await;
    let again = store.accept(keyed("a"), LIMITS).await.unwrap();
    assert!(matches!(again, Acceptance::Before(record) if record.id == first));
    assert_ne!(accepted(&store, keyed("b")).await, first);
}

#[actix::test]
async fn a_video_is_over_once() {
    let (_folder, store) = opened();
    let id = accepted(&store, new_video("a", 0)).await;
    let complete = || store.complete(id, "00".into(), 9, 5);
    assert!(!complete().await.unwrap(), "it was not begun");
    store.claim(1).await.unwrap();
    assert!(complete().await.unwrap());
    assert!(!complete().await.unwrap() && !store.fail(id, cancelled(), 6).await.unwrap());
    let again = store.cancel(&owner("a"), id, cancelled(), 7).await.unwrap();
    assert!(matches!(again, Cancellation::Over(record) if record.completed_at == Some(5)));
    let id = accepted(&store, new_video("a", 0)).await;
    let strange = store.cancel(&owner("b"), id, cancelled(), 7).await.unwrap();
    assert_eq!(strange, Cancellation::Unknown);
    let done = store.cancel(&owner("a"), id, cancelled(), 7).await.unwrap();
    assert!(matches!(done, Cancellation::Cancelled(record) if record.error == Some(cancelled())));
    assert_eq!(store.claim(1).await.unwrap().videos, None, "a cancelled video is not begun");
}

#[actix::test]
async fn lists_go_page_by_page_in_both_directions() {
    let (_folder, store) = opened();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(accepted(&store, new_video("a", 0)).await);
        accepted(&store, new_video("b", 0)).await;
    }
    for ascending in [true, false] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = Page { after, limit: 2, ascending };
            let listing = store.list(&owner("a"), page).await.unwrap().unwrap();
            seen.extend(listing.videos.iter().map(|record| record.id));
            after = seen.last().copied();
            if !listing.has_more {
                break;
            }
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, ids);
    }
    let strange = Page { after: Some(VideoId::random().unwrap()), limit: 2, ascending: true };
    assert_eq!(store.list(&owner("a"), strange).await.unwrap(), None);
}

#[actix::test]
async fn the_old_and_the_oldest_beyond_the_bytes_are_forgotten() {
    let (_folder, store) = opened();
    let mut ids = Vec::new();
    for at in [10, 20, 30, 40] {
        ids.push(accepted(&store, new_video("a", 0)).await);
        let record = store.claim(1).await.unwrap().videos.unwrap();
        store.complete(record.id, "00".into(), 100, at).await.unwrap();
    }
    let waiting = accepted(&store, new_video("a", 0)).await;
    assert_eq!(store.expire(None, None).await.unwrap(), []);
    assert_eq!(store.expire(Some(20), None).await.unwrap(), [ids[0]]);
    assert_eq!(store.expire(None, Some(300)).await.unwrap(), []);
    assert_eq!(store.expire(None, Some(250)).await.unwrap(), [ids[1]]);
    let kept = store.kept(vec![ids[0], ids[2], waiting]).await.unwrap();
    assert_eq!(kept, [Kept::Nothing, Kept::Finished, Kept::Unfinished]);
    assert!(store.delete(&owner("b"), ids[2]).await.unwrap().is_none());
    assert!(store.delete(&owner("a"), ids[2]).await.unwrap().is_some());
}

#[actix::test]
async fn when_videos_were_over_is_moved_for_those_that_are_meant() {
    let (_folder, store) = opened();
    let mut ids = Vec::new();
    for at in [10, 20, 30, 40] {
        ids.push(accepted(&store, new_video("a", 0)).await);
        store.claim(1).await.unwrap();
        store.complete(ids[ids.len() - 1], "00".into(), 100, at).await.unwrap();
    }
    store.move_ends(20..=30, 1000).await.unwrap();
    let mut ends = Vec::new();
    for id in ids {
        ends.extend(store.get(&owner("a"), id).await.unwrap().unwrap().completed_at);
    }
    assert_eq!(ends, [10, 1020, 1030, 40]);
}

#[actix::test]
async fn however_many_are_too_old_all_of_them_go() {
    let (_folder, store) = opened();
    let unbounded = QueueLimits { waiting: 1000, of_owner: 1000 };
    for _ in 0..200 {
        let Acceptance::Accepted(record) =
            store.accept(new_video("a", 0), unbounded).await.unwrap()
        else {
            panic!("it was refused");
        };
        store.fail(record.id, cancelled(), 5).await.unwrap();
    }
    assert_eq!(store.expire(None, Some(0)).await.unwrap(), [], "they have no files");
    assert_eq!(store.expire(Some(6), None).await.unwrap().len(), 200);
}

#[actix::test]
async fn of_failed_videos_the_latest_are_remembered() {
    let (folder, store) = opened();
    let other = Connection::open(folder.path().join("videos.sqlite")).unwrap();
    let insert = "INSERT INTO videos (id, owner, status, priority, request, model, fingerprint, created_at, completed_at) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10070) \
         SELECT 'video_' || printf('%032x', i), 'a', 'failed', 0, '{}', 'demo', '0123', 1, i FROM n";
    other.execute(insert, []).unwrap();
    let gone = store.expire(None, None).await.unwrap();
    let oldest = (1..=70).map(|n| format!("video_{n:032x}").parse::<VideoId>().unwrap());
    assert_eq!(gone, oldest.collect::<Vec<_>>());
    assert_eq!(store.expire(None, None).await.unwrap(), []);
}

#[actix::test]
async fn videos_of_another_model_are_told_and_given_up() {
    let (_folder, store) = opened();
    let id = accepted(&store, new_video("a", 0)).await;
    assert_eq!(store.foreign("0123").await.unwrap(), 0);
    assert_eq!(store.foreign("4567").await.unwrap(), 1);
    assert_eq!(store.abandon_foreign("4567", 9).await.unwrap(), [1]);
    let record = store.get(&owner("a"), id).await.unwrap().unwrap();
    assert_eq!(record.status, VideoStatus::Failed);
}

/// What the present layout looks like on disk: a database of today must be read by every later version.
const REQUEST_TODAY: &str = r#"{"fps":{"f64":"8"},"height_px":48,"negative_prompt":null,"num_frames":17,"prompt":"a red circle",
    "sampling":{"base_resolution_px":4096,"coast":"off","discrete_timesteps":true,"guidance_scale":{"f64":"1.5"},"leap":"off",
    "merge":"off","odd_frame":"drop-last","steps":2,"timestep_transform":true},
    "scores":{"aesthetic":null,"camera_motion":null,"motion":null},"seed":7,"width_px":64}"#;

#[actix::test]
async fn what_cannot_be_read_fails_alone_and_can_still_be_seen_and_deleted() {
    let (folder, store) = opened();
    let [before, broken, begun, after] = {
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(accepted(&store, new_video("a", 0)).await);
        }
        ids.try_into().unwrap()
    };
    let other = Connection::open(folder.path().join("videos.sqlite")).unwrap();
    let write = |id: VideoId, status: &str, request: &str| {
        let update = "UPDATE videos SET request = ?2, status = ?3 WHERE id = ?1";
        other.execute(update, params![id.to_string(), request, status]).unwrap();
    };
    write(before, "queued", REQUEST_TODAY);
    write(broken, "queued", "{\"layout\": \"of tomorrow\"}");
    write(begun, "in_progress", "no JSON");
    let told =
        |unreadable: &[VideoRecord]| unreadable.iter().map(|record| record.id).collect::<Vec<_>>();
    let ToMake { videos, unreadable } = store.begun(9).await.unwrap();
    assert_eq!((videos, told(&unreadable)), (Vec::new(), vec![begun]));
    let mut claimed = Vec::new();
    for (id, failed) in [(before, vec![]), (after, vec![broken])] {
        let ToMake { videos, unreadable } = store.claim(9).await.unwrap();
        claimed.extend(videos);
        assert_eq!((claimed.last().unwrap().id, told(&unreadable)), (id, failed));
    }
    let GenerationRequest { prompt, seed, width_px, height_px, sampling, .. } = &claimed[0].request;
    assert_eq!((prompt.as_str(), *seed, *width_px, *height_px), ("a red circle", 7, 64, 48));
    assert_eq!((sampling.steps, sampling.guidance_scale), (2, 1.5));
    for id in [broken, begun] {
        let record = store.get(&owner("a"), id).await.unwrap().unwrap();
        assert_eq!((record.status, record.completed_at), (VideoStatus::Failed, Some(9)));
        assert_eq!(record.error.unwrap().code, "unreadable");
    }
    let page = Page { after: None, limit: 9, ascending: true };
    assert_eq!(store.list(&owner("a"), page).await.unwrap().unwrap().videos.len(), 4);
    assert!(store.delete(&owner("a"), broken).await.unwrap().is_some());
}

#[actix::test]
async fn attempts_count_what_was_taken_up_without_progress() {
    let (_folder, store) = opened();
    let id = accepted(&store, new_video("a", 0)).await;
    let attempts = async || store.get(&owner("a"), id).await.unwrap().unwrap().attempts;
    assert_eq!(attempts().await, 0);
    store.claim(1).await.unwrap();
    store.taken_up(id).await.unwrap();
    assert_eq!(attempts().await, 2);
    store.progressed(id).await.unwrap();
    store.taken_up(id).await.unwrap();
    assert_eq!(attempts().await, 1);
    store.ended_in_order().await.unwrap();
    assert_eq!(attempts().await, 0);
}
