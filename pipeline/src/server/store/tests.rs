#![allow(clippy::unwrap_used)]

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

fn opened() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("videos.sqlite")).unwrap();
    (folder, store)
}

async fn accepted(store: &Store, video: NewVideo) -> VideoId {
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
    while let Some(record) = store.claim().await.unwrap() {
        assert_eq!(record.status, VideoStatus::InProgress);
        order.push(record.id);
    }
    assert_eq!(order, [ids[1], ids[3], ids[0], ids[2]]);
    assert_eq!(store.position(ids[2]).await.unwrap(), None);
    let begun: Vec<_> = store.begun().await.unwrap().iter().map(|record| record.id).collect();
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
    let claimed = store.claim().await.unwrap().unwrap();
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
    store.claim().await.unwrap();
    assert!(complete().await.unwrap());
    assert!(!complete().await.unwrap() && !store.fail(id, cancelled(), 6).await.unwrap());
    let again = store.cancel(&owner("a"), id, cancelled(), 7).await.unwrap();
    assert!(matches!(again, Cancellation::Over(record) if record.completed_at == Some(5)));
    let id = accepted(&store, new_video("a", 0)).await;
    let strange = store.cancel(&owner("b"), id, cancelled(), 7).await.unwrap();
    assert_eq!(strange, Cancellation::Unknown);
    let done = store.cancel(&owner("a"), id, cancelled(), 7).await.unwrap();
    assert!(matches!(done, Cancellation::Cancelled(record) if record.error == Some(cancelled())));
    assert_eq!(store.claim().await.unwrap(), None, "a cancelled video is not begun");
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
        let record = store.claim().await.unwrap().unwrap();
        store.complete(record.id, "00".into(), 100, at).await.unwrap();
    }
    let waiting = accepted(&store, new_video("a", 0)).await;
    assert_eq!(store.expire(None, None).await.unwrap(), []);
    assert_eq!(store.expire(Some(20), None).await.unwrap(), [ids[0]]);
    assert_eq!(store.expire(None, Some(250)).await.unwrap(), [ids[1]]);
    let kept = store.kept(vec![ids[0], ids[2], waiting]).await.unwrap();
    assert_eq!(kept, [Kept::Nothing, Kept::Finished, Kept::Unfinished]);
    assert!(store.delete(&owner("b"), ids[2]).await.unwrap().is_none());
    assert!(store.delete(&owner("a"), ids[2]).await.unwrap().is_some());
}

#[actix::test]
async fn videos_of_another_model_are_told_and_given_up() {
    let (_folder, store) = opened();
    let id = accepted(&store, new_video("a", 0)).await;
    assert_eq!(store.foreign("0123").await.unwrap(), 0);
    assert_eq!(store.foreign("4567").await.unwrap(), 1);
    store.abandon_foreign("4567", 9).await.unwrap();
    let record = store.get(&owner("a"), id).await.unwrap().unwrap();
    assert_eq!(record.status, VideoStatus::Failed);
}
