//! A database connection on a thread of its own, to which work is handed in.
//!
//! Writes that wait together are committed together, so that many submissions share one sync of the disk; each is
//! answered only when it is there.

use std::thread;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::StoreError;

/// How many pieces of work may wait for the thread. Our choice: some for each connection that the server takes.
const WAITING: usize = 1024;

/// How many writes share a commit at most, so that the first does not wait for ever.
const SHARED: usize = 256;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Work that waits together shares a transaction, and so its write to the disk.
    Writing,
    /// Each piece of work has a transaction of its own: one that was begun earlier would not see what was written since.
    Reading,
}

/// Tells the one who waits what came of the work, once it is known whether it is on the disk.
type Settle = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Task = Box<dyn FnOnce(&Connection) -> Settle + Send>;

/// Hands work to the thread. The thread ends when the last of these is dropped.
#[derive(Clone)]
pub(super) struct Lane {
    tasks: flume::Sender<Task>,
}

impl Lane {
    /// Gives a connection a thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(
        name: &str,
        connection: Connection,
        purpose: Purpose,
    ) -> Result<Self, StoreError> {
        let (tasks, waiting) = flume::bounded::<Task>(WAITING);
        thread::Builder::new()
            .name(name.to_string())
            .spawn(move || serve(&connection, &waiting, purpose))
            .map_err(StoreError::Thread)?;
        Ok(Self { tasks })
    }

    /// Has `work` done and waits until what it changed is on the disk. Work that fails changes nothing.
    ///
    /// # Errors
    /// The work's own, or SQLite cannot commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            let done = alone(connection, work).map_err(StoreError::from);
            Box::new(move |committed| {
                // Whoever no longer waits needs no answer.
                let _ = answer.send(committed.and(done));
            })
        });
        self.tasks.send_async(task).await.map_err(|_| StoreError::Gone)?;
        answered.await.map_err(|_| StoreError::Gone)?
    }
}

fn serve(connection: &Connection, waiting: &flume::Receiver<Task>, purpose: Purpose) {
    let shared = match purpose {
        Purpose::Writing => SHARED,
        Purpose::Reading => 1,
    };
    while let Ok(first) = waiting.recv() {
        let begun = connection.execute_batch("BEGIN");
        let tasks = std::iter::once(first).chain(waiting.try_iter()).take(shared);
        let settles: Vec<Settle> = tasks.map(|task| task(connection)).collect();
        let committed = begun.and_then(|()| connection.execute_batch("COMMIT"));
        if committed.is_err() {
            // Nothing more can be done about it; those who wait are told.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for settle in settles {
            settle(committed.as_ref().map(|&()| ()).map_err(StoreError::commit));
        }
    }
}

/// Does one piece of work so that its failure undoes its own changes alone.
fn alone<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT work")?;
    let done = work(connection);
    let end = if done.is_ok() { "RELEASE work" } else { "ROLLBACK TO work; RELEASE work" };
    connection.execute_batch(end)?;
    done
}

impl StoreError {
    /// A failed commit, told to each who waited for it.
    fn commit(cause: &rusqlite::Error) -> Self {
        let full = cause.sqlite_error_code() == Some(ErrorCode::DiskFull);
        Self::Commit { reason: cause.to_string(), full }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::future::join_all;

    use super::*;

    fn lane() -> Lane {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER UNIQUE)").unwrap();
        Lane::start("test", connection, Purpose::Writing).unwrap()
    }

    /// A read that is handed in after a write was answered, while another read is under way, sees what was written.
    #[actix::test]
    async fn what_was_answered_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.sqlite");
        let open = || Connection::open(&path).unwrap();
        let writer = open();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER UNIQUE)").unwrap();
        let writer = Lane::start("writer", writer, Purpose::Writing).unwrap();
        let reader = Lane::start("reader", open(), Purpose::Reading).unwrap();
        let ((begun, is_begun), (end, may_end)) = (flume::bounded(1), flume::bounded::<()>(1));
        let long = reader.run(move |connection| {
            let count = connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))?;
            begun.send(()).unwrap();
            may_end.recv().unwrap();
            Ok::<u32, _>(count)
        });
        let write = async {
            is_begun.recv_async().await.unwrap();
            writer.run(|connection| insert(connection, 1)).await.unwrap();
            let seen = count(&reader);
            // The second read waits behind the first before that ends.
            let ended = async {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                end.send(()).unwrap();
            };
            futures_util::future::join(seen, ended).await.0
        };
        let (before, after) = futures_util::future::join(long, write).await;
        assert_eq!((before.unwrap(), after), (0, 1));
    }

    fn insert(connection: &Connection, n: u32) -> rusqlite::Result<()> {
        connection.execute("INSERT INTO t VALUES (?1)", [n]).map(|_| ())
    }

    async fn count(lane: &Lane) -> u32 {
        let query = "SELECT COUNT(*) FROM t";
        lane.run(|connection| connection.query_row(query, [], |row| row.get(0))).await.unwrap()
    }

    #[actix::test]
    async fn work_that_fails_undoes_itself_and_spares_what_shares_its_commit() {
        let lane = lane();
        let work = (0..100u32).map(|n| {
            lane.run(move |connection| {
                insert(connection, n)?;
                // Every tenth breaks the rule after having changed something.
                if n % 10 == 0 { insert(connection, n) } else { Ok(()) }
            })
        });
        let done = join_all(work).await;
        assert_eq!(done.iter().filter(|done| done.is_err()).count(), 10);
        assert_eq!(count(&lane).await, 90);
    }
}
