//! Telemetry as lines of JSON in a file, for a machine that nobody scrapes: metrics now and then, and what becomes of jobs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sora_actors::messages::{JobEvent, JobId, JobSummary};
use sora_telemetry::{MetricsPage, ReportForm, Reporter};

use crate::engine::thread_refused;
use crate::error::RunnerError;

/// Lines that may wait for the disk; further ones are left out, so that nobody waits for it.
const BACKLOG_LINES: usize = 256;

/// A file that is larger becomes the older one, in place of the one before. Our choice: some hours of lines, which a phone
/// has room for twice.
const FILE_BYTES: u64 = 8 << 20;

/// Where lines are handed in; the file is closed, after a last line of metrics, when all of these are dropped.
#[derive(Clone)]
pub(crate) struct TelemetryLines {
    sender: SyncSender<Value>,
}

impl TelemetryLines {
    /// Begins to write.
    ///
    /// # Errors
    /// The file cannot be written, or no thread can be started.
    pub(crate) fn start(
        path: &Path,
        page: MetricsPage,
        interval: Duration,
    ) -> Result<Self, RunnerError> {
        let mut file = LineFile::open(path)?;
        let (sender, lines) = sync_channel(BACKLOG_LINES);
        let mut reporter = Reporter::new(page, ReportForm::Json);
        let write = move || {
            let written = write_all(&mut file, &lines, &mut reporter, interval);
            if let Err(cause) = written {
                // The work goes on without.
                tracing::warn!(path = %file.path.display(), %cause, "telemetry is written no more");
            }
        };
        let thread = thread::Builder::new().name("sora-telemetry-file".into()).spawn(write);
        thread.map_err(|cause| thread_refused(&cause))?;
        Ok(Self { sender })
    }

    /// An event of a job, without what the user wrote.
    pub(crate) fn job(&self, id: JobId, event: &JobEvent) {
        let mut line = line(event);
        line["job"] = id.0.into();
        // When the disk is behind, or full, the work is not.
        let _ = self.sender.try_send(line);
    }
}

/// What is told of an event: by name, so that nothing gets here because it was added to an event. Texts are left out, those of
/// failures too: they may quote the prompt, or name a file of the user's.
fn line(event: &JobEvent) -> Value {
    match event {
        JobEvent::Queued { position } => json!({ "event": "queued", "position": position }),
        JobEvent::Embedding => json!({ "event": "embedding" }),
        JobEvent::Embedded { tokens, cut, negative, seconds, caption: _ } => json!({
            "event": "embedded",
            "tokens": tokens,
            "cut": cut.is_some(),
            "negative_tokens": negative.as_ref().map(|negative| negative.tokens),
            "seconds": seconds,
        }),
        JobEvent::Resumed { done, steps } => {
            json!({ "event": "resumed", "done": done, "steps": steps })
        }
        JobEvent::Step { index, steps, timestep, cosine, merged, leapt, coasted, seconds } => {
            json!({
                "event": "step",
                "index": index,
                "steps": steps,
                "timestep": timestep,
                "cosine": cosine,
                "merged": merged,
                "leapt": leapt,
                "coasted": coasted,
                "seconds": seconds,
            })
        }
        JobEvent::Preview { done, picture: _ } => json!({ "event": "preview", "done": done }),
        JobEvent::Decoding => json!({ "event": "decoding" }),
        JobEvent::Chunk(chunk) => json!({
            "event": "chunk",
            "first_frame": chunk.first_frame,
            "frames": chunk.frames.len(),
        }),
        JobEvent::Finished(JobSummary { steps_computed, leapt_at, stage_seconds, seconds }) => {
            json!({
                "event": "finished",
                "steps_computed": steps_computed,
                "leapt_at": leapt_at,
                "stage_seconds": stage_seconds,
                "seconds": seconds,
            })
        }
        JobEvent::Failed(error) => json!({
            "event": "failed",
            "stage": error.stage.to_string(),
            "kind": error.kind().as_str(),
        }),
        JobEvent::Cancelled => json!({ "event": "cancelled" }),
    }
}

fn write_all(
    file: &mut LineFile,
    lines: &Receiver<Value>,
    reporter: &mut Reporter,
    interval: Duration,
) -> io::Result<()> {
    let mut due = Instant::now() + interval;
    loop {
        match lines.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(line) => file.write(line)?,
            Err(reason) => {
                // The reporter's lines are JSON.
                file.write(serde_json::from_str(&reporter.next_line()).unwrap_or_default())?;
                due = Instant::now() + interval;
                if reason == RecvTimeoutError::Disconnected {
                    return Ok(());
                }
            }
        }
    }
}

/// A file that does not grow without end.
struct LineFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LineFile {
    fn open(path: &Path) -> Result<Self, RunnerError> {
        let opened = append_to(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = opened.map_err(|cause| {
            RunnerError::Telemetry(format!("{} cannot be written: {cause}", path.display()))
        })?;
        Ok(Self { path: path.to_path_buf(), file, bytes })
    }

    /// Adds a line, with the time of day in it.
    fn write(&mut self, mut line: Value) -> io::Result<()> {
        if let Some(fields) = line.as_object_mut() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            fields.insert("unix_seconds".into(), now.as_secs_f64().into());
        }
        let text = format!("{line}\n");
        if self.bytes + text.len() as u64 > FILE_BYTES {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            fs::rename(&self.path, older)?;
            (self.file, self.bytes) = (append_to(&self.path)?, 0);
        }
        self.bytes += text.len() as u64;
        self.file.write_all(text.as_bytes())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use sora_actors::messages::Caption;
    use sora_actors::{StageError, StageFailure, StageName};

    use super::*;

    #[test]
    fn a_full_file_becomes_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/telemetry.jsonl");
        let mut file = LineFile::open(&path).unwrap();
        file.write(json!({ "event": "first" })).unwrap();
        file.bytes = FILE_BYTES;
        file.write(json!({ "event": "second" })).unwrap();
        let older = fs::read_to_string(folder.path().join("new/telemetry.jsonl.1")).unwrap();
        let newer = fs::read_to_string(&path).unwrap();
        assert!(older.contains("first") && older.contains("unix_seconds"), "{older}");
        assert!(newer.contains("second") && !newer.contains("first"), "{newer}");
    }

    fn told(event: &JobEvent) -> Value {
        let (sender, lines) = sync_channel(1);
        TelemetryLines { sender }.job(JobId(4), event);
        lines.recv().unwrap()
    }

    #[test]
    fn what_users_write_is_left_out() {
        let negative =
            Caption { text: "a secret fear".into(), tokens: 5, cut: Some("secret rest".into()) };
        let embedded = JobEvent::Embedded {
            caption: "a secret".into(),
            tokens: 3,
            cut: Some("secret, too".into()),
            negative: Some(negative),
            seconds: 0.5,
        };
        let expected = json!({
            "event": "embedded", "tokens": 3, "cut": true, "negative_tokens": 5, "seconds": 0.5, "job": 4
        });
        assert_eq!(told(&embedded), expected);
        let message = "`secret` cannot be read".to_string();
        let failed = JobEvent::Failed(Arc::new(StageError {
            stage: StageName::PromptEmbedder,
            job: JobId(4),
            cause: Arc::new(StageFailure::Panicked { message }),
        }));
        let line = told(&failed);
        assert!(!line.to_string().contains("secret"), "{line}");
        assert_eq!(line["stage"], "prompt_embedder");
    }
}
