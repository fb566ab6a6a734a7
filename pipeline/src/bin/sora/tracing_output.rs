//! Where logs and timelines go.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use sora_telemetry::timeline;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::print::note;

/// The timeline that is being written. One for the program, since the program's end may come on any thread.
static TIMELINE: Mutex<Option<Timeline>> = Mutex::new(None);

/// Sends logs to standard error, as `RUST_LOG` says or else `default_log`, and the timeline to a file in the Chrome trace format, if one is asked
/// for. Whoever calls this calls [`close`] before the program ends.
///
/// # Errors
/// The file cannot be written.
pub fn open(timeline: Option<&Path>, default_log: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_log));
    let logs = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_filter(filter);
    let spans = match timeline {
        None => None,
        Some(path) => {
            let file = TraceFile::create(path)
                .with_context(|| format!("cannot write the timeline {}", path.display()))?;
            let failure = file.failure.clone();
            let (layer, guard) = ChromeLayerBuilder::new()
                .writer(file)
                .include_args(true)
                .include_locations(false)
                .build();
            *lock(&TIMELINE) = Some(Timeline { guard, path: path.into(), failure });
            let only = Targets::new().with_target(timeline::TARGET, LevelFilter::TRACE);
            Some(layer.with_filter(only))
        }
    };
    tracing_subscriber::registry().with(logs).with(spans).init();
    Ok(())
}

/// Completes the timeline, if there is one: spans that end later are not in it.
pub fn close() {
    let Some(Timeline { guard, path, failure }) = lock(&TIMELINE).take() else { return };
    // Waits until everything is written.
    drop(guard);
    if let Some(cause) = lock(&failure).take() {
        note(&format!("warning: the timeline {} is not complete: {cause}", path.display()));
    }
}

struct Timeline {
    guard: FlushGuard,
    path: PathBuf,
    failure: Arc<Mutex<Option<io::Error>>>,
}

/// A file that keeps its first failure for later: the thread that writes spans does not expect one.
struct TraceFile {
    file: File,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl TraceFile {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, failure: Arc::default() })
    }

    fn unless_failed(&mut self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            *failure = write(&mut self.file).err();
        }
        Ok(())
    }
}

impl Write for TraceFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_failed(|file| file.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_failed(File::flush)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
