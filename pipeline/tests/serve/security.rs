//! Who may do what, and what nobody is told.

use serde_json::json;

use crate::server::{TestServer, command, small};

const FIRST: &str = "Bearer sk-first-key-0123456789";
const SECOND: &str = "Bearer sk-second-key-0123456789";

#[test]
fn a_server_that_others_can_reach_needs_keys() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder.path().join("data"), &["--host", "0.0.0.0"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--api-key-file"), "{told}");
}

#[test]
fn keys_open_the_server_and_keep_videos_apart() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "sk-first-key-0123456789\nsk-second-key-0123456789\n").unwrap();
    let arguments =
        ["--host", "0.0.0.0", "--api-key-file", keys.to_str().unwrap(), "--max-per-key", "1"];
    let mut server = TestServer::start(&folder.path().join("data"), &arguments);
    server.url = server.url.replace("0.0.0.0", "127.0.0.1");
    let body = small("a red circle", 200).to_string();
    let call = |method: &str, path: &str, key: &str, body: &str| {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend((!key.is_empty()).then_some(("Authorization", key)));
        server.request(method, path, &headers, body.as_bytes())
    };
    for key in
        ["", "Bearer ", "Bearer sk-third-key-0123456789", "Basic c2s=", "sk-first-key-0123456789"]
    {
        for (method, path) in [
            ("POST", "/v1/videos"),
            ("GET", "/v1/videos"),
            ("GET", "/metrics"),
            ("GET", "/v1/models"),
        ] {
            let answer = call(method, path, key, if method == "POST" { &body } else { "" });
            assert_eq!(answer.status, 401, "{key} {path}");
            assert_eq!(answer.json()["error"]["type"], "authentication_error");
        }
    }
    assert_eq!(call("GET", "/healthz", "", "").status, 200);
    let video = call("POST", "/v1/videos", FIRST, &body).video();
    let too_many = call("POST", "/v1/videos", FIRST, &body);
    assert_eq!((too_many.status, too_many.header("retry-after").is_empty()), (429, false));
    let id = video["id"].as_str().unwrap();
    for (method, action, body) in [
        ("GET", "", ""),
        ("GET", "/content", ""),
        ("GET", "/events", ""),
        ("DELETE", "", ""),
        ("POST", "/cancel", "{}"),
        ("POST", "/remix", "{\"prompt\": \"a dot\"}"),
    ] {
        let answer = call(method, &format!("/v1/videos/{id}{action}"), SECOND, body);
        assert_eq!(answer.status, 404, "{method} {action}");
    }
    assert_eq!(call("GET", "/v1/videos", SECOND, "").json()["data"], json!([]));
    assert_eq!(call("GET", &format!("/v1/videos/{id}"), FIRST, "").status, 200);
}

#[test]
fn other_sites_pages_cannot_use_a_server_without_keys() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &[]);
    let body = small("a red circle", 2).to_string();
    let json = ("Content-Type", "application/json");
    for (header, value, status) in [
        ("Origin", "https://example.org".to_string(), 403),
        ("Origin", "null".to_string(), 403),
        ("Origin", server.url.clone(), 200),
        ("Host", "example.org".to_string(), 403),
        ("Host", "localhost".to_string(), 200),
    ] {
        let headers = [json, (header, value.as_str())];
        let answer = server.request("POST", "/v1/videos", &headers, body.as_bytes());
        assert_eq!(answer.status, status, "{header}: {value}");
    }
    let page = server.get("/");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
}

#[test]
fn neither_prompts_nor_paths_are_told_to_those_who_need_not_know() {
    for (arguments, is_logged) in [(&[][..], false), (&["--log-prompts"], true)] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let server = TestServer::start(&data, arguments);
        let id = server.create(&small("a turquoise rhombus", 2));
        server.bytes(&id);
        server.get("/v1/videos?after=turquoise");
        // Nothing is left of it, which takes a while to find out.
        let only_names = small(&"@turquoise日本日本日 ".repeat(250), 2);
        let answer = server.post("/v1/videos", &only_names);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("prompt")));
        assert_eq!(server.log().contains("turquoise"), is_logged, "{}", server.log());
        assert!(!String::from_utf8(server.get("/metrics").body).unwrap().contains("turquoise"));
        // A file that is gone is the server's own affair.
        std::fs::remove_file(data.join(format!("videos/{id}.mp4"))).unwrap();
        let answer = server.get(&format!("/v1/videos/{id}/content"));
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 404);
        assert!(!told.contains("data") && !told.contains(".mp4"), "{told}");
    }
}

#[test]
fn a_full_queue_is_refused_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &["--max-queue", "2"]);
    // The graph takes four, for long enough; two wait; and no more.
    let ask = || server.post("/v1/videos", &small("a red circle", 200));
    let mut accepted = Vec::new();
    for _ in 0..4 {
        let id = ask().video()["id"].as_str().unwrap().to_string();
        server.wait(&id, |video| video["status"] == "in_progress");
        accepted.push(id);
    }
    accepted.extend((0..2).map(|_| ask().video()["id"].as_str().unwrap().to_string()));
    for _ in 0..3 {
        let refused = ask();
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("queue_full")));
        assert!(!refused.header("retry-after").is_empty());
    }
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("sora_prompts_total{outcome=\"refused\"} 3\n"), "{metrics}");
    for id in &accepted {
        server.post(&format!("/v1/videos/{id}/cancel"), &json!({})).video();
    }
    let id = server.create(&small("a red circle", 2));
    assert!(!server.bytes(&id).is_empty());
}
