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
    let started = std::time::Instant::now();
    while server.get(&format!("/v1/videos/{id}")).status != 404 {
        assert!(started.elapsed().as_secs() < 300, "{:?}", entries(&data));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
