//! Keys, obstacles, and who may write when.

#![allow(clippy::unwrap_used)]

use std::fs;

use sora_models::bundle::GenerationConfig;
use sora_pipeline::request_settings::default_request;
use sora_pipeline::saved_job::SAVED_JOB_EXTENSION;

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
    assert_eq!((found[0].key.as_str(), found[0].steps_done, found[0].steps), (key.as_str(), 0, 30));
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
fn nothing_is_remembered_of_keys_that_are_no_video_s() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    assert!(matches!(store.claim("1"), Err(RunnerError::NotFound(_))));
    assert!(matches!(store.forget("2"), Err(RunnerError::NotFound(_))));
    fs::remove_dir(folder.path()).unwrap();
    assert!(store.begin(&request()).is_err());
    assert!(store.state().gates.is_empty() && store.state().active.is_empty());
}

#[test]
fn work_that_is_given_up_is_deleted_when_its_run_is_over_and_no_sooner() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let kept = store.begin(&request()).unwrap();
    assert!(!kept.give_up(|| false), "it was over");
    kept.over();
    assert_eq!(store.unfinished().unwrap().len(), 1);
    let (kept, ..) = store.claim(kept.key()).unwrap();
    let key = kept.key().to_string();
    // A save is under way, for as long as a disk may take.
    let saving = kept.hold_files();
    assert!(kept.give_up(|| true));
    assert!(store.files.has(&key) && matches!(store.claim(&key), Err(RunnerError::Busy(_))));
    drop(saving);
    kept.over();
    assert!(!store.files.has(&key) && store.unfinished().unwrap().is_empty());
}

#[test]
fn another_model_and_damage_are_obstacles() {
    let folder = tempfile::tempdir().unwrap();
    let key = store(folder.path(), "a").begin(&request()).unwrap().key().to_string();
    let other = store(folder.path(), "b");
    assert!(other.unfinished().unwrap()[0].obstacle.as_ref().unwrap().contains("another model"));
    assert!(matches!(other.claim(&key), Err(RunnerError::SavedWork(_))));
    fs::write(folder.path().join(format!("{key}.{SAVED_JOB_EXTENSION}")), "nonsense").unwrap();
    let same = store(folder.path(), "a");
    assert!(same.unfinished().unwrap()[0].obstacle.is_some());
    assert!(matches!(same.claim(&key), Err(RunnerError::SavedWork(_))));
    same.forget(&key).unwrap();
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn an_earlier_run_that_is_let_go_late_ends_no_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let earlier = store.begin(&request()).unwrap();
    let key = earlier.key().to_string();
    earlier.over();
    let (later, ..) = store.claim(&key).unwrap();
    earlier.discard();
    drop(earlier);
    assert!(matches!(store.claim(&key), Err(RunnerError::Busy(_))), "it is made twice");
    assert!(store.files.has(&key), "the earlier run deleted the later one's work");
    drop(later);
    assert_eq!(store.unfinished().unwrap().len(), 1);
}

#[test]
fn whoever_claims_at_once_gets_one_video() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let key = store.begin(&request()).unwrap().key().to_string();
    let start = std::sync::Barrier::new(8);
    let claimed: Vec<_> = std::thread::scope(|scope| {
        let claim = || {
            start.wait();
            store.claim(&key).ok()
        };
        let claims: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
        claims.into_iter().filter_map(|claim| claim.join().unwrap()).collect()
    });
    assert_eq!(claimed.len(), 1);
}

#[test]
fn a_negative_prompt_counts_in_what_a_video_takes() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let mut asked = request();
    asked.negative_prompt = Some("blurred".into());
    let kept = store.begin(&asked).unwrap();
    assert_eq!(store.active_videos(), [PlannedVideo::from(&asked)]);
    assert_eq!(store.active_videos()[0].texts, 2);
    let key = kept.key().to_string();
    drop(kept);
    let (_kept, ..) = store.claim(&key).unwrap();
    assert_eq!(store.active_videos()[0].texts, 2);
}

#[test]
fn a_check_of_the_device_and_videos_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let check = store.check_device().unwrap();
    assert!(matches!(store.check_device(), Err(RunnerError::Busy(_))));
    assert!(matches!(store.begin(&request()), Err(RunnerError::Busy(_))));
    drop(check);
    let kept = store.begin(&request()).unwrap();
    assert!(matches!(store.check_device(), Err(RunnerError::Busy(_))));
    drop(kept);
    assert!(store.check_device().is_ok());
}

#[test]
fn a_request_that_was_written_in_part_is_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".sora-x.partial"), "{").unwrap();
    let store = store(folder.path(), "a");
    drop(store.begin(&request()).unwrap());
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(store.unfinished().unwrap().len(), 1);
}
