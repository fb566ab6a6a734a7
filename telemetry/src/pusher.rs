//! Metrics of a machine that cannot be scraped: pushed to a Prometheus Pushgateway, and once more at the end.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sysinfo::System;
use ureq::Agent;
use ureq::http::Uri;

use crate::{MetricsPage, TelemetryError};

/// How long one push may take; then it is given up. Our choice: less than any sensible interval, and what the end of a
/// program can wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// The job that metrics are pushed as, when the address does not say.
const JOB: &str = "sora";

/// Where metrics are pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushAddress {
    url: String,
}

impl PushAddress {
    /// Understands the address of a gateway (`http://gateway:9091`), or of a group on it
    /// (`http://gateway:9091/metrics/job/sora/instance/kitchen`). Without a group it is this machine's, so that several
    /// machines do not overwrite each other's metrics.
    ///
    /// # Errors
    /// [`TelemetryError::PushAddress`] when it is no URL, or one of another protocol than plain HTTP.
    pub fn parse(url: &str) -> Result<Self, TelemetryError> {
        let refused = |reason: &str| TelemetryError::PushAddress {
            url: url.to_string(),
            reason: reason.to_string(),
        };
        let uri: Uri = url.parse().map_err(|cause| refused(&format!("{cause}")))?;
        let Some(host) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
            return Err(refused("expected a gateway such as http://gateway:9091"));
        };
        let url = match uri.path() {
            "" | "/" => format!("http://{host}/metrics/job/{JOB}/instance/{}", instance()),
            _ => url.to_string(),
        };
        Ok(Self { url })
    }

    /// The group's URL.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

/// This machine's name, of letters that need no quoting in a URL.
fn instance() -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "-._".contains(c) => c,
        _ => '-',
    };
    let name: String = System::host_name().unwrap_or_default().chars().map(plain).collect();
    if name.is_empty() { "unnamed".into() } else { name }
}

/// Pushes on a thread of its own, so that no trouble with the gateway reaches the work.
pub struct Pusher {
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pusher {
    /// Pushes the page every `interval`, the first time after one. `trouble` hears of the first push that failed in a row;
    /// the next one is tried all the same.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        page: MetricsPage,
        address: PushAddress,
        interval: Duration,
        trouble: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, TelemetryError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let push = move || {
            let agent = agent();
            let mut told = false;
            loop {
                let last = stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
                let pushed = push(&agent, &address, page.render());
                if let Some(cause) = pushed.as_ref().err().filter(|_| !told) {
                    trouble(&format!("metrics cannot be pushed to {}: {cause}", address.url));
                }
                told = pushed.is_err();
                if last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("sora-metrics-push".into()).spawn(push)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Pusher {
    /// Pushes once more and waits for it, at most as long as one push may take beside one under way.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has nothing to do with the work here.
            let _ = thread.join();
        }
    }
}

fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(PATIENCE)).build().into()
}

fn push(agent: &Agent, address: &PushAddress, page: String) -> Result<(), ureq::Error> {
    let request = agent.put(&address.url).header("content-type", "text/plain; version=0.0.4");
    request.send(page).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_names_a_gateway_or_a_group() {
        let group = "http://gateway:9091/metrics/job/film/instance/kitchen";
        assert_eq!(PushAddress::parse(group).unwrap().as_str(), group);
        for bare in ["http://gateway:9091", "http://gateway:9091/"] {
            let address = PushAddress::parse(bare).unwrap();
            let begins = "http://gateway:9091/metrics/job/sora/instance/";
            assert!(address.as_str().starts_with(begins), "{address:?}");
            assert!(address.as_str().len() > begins.len());
        }
        for wrong in ["gateway:9091", "https://gateway", "file:///tmp", "http://", "", "two words"]
        {
            let refused = PushAddress::parse(wrong);
            assert!(matches!(refused, Err(TelemetryError::PushAddress { .. })), "{wrong}");
        }
    }

    /// Answers one request with `status`, and gives back what came.
    fn gateway(listener: TcpListener, status: &'static str) -> JoinHandle<String> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"the page\n") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "the request ended early");
                request.extend_from_slice(&part[..read]);
            }
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        })
    }

    #[test]
    fn a_push_replaces_the_group_and_hears_of_a_refusal() {
        for (status, accepted) in [("200 OK", true), ("400 Bad Request", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/metrics/job/test", listener.local_addr().unwrap());
            let answering = gateway(listener, status);
            let address = PushAddress::parse(&url).unwrap();
            let direct = Agent::config_builder().proxy(None).build().into();
            assert_eq!(push(&direct, &address, "the page\n".into()).is_ok(), accepted);
            let request = answering.join().unwrap();
            assert!(request.starts_with("PUT /metrics/job/test HTTP/1.1\r\n"), "{request}");
            assert!(request.to_lowercase().contains("content-type: text/plain; version=0.0.4"));
        }
    }
}
