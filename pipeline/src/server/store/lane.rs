//! A database connection on a thread of its own, to which work is handed in.
//!
//! Writes that wait together are committed together, so that many submissions share one sync of the disk; each is
//! answered only when it is there.

use std::thread;

use rusqlite::{Connection, ErrorCode, ffi};
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

/// A piece of work, which is done within a transaction, or only told why there is none.
type Task = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Done + Send>;

/// Work that was tried.
struct Done {
    settle: Settle,
    /// Whether it failed since the disk is full.
    disk_full: bool,
}

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
            let done = connection.and_then(|connection| Ok(alone(connection, work)?));
            let disk_full = done.as_ref().is_err_and(StoreError::is_disk_full);
            let settle = Box::new(move |committed: Result<(), StoreError>| {
                // Whoever no longer waits needs no answer. Its own failure says more than that of the commit.
                let _ = answer.send(done.and_then(|done| committed.map(|()| done)));
            });
            Done { settle, disk_full }
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
        let tasks = std::iter::once(first).chain(waiting.try_iter()).take(shared);
        serve_together(connection, tasks);
    }
}

/// Does pieces of work in one transaction. Without one none is done: each would commit by itself, and its owner be told that
/// it failed.
fn serve_together(connection: &Connection, tasks: impl Iterator<Item = Task>) {
    let mut transaction = connection.execute_batch("BEGIN");
    let mut settles = Vec::new();
    for task in tasks {
        let begun = transaction.as_ref().map(|()| connection).map_err(StoreError::commit);
        let Done { settle, disk_full } = task(begun);
        settles.push(settle);
        // A full disk, say, makes SQLite undo the whole transaction by itself.
        if transaction.is_ok() && connection.is_autocommit() {
            transaction = Err(rolled_back(disk_full));
        }
    }
    let committed = transaction.and_then(|()| connection.execute_batch("COMMIT"));
    if committed.is_err() && !connection.is_autocommit() {
        // Nothing more can be done about it; those who wait are told.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for settle in settles {
        settle(committed.as_ref().map(|&()| ()).map_err(StoreError::commit));
    }
}

/// SQLite undid the whole transaction.
fn rolled_back(disk_full: bool) -> rusqlite::Error {
    let code = if disk_full { ffi::SQLITE_FULL } else { ffi::SQLITE_ABORT_ROLLBACK };
    let told = "the transaction was undone, since a part of it failed".into();
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(told))
}

/// Does one piece of work so that its failure undoes its own changes alone.
fn alone<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT work")?;
    let done = work(connection).and_then(|done| {
        connection.execute_batch("RELEASE work")?;
        Ok(done)
    });
    if done.is_err()
        && connection.execute_batch("ROLLBACK TO work; RELEASE work").is_err()
        && !connection.is_autocommit()
    {
        // Nothing of it may be committed, so nothing of the others is either.
        let _ = connection.execute_batch("ROLLBACK");
    }
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

    use futures_util::future::{join_all, join3};

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
        connection.execute("INSERT INTO t (n) VALUES (?1)", [n]).map(|_| ())
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

    /// A database that is full in the middle of a batch undoes all of it: no part may be there, whatever comes after.
    #[actix::test]
    async fn a_batch_that_the_database_undoes_leaves_nothing_and_does_nothing_more() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER UNIQUE, filling BLOB)").unwrap();
        let pages: u32 =
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", pages + 8).unwrap();
        let lane = Lane::start("test", connection, Purpose::Writing).unwrap();
        // All that follows waits together behind this, and so shares a transaction.
        let (may_end, end) = flume::bounded::<()>(1);
        let gate = lane.run(move |_| {
            end.recv().unwrap();
            Ok(())
        });
        let writes = (0..9u32).map(|n| {
            lane.run(move |connection| {
                insert(connection, n)?;
                // The fifth is larger than what may be there.
                let filling = vec![0u8; if n == 4 { 1 << 20 } else { 8 }];
                connection.execute("UPDATE t SET filling = ?1 WHERE n = ?2", (filling, n))?;
                Ok(())
            })
        });
        let open = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            may_end.send(()).unwrap();
        };
        let (_, done, ()) = join3(gate, join_all(writes), open).await;
        for (n, done) in done.iter().enumerate() {
            let failed = done.as_ref().unwrap_err();
            assert!(failed.is_disk_full(), "{n}: {failed}");
        }
        assert_eq!(count(&lane).await, 0);
        lane.run(|connection| insert(connection, 1)).await.unwrap();
        assert_eq!(count(&lane).await, 1, "the next batch is one of its own");
    }

    /// Without a transaction a piece of work would commit by itself.
    #[test]
    fn where_no_transaction_can_begin_nothing_is_done() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER UNIQUE); BEGIN").unwrap();
        let (told, answer) = flume::bounded(1);
        let task: Task = Box::new(move |begun: Result<&Connection, StoreError>| {
            let done = begun.and_then(|connection| Ok(insert(connection, 1)?));
            let settle = move |_| told.send(done.is_err()).unwrap();
            Done { settle: Box::new(settle), disk_full: false }
        });
        serve_together(&connection, std::iter::once(task));
        assert!(answer.recv().unwrap());
        let query = "SELECT COUNT(*) FROM t";
        assert_eq!(connection.query_row(query, [], |row| row.get::<_, u32>(0)).unwrap(), 0);
    }
}
