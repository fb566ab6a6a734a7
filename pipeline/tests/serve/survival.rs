//! What outlives the process: every prompt that was accepted.

use std::fs;
use std::path::Path;

use crate::server::{TestServer, command, small};

/// So many that a server is ended long before the last one.
const STEPS: usize = 150;

/// The bytes of the video that a server makes when nobody disturbs it.
fn undisturbed(folder: &Path) -> Vec<u8> {
    let server = TestServer::start(&folder.join("undisturbed"), &[]);
    let id = server.create(&small("a red circle", STEPS));
    server.bytes(&id)
}

fn entries(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("videos")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A save that was under way when its folder went cannot tidy up after itself.
fn remove_half_written(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "partial") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn is_denoised_for_a_while(video: &serde_json::Value) -> bool {
    video["progress"].as_u64() > Some(10)
}

#[test]
fn a_killed_server_s_successor_makes_every_video_once_and_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let expected = undisturbed(folder.path());
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    // The graph takes four; the others wait.
    let ids: Vec<String> = (0..6).map(|_| server.create(&small("a red circle", STEPS))).collect();
    let finished = server.create(&{
        let mut urgent = small("a blue square", 2);
        urgent["priority"] = 10.into();
        urgent
    });
    server.wait(&ids[0], is_denoised_for_a_while);
    server.kill();
    let server = TestServer::start(&data, &[]);
    for id in &ids {
        assert!(server.bytes(id) == expected, "{id} has other bytes");
    }
    assert!(!server.bytes(&finished).is_empty());
    assert!(server.log().contains("going on with what an earlier process began"));
    let list = server.get("/v1/videos?limit=100").json();
    assert_eq!(list["data"].as_array().unwrap().len(), ids.len() + 1);
    // A video, its settings and two pictures each: no saved work, nothing half-written.
    assert_eq!(entries(&data).len(), 4 * (ids.len() + 1), "{:?}", entries(&data));
}

#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_stop_saves_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let expected = undisturbed(folder.path());
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    let id = server.create(&small("a red circle", STEPS));
    server.wait(&id, is_denoised_for_a_while);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(entries(&data), [format!("{id}.mp4.sora-job")]);
    let server = TestServer::start(&data, &[]);
    assert!(server.bytes(&id) == expected, "other bytes");
    assert_eq!(entries(&data).len(), 4);
}

#[cfg(unix)]
#[test]
fn who_asks_while_a_server_stops_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &[]);
    // Of steps that take long, since the one under way is finished before the server ends.
    let mut large = small("a red circle", STEPS);
    (large["size"], large["frames"]) = ("256x256".into(), "51".into());
    let id = server.create(&large);
    server.wait(&id, |video| video["status"] == "in_progress");
    std::thread::sleep(std::time::Duration::from_secs(2));
    server.ask_to_stop();
    let refused = until(|| {
        Some(server.post("/v1/videos", &small("a dot", 2))).filter(|answer| answer.status != 200)
    });
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &"shutting_down".into()));
    assert_eq!(server.get("/readyz").status, 503);
    let video = server.get(&format!("/v1/videos/{id}")).video();
    assert_eq!(video["status"], "in_progress");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_damaged_save_costs_work_and_no_video() {
    let folder = tempfile::tempdir().unwrap();
    let expected = undisturbed(folder.path());
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    let id = server.create(&small("a red circle", STEPS));
    server.wait(&id, is_denoised_for_a_while);
    server.kill();
    fs::write(data.join(format!("videos/{id}.mp4.sora-job")), "not what was saved").unwrap();
    let server = TestServer::start(&data, &[]);
    assert!(server.bytes(&id) == expected, "other bytes");
}

#[test]
fn a_disk_that_fails_for_a_while_fails_no_video() {
    let folder = tempfile::tempdir().unwrap();
    let expected = undisturbed(folder.path());
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    // The graph takes four; the others wait.
    let ids: Vec<String> = (0..6).map(|_| server.create(&small("a red circle", STEPS))).collect();
    server.wait(&ids[0], is_denoised_for_a_while);
    let (videos, away) = (data.join("videos"), data.join("away"));
    fs::rename(&videos, &away).unwrap();
    let not_ready = || Some(server.get("/readyz")).filter(|answer| answer.status == 503);
    let told = until(not_ready).json()["error"]["message"].as_str().unwrap().to_string();
    assert!(told.contains("disk"), "{told}");
    // Long enough for all of them to be tried, and more than once.
    std::thread::sleep(std::time::Duration::from_secs(4));
    for id in &ids {
        let video = server.get(&format!("/v1/videos/{id}")).video();
        assert!(video["status"] == "queued" || video["status"] == "in_progress", "{video}");
    }
    remove_half_written(&away);
    fs::rename(&away, &videos).unwrap();
    for id in &ids {
        assert!(server.bytes(id) == expected, "{id} has other bytes");
    }
    until(|| (server.get("/readyz").status == 200).then_some(()));
    assert_eq!(entries(&data).len(), 4 * ids.len(), "{:?}", entries(&data));
}

/// Keeps a server from writing to its database for as long as it is there.
fn locked(data: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(data.join("videos.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn tells_of_its_disk(server: &TestServer) {
    let not_ready = || Some(server.get("/readyz")).filter(|answer| answer.status == 503);
    let told = until(not_ready).json()["error"]["message"].as_str().unwrap().to_string();
    assert!(told.contains("disk"), "{told}");
    let page = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(page.contains("\nsora_server_trouble 1\n"), "{page}");
}

fn is_ready_again(server: &TestServer) {
    until(|| (server.get("/readyz").status == 200).then_some(()));
}

#[test]
fn a_database_that_refuses_for_a_while_is_told_of_and_fails_no_video() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    let id = server.create(&small("a red circle", STEPS));
    server.wait(&id, is_denoised_for_a_while);
    // That it is finished cannot be noted.
    let lock = locked(&data);
    tells_of_its_disk(&server);
    drop(lock);
    assert!(!server.bytes(&id).is_empty());
    is_ready_again(&server);
    let id = server.create(&small("a blue square", STEPS));
    server.wait(&id, is_denoised_for_a_while);
    server.kill();
    // That it is taken up again cannot be noted.
    let lock = locked(&data);
    let server = TestServer::start(&data, &[]);
    tells_of_its_disk(&server);
    let video = server.get(&format!("/v1/videos/{id}")).video();
    assert_eq!((&video["status"], &video["progress"]), (&"in_progress".into(), &0.into()));
    drop(lock);
    assert!(!server.bytes(&id).is_empty());
    is_ready_again(&server);
}

/// Waits for something.
fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed().as_secs() < 300, "it does not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn one_server_uses_a_folder_and_another_model_s_videos_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &[]);
    let refused = |arguments: &[&str], told: &str| {
        let output = command(&data, arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(told), "{error}");
    };
    refused(&[], "another server uses");
    let id = server.create(&small("a red circle", STEPS));
    server.kill();
    refused(&["--dtype", "bf16"], "--abandon-unfinished");
    let server = TestServer::start(&data, &["--dtype", "bf16", "--abandon-unfinished"]);
    assert_eq!(server.over(&id)["error"]["code"], "abandoned");
}

#[test]
fn old_videos_go() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = TestServer::start(&data, &["--keep-bytes", "1", "--keep-for", "1h"]);
    let id = server.create(&small("a red circle", 2));
    // The file is larger than all that may be kept, so it goes as soon as it is there.
    until(|| (server.get(&format!("/v1/videos/{id}")).status == 404).then_some(()));
}
