//! The API's answers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::server::{TestServer, small};

fn served() -> (tempfile::TempDir, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &[]);
    (folder, server)
}

#[test]
fn a_prompt_becomes_a_video_with_its_pictures() {
    let (_folder, server) = served();
    let created = server.post("/v1/videos", &small("a red circle", 3)).video();
    for (name, value) in [
        ("object", json!("video")),
        ("status", json!("queued")),
        ("progress", json!(0)),
        ("seconds", json!("2.125")),
        ("size", json!("32x24")),
        ("error", Value::Null),
        ("completed_at", Value::Null),
        ("remixed_from_video_id", Value::Null),
    ] {
        assert_eq!(created[name], value, "{name}");
    }
    let id = created["id"].as_str().unwrap();
    let content = format!("/v1/videos/{id}/content");
    let video = server.over(id);
    assert_eq!((&video["status"], &video["progress"]), (&json!("completed"), &json!(100)));
    let whole = server.get(&content);
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(&whole.body[4..8], b"ftyp");
    let part = server.request("GET", &content, &[("Range", "bytes=4-7")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, b"ftyp".as_slice()));
    let beyond = server.request("GET", &content, &[("Range", "bytes=99999999-")], b"");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.json()["error"]["code"], "range_not_satisfiable");
    for variant in ["thumbnail", "spritesheet"] {
        let picture = server.get(&format!("{content}?variant={variant}"));
        assert_eq!((picture.status, picture.header("content-type")), (200, "image/png"));
        assert_eq!(&picture.body[1..4], b"PNG");
    }
    let deleted = server.request(
        "DELETE",
        &format!("/v1/videos/{id}"),
        &[("Content-Type", "application/json")],
        b"",
    );
    assert_eq!(deleted.json(), json!({"id": id, "object": "video.deleted", "deleted": true}));
    assert_eq!(server.get(&content).status, 404);
}

#[test]
fn forms_mean_the_same_as_json() {
    let (_folder, server) = served();
    let parts = [
        ("prompt", "a red circle"),
        ("size", "32x24"),
        ("frames", "17"),
        ("steps", "3"),
        ("seed", "7"),
    ];
    let mut form = String::new();
    for (name, value) in parts {
        form +=
            &format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    form += "--x\r\nContent-Disposition: form-data; name=\"metadata[shot]\"\r\n\r\n1\r\n--x--\r\n";
    let kind = ("Content-Type", "multipart/form-data; boundary=x");
    let from_form = server.request("POST", "/v1/videos", &[kind], form.as_bytes()).video();
    assert_eq!(from_form["metadata"], json!({"shot": "1"}));
    let from_json = server.create(&small("a red circle", 3));
    let from_form = from_form["id"].as_str().unwrap();
    assert!(server.bytes(from_form) == server.bytes(&from_json), "the bytes differ");
}

#[test]
fn events_begin_with_the_state_and_end_with_the_video() {
    let (_folder, server) = served();
    let id = server.create(&small("a red circle", 40));
    let path = format!("/v1/videos/{id}/events");
    for is_late in [false, true] {
        let text = String::from_utf8(server.get(&path).body).unwrap();
        let events: Vec<(&str, Value)> = text
            .split_terminator("\n\n")
            .filter_map(|event| {
                let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
                Some((name, serde_json::from_str(data).unwrap()))
            })
            .collect();
        let (last, progress) = events.split_last().unwrap();
        assert_eq!(
            (last.0, &last.1["id"], &last.1["object"]),
            ("completed", &json!(id), &json!("video"))
        );
        assert!(progress.iter().all(|(name, data)| *name == "progress" && data["id"] == json!(id)));
        let shares: Vec<u64> =
            progress.iter().map(|(_, data)| data["progress"].as_u64().unwrap()).collect();
        assert!(shares.is_sorted() && !shares.is_empty(), "{shares:?}");
        assert_eq!(progress[0].1["steps"], 40);
        if is_late {
            assert_eq!(shares, [100]);
        }
    }
}

#[test]
fn what_is_cancelled_never_comes() {
    let (_folder, server) = served();
    // More than the graph takes, so that some wait.
    let ids: Vec<String> = (0..7).map(|_| server.create(&small("a red circle", 200))).collect();
    let waiting = server.get(&format!("/v1/videos/{}", ids[6])).video();
    assert_eq!(waiting["status"], "queued");
    server.wait(&ids[0], |video| video["progress"].as_u64() > Some(5));
    for id in &ids {
        let cancelled = server.post(&format!("/v1/videos/{id}/cancel"), &json!({})).video();
        assert_eq!(
            (&cancelled["status"], &cancelled["error"]["code"]),
            (&json!("failed"), &json!("cancelled"))
        );
    }
    let next = server.create(&small("a blue square", 2));
    assert!(!server.bytes(&next).is_empty());
    for id in &ids {
        assert_eq!(server.over(id)["error"]["code"], "cancelled");
        assert_eq!(server.get(&format!("/v1/videos/{id}/content")).status, 404);
    }
}

#[test]
fn a_remix_keeps_the_settings_and_the_same_key_means_the_same_video() {
    let (_folder, server) = served();
    let first = server.create(&small("a red circle", 3));
    let path = format!("/v1/videos/{first}/remix");
    let remix = server.post(&path, &json!({"prompt": "a green circle", "steps": 2})).video();
    assert_eq!(remix["remixed_from_video_id"], json!(first));
    assert_eq!((&remix["settings"]["seed"], &remix["settings"]["steps"]), (&json!(7), &json!(2)));
    let headers = [("Idempotency-Key", "once"), ("Content-Type", "application/json")];
    let body = small("a red circle", 2).to_string();
    let ask = || server.request("POST", "/v1/videos", &headers, body.as_bytes()).video();
    assert_eq!(ask()["id"], ask()["id"]);
    // A seed that the server chooses is another one each time, and the request the same.
    let headers = [("Idempotency-Key", "seedless"), ("Content-Type", "application/json")];
    let seedless = json!({"prompt": "a dot", "size": "32x24", "steps": 2}).to_string();
    let ask = || server.request("POST", "/v1/videos", &headers, seedless.as_bytes()).video();
    assert_eq!(ask()["id"], ask()["id"]);
    // Whatever else comes with a key that came before is a mistake of the client's.
    let headers = [("Idempotency-Key", "once"), ("Content-Type", "application/json")];
    let mut with_metadata = small("a red circle", 2);
    with_metadata["metadata"] = json!({"shot": "2"});
    for (address, body) in [
        ("/v1/videos", small("a blue square", 2)),
        ("/v1/videos", with_metadata),
        (path.as_str(), small("a red circle", 2)),
    ] {
        let answer = server.request("POST", address, &headers, body.to_string().as_bytes());
        let code = &answer.json()["error"]["code"];
        assert_eq!((answer.status, code), (409, &json!("idempotency_key_reused")), "{body}");
    }
    assert_eq!(server.get("/v1/videos").json()["data"].as_array().unwrap().len(), 4);
}

#[test]
fn a_negative_prompt_changes_the_video_and_is_kept_until_it_is_taken_away() {
    let (_folder, server) = served();
    let plain = server.create(&small("a red circle", 3));
    let mut body = small("a red circle", 3);
    body["negative_prompt"] = json!("a blue square");
    let steered = server.create(&body);
    let remixed = |change: Value| {
        server.post(&format!("/v1/videos/{steered}/remix"), &change).video()["id"].clone()
    };
    let kept = remixed(json!({"prompt": "a red circle"}));
    let taken_away = remixed(json!({"prompt": "a red circle", "negative_prompt": ""}));
    let videos = [&plain, &steered, kept.as_str().unwrap(), taken_away.as_str().unwrap()]
        .map(|id| server.over(id));
    let negative = |index: usize| videos[index]["settings"].get("negative_prompt");
    assert_eq!([0, 3].map(negative), [None; 2]);
    assert_eq!([1, 2].map(negative), [Some(&json!("a blue square")); 2]);
    let hash = |index: usize| videos[index]["sha256"].as_str().unwrap();
    assert_ne!(hash(0), hash(1));
    assert_eq!((hash(0), hash(1)), (hash(3), hash(2)));
}

/// The first event of a video, which is its state.
fn state(server: &TestServer, id: &str) -> Value {
    let mut connection = TcpStream::connect(server.host()).unwrap();
    let request = format!("GET /v1/videos/{id}/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    connection.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(connection).lines().map(Result::unwrap);
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(String::from)).unwrap();
    serde_json::from_str(&data).unwrap()
}

#[test]
fn the_most_urgent_goes_first() {
    let (_folder, server) = served();
    // These fill the graph, so that the others wait in the queue.
    let busy: Vec<String> = (0..4).map(|_| server.create(&small("a red circle", 200))).collect();
    busy.iter().for_each(|id| {
        server.wait(id, |video| video["status"] == "in_progress");
    });
    let waiting = |priority: i64| {
        let mut body = small("a blue square", 2);
        body["priority"] = json!(priority);
        server.create(&body)
    };
    let ids = [-5, 0, 5].map(waiting);
    let positions = ids.each_ref().map(|id| state(&server, id)["queue_position"].clone());
    assert_eq!(positions, [json!(2), json!(1), json!(0)]);
    assert_eq!(state(&server, &busy[0])["queue_position"], Value::Null);
    for id in &ids {
        assert!(!server.bytes(id).is_empty());
    }
}

#[test]
fn the_server_describes_itself() {
    let (_folder, server) = served();
    let models = server.get("/v1/models").json();
    let name = models["data"][0]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/models/{name}")).json()["object"], "model");
    assert_eq!(server.get("/healthz").json()["status"], "ok");
    assert_eq!(server.get("/readyz").json()["status"], "ready");
    assert!(server.get("/metrics").header("content-type").starts_with("text/plain"));
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let description = server.get("/openapi.json").json();
    assert_eq!(description["openapi"], "3.1.0");
    // Every setting that a video shows can be asked for.
    let schemas = &description["components"]["schemas"];
    for setting in schemas["VideoSettings"]["properties"].as_object().unwrap().keys() {
        assert!(schemas["CreateVideo"]["properties"][setting].is_object(), "{setting}");
    }
    // A remix takes the same, in the same forms, with the same header.
    let posts =
        ["/v1/videos", "/v1/videos/{id}/remix"].map(|path| &description["paths"][path]["post"]);
    for post in posts {
        let headers = post["parameters"].as_array().unwrap().iter();
        assert_eq!(headers.filter(|one| one["name"] == "Idempotency-Key").count(), 1);
        let forms = post["requestBody"]["content"].as_object().unwrap();
        for form in ["application/json", "multipart/form-data", "application/x-www-form-urlencoded"]
        {
            let schema = &forms[form]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/CreateVideo", "{form}");
        }
    }
}
