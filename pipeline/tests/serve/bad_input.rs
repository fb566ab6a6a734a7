//! Whatever is wrong with a request is told in the API's words, and never as a fault of the server.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::server::{Answer, TestServer, small};

fn refused(answer: &Answer, status: u16, what: &str) -> Value {
    let told = answer.json();
    assert_eq!(answer.status, status, "{what}: {told}");
    let error = &told["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{what}: {told}");
    assert!(error.get("param").is_some() && error["code"].is_string(), "{what}: {told}");
    error.clone()
}

#[test]
fn every_refusal_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &["--max-body", "8KB"]);
    let unknown = format!("video_{}", "0".repeat(32));
    for (body, status, param) in [
        (json!({}), 400, json!("prompt")),
        (json!({"prompt": ""}), 400, json!("prompt")),
        (json!({"prompt": 5, "size": "x"}), 400, json!("size")),
        (json!({"prompt": ["a"]}), 400, json!("prompt")),
        (json!({"prompt": "a", "size": "8192x8192"}), 400, json!("size")),
        (json!({"prompt": "a", "seconds": "-1"}), 400, json!("seconds")),
        (json!({"prompt": "a", "seconds": "1e30"}), 400, json!("seconds")),
        (json!({"prompt": "a", "frames": "409"}), 400, json!("frames")),
        (json!({"prompt": "a", "steps": 0}), 400, json!("steps")),
        (json!({"prompt": "a", "cfg_scale": "nan"}), 400, json!("cfg_scale")),
        (json!({"prompt": "a", "coast": 99, "steps": 3}), 400, json!("coast")),
        (json!({"prompt": "a", "size": "4x4"}), 400, json!("size")),
        (json!({"prompt": "a", "seconds": "1", "frames": "9"}), 400, json!("frames")),
        (json!({"prompt": "a", "steps": "201"}), 400, json!("steps")),
        (json!({"prompt": "a", "seed": 1.5}), 400, json!("seed")),
        (json!({"prompt": "a", "lpl": "soon"}), 400, json!("lpl")),
        (json!({"prompt": "a", "lpl": true, "coast": "9"}), 400, Value::Null),
        (json!({"prompt": "a", "fps": "inf"}), 400, json!("fps")),
        (json!({"prompt": "a", "fps": 9999}), 400, json!("fps")),
        (json!({"prompt": "a", "priority": 11}), 400, json!("priority")),
        (json!({"prompt": "a", "metadata": {"a": 1}}), 400, json!("metadata")),
        (json!({"prompt": "a", "colour": "red"}), 400, json!("colour")),
        (json!({"prompt": "a", "negative_prompt": ["b"]}), 400, json!("negative_prompt")),
        (
            json!({"prompt": "a", "negative_prompt": "b".repeat(4097)}),
            400,
            json!("negative_prompt"),
        ),
        (json!({"prompt": "a", "negative_prompt": "b\u{0}"}), 400, json!("negative_prompt")),
        (json!({"prompt": "a", "negative_prompt": "@b"}), 400, json!("negative_prompt")),
        (
            json!({"prompt": "a", "input_reference": {"image_url": "data:,"}}),
            400,
            json!("input_reference"),
        ),
        (json!({"prompt": "a", "model": "another"}), 404, json!("model")),
        (json!({"prompt": "a".repeat(9000)}), 413, Value::Null),
        (json!([1]), 400, Value::Null),
    ] {
        let what: String = body.to_string().chars().take(80).collect();
        let error = refused(&server.post("/v1/videos", &body), status, &what);
        assert_eq!(error["param"], param, "{what}: {error}");
    }
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/v1/videos/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/videos/video_1", 404),
        ("GET", "/v1/videos/%ff%00", 404),
        ("DELETE", "/v1/videos", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/videos?limit=0", 400),
        ("GET", "/v1/videos?limit=x", 400),
        ("GET", "/v1/videos?order=up", 400),
        ("GET", "/v1/videos?colour=red", 400),
        ("GET", "/v1/videos?after=video_1", 400),
        ("POST", "/v1/videos", 415),
    ] {
        refused(&server.request(method, path, &[], b""), status, path);
    }
    for action in ["", "/content", "/events", "/preview"] {
        refused(&server.get(&format!("/v1/videos/{unknown}{action}")), 404, action);
    }
    for action in ["/cancel", "/remix"] {
        refused(
            &server.post(&format!("/v1/videos/{unknown}{action}"), &json!({"prompt": "a"})),
            404,
            action,
        );
    }
    for (kind, body) in [
        ("application/json", "{\"prompt\":"),
        ("application/json", "\u{0}"),
        ("multipart/form-data", "--x--"),
        ("multipart/form-data; boundary=x", "no form"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na",
        ),
        ("multipart/form-data; boundary=x", "--x\r\n\r\na\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", "prompt=a&prompt=b"),
    ] {
        let answer =
            server.request("POST", "/v1/videos", &[("Content-Type", kind)], body.as_bytes());
        refused(&answer, 400, body);
    }
    let text = [("Content-Type", "text/plain")];
    refused(&server.request("POST", "/v1/videos", &text, b"a red circle"), 415, "text");
    assert_eq!(server.get("/v1/videos").json()["data"], json!([]), "something was accepted");
    let log = server.log();
    assert!(!log.contains(" status=5") && !log.contains("panicked"), "{log}");
}

#[test]
fn broken_connections_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(&folder.path().join("data"), &[]);
    let head = format!("POST /v1/videos HTTP/1.1\r\nHost: {}\r\n", server.host());
    let half_open: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut connection = TcpStream::connect(server.host()).unwrap();
            connection.write_all(head.as_bytes()).unwrap();
            connection
        })
        .collect();
    for rest in [
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"prompt\"",
        "Content-Type: application/json\r\nContent-Length: x\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
        "\u{1}\r\n\r\n",
    ] {
        let mut connection = TcpStream::connect(server.host()).unwrap();
        connection.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{rest}: {answer}");
    }
    let id = server.create(&small("a red circle", 2));
    assert!(!server.bytes(&id).is_empty());
    drop(half_open);
}
