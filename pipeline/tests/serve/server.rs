//! A server process and a client.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long to wait for what must come: long enough for a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running server. It is killed when it is dropped.
pub struct TestServer {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub url: String,
    log: PathBuf,
    agent: ureq::Agent,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The video of a call that must succeed.
    pub fn video(&self) -> Value {
        let video = self.json();
        assert_eq!(self.status, 200, "{video}");
        video
    }
}

/// A small video that takes parts of a second.
pub fn small(prompt: &str, steps: usize) -> Value {
    json!({"prompt": prompt, "size": "32x24", "frames": "17", "steps": steps, "seed": 7})
}

pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora"));
    command.args(["serve", "--json", "--port", "0", "--device", "cpu", "--data"]).arg(data);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

impl TestServer {
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        let log = data.with_extension("log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child =
            command(data, arguments).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("no address: {}", fs::read_to_string(&log).unwrap()));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let url = told["url"].as_str().unwrap().to_string();
        Self { child, _stdout: stdout, url, log, agent }
    }

    pub fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // A body where HTTP expects none is part of this API: clients delete with a content type.
        let agent = &self.agent;
        let answer = match body {
            [] => agent.run(request.body(()).unwrap()),
            body => agent.run(request.body(body.to_vec()).unwrap()),
        };
        let (parts, mut body) = answer.unwrap().into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.request("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Asks for a video that must be accepted; answers its id.
    pub fn create(&self, body: &Value) -> String {
        self.post("/v1/videos", body).video()["id"].as_str().unwrap().to_string()
    }

    /// Waits until a video is as it shall be.
    pub fn wait(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let video = self.get(&format!("/v1/videos/{id}")).video();
            if is_so(&video) {
                return video;
            }
            assert!(started.elapsed() < PATIENCE, "{video}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a video is over.
    pub fn over(&self, id: &str) -> Value {
        self.wait(id, |video| video["status"] == "completed" || video["status"] == "failed")
    }

    /// The bytes of a video that must be finished.
    pub fn bytes(&self, id: &str) -> Vec<u8> {
        let video = self.over(id);
        assert_eq!(video["status"], "completed", "{video}");
        let answer = self.get(&format!("/v1/videos/{id}/content"));
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// Ends the server as a lack of memory would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the server to stop, as service managers do.
    #[cfg(unix)]
    pub fn ask_to_stop(&self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(asked.unwrap().success());
    }

    /// Has the server stop; answers its exit code.
    #[cfg(unix)]
    pub fn stop(self) -> Option<i32> {
        self.ask_to_stop();
        self.ended()
    }

    /// Waits for the end of a server that was asked to stop; answers its exit code.
    #[cfg(unix)]
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // One that was ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
