//! The page of metrics on a port, for a Prometheus to scrape.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use crate::{MetricsPage, TelemetryError};

/// What the format is called in HTTP.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long somebody may take to ask and to read. Our choice: longer than a Prometheus waits by default.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many may ask at the same time; whoever comes then is turned away. Our choice: more than there are who scrape, and few of the
/// files that a process may open.
const PLACES: usize = 16;

/// Before an address that cannot be had is tried again. Our choice.
const PAUSE: Duration = Duration::from_secs(1);

/// An address that is listened at, and has no thread yet.
pub(crate) struct ScrapePort {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
    renewal: Arc<Notify>,
}

impl ScrapePort {
    /// # Errors
    /// The address cannot be bound, or nobody could wait for who comes.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, TelemetryError> {
        let refused = |cause| TelemetryError::Address { address, cause };
        let listener = net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        // Whoever asked for any port keeps the one that was found.
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        Ok(Self { runtime, listener, address, renewal: Arc::default() })
    }

    /// Notified, the port is closed and opened again.
    pub(crate) fn renewal(&self) -> Arc<Notify> {
        Arc::clone(&self.renewal)
    }

    /// Serves the page for as long as the process runs, whatever path is asked for.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn serve(self, page: MetricsPage) -> io::Result<()> {
        let Self { runtime, mut listener, address, renewal } = self;
        let places = Arc::new(Semaphore::new(PLACES));
        let listen = async move {
            loop {
                accept(&listener, &renewal, &places, &page).await;
                // Some systems let nobody have an address twice.
                drop(listener);
                listener = bind_patiently(address).await;
            }
        };
        let thread = thread::Builder::new().name("sora-metrics-http".into());
        thread.spawn(move || runtime.block_on(listen)).map(drop)
    }
}

/// Answers all who come, until the port is to be opened anew.
async fn accept(
    listener: &TcpListener,
    renewal: &Notify,
    places: &Arc<Semaphore>,
    page: &MetricsPage,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = renewal.notified() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                    let page = page.clone();
                    tokio::spawn(async move {
                        answer(stream, page).await;
                        drop(place);
                    });
                }
            }
            // They have gone again.
            Err(cause) if of_the_other_side(&cause) => {}
            Err(cause) => {
                tracing::warn!(%cause, "metrics cannot be scraped for a moment");
                // What is exhausted, file handles say, would be asked for without end.
                sleep(PAUSE).await;
                return;
            }
        }
    }
}

fn of_the_other_side(cause: &io::Error) -> bool {
    let kinds =
        [ErrorKind::ConnectionAborted, ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
    kinds.contains(&cause.kind())
}

async fn bind_patiently(address: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(cause) => {
                if !is_told {
                    tracing::error!(%address, %cause, "metrics cannot be scraped; it is tried again");
                    is_told = true;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, page: MetricsPage) {
    let service = service_fn(|_| {
        let mut response = hyper::Response::new(Full::<Bytes>::from(page.render()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
        async { Ok::<_, Infallible>(response) }
    });
    // One page each, so that nobody who stays keeps a place.
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => tracing::debug!(%cause, "a scrape came to nothing"),
        Err(_) => tracing::debug!("a scrape took too long"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;

    fn port() -> ScrapePort {
        ScrapePort::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    /// What comes back for some bytes; nothing where the connection was refused or broken.
    fn ask(address: SocketAddr, request: &str) -> Option<String> {
        let mut stream = net::TcpStream::connect(address).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn scrape(address: SocketAddr) -> Option<String> {
        ask(address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
    }

    /// The page, whenever the port is there again.
    fn wait_for_page(address: SocketAddr) -> String {
        let began = Instant::now();
        loop {
            match scrape(address) {
                Some(answer) if answer.starts_with("HTTP/1.1 200 OK\r\n") => return answer,
                answer => assert!(began.elapsed() < PATIENCE / 2, "{answer:?}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_page_is_served_whoever_else_holds_the_line() {
        let port = port();
        let address = port.address;
        port.serve(MetricsPage::for_tests()).unwrap();
        let _silent = net::TcpStream::connect(address).unwrap();
        let nonsense = ask(address, "\u{16}\u{3}\u{1}\r\n\r\n");
        assert!(nonsense.is_none_or(|answer| answer.is_empty() || answer.contains(" 400 ")));
        let page = scrape(address).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("content-type: {FORMAT}")), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains("sora_test 1\n"), "{body}");
    }

    #[test]
    fn who_says_nothing_is_turned_away_when_there_are_many() {
        let port = port();
        let address = port.address;
        port.serve(MetricsPage::for_tests()).unwrap();
        let mut silent: Vec<_> =
            (0..PLACES).map(|_| net::TcpStream::connect(address).unwrap()).collect();
        // They came before.
        assert_eq!(scrape(address).unwrap_or_default(), "");
        silent.pop();
        wait_for_page(address);
    }

    #[test]
    fn a_port_is_opened_again_at_the_same_address() {
        let port = port();
        let (address, renewal) = (port.address, port.renewal());
        port.serve(MetricsPage::for_tests()).unwrap();
        for _ in 0..3 {
            assert!(wait_for_page(address).contains("sora_test 1\n"));
            renewal.notify_one();
        }
        wait_for_page(address);
    }

    #[test]
    fn whoever_listens_stops_to_listen_anew() {
        let ScrapePort { runtime, listener, renewal, .. } = port();
        runtime.block_on(async {
            let (page, places) = (MetricsPage::for_tests(), Arc::new(Semaphore::new(PLACES)));
            let listening = accept(&listener, &renewal, &places, &page);
            assert!(timeout(Duration::from_millis(100), listening).await.is_err());
            renewal.notify_one();
            let listening = accept(&listener, &renewal, &places, &page);
            assert!(timeout(Duration::from_secs(60), listening).await.is_ok());
        });
    }

    #[test]
    fn an_address_that_is_taken_is_had_when_it_is_free() {
        let taken = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        assert!(ScrapePort::bind(address).is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let early = timeout(Duration::from_millis(200), bind_patiently(address)).await;
            assert!(early.is_err());
            drop(taken);
            let listener = timeout(Duration::from_secs(60), bind_patiently(address)).await.unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
        });
    }
}
