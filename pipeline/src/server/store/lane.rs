//! A database connection on a thread of its own, to which work is handed in.
//!
//! Work that waits together is committed together, so that many submissions share one write to the disk; each is
//! answered only when it is there.

use std::thread;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::StoreError;

/// How many pieces of work may wait for the thread. Our choice: some for each connection that the server takes.
const WAITING: usize = 1024;

/// How many pieces of work share a commit at most, so that the first does not wait for ever.
const SHARED: usize = 256;

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
    pub(super) fn start(name: &str, connection: Connection) -> Result<Self, StoreError> {
        let (tasks, waiting) = flume::bounded::<Task>(WAITING);
        thread::Builder::new()
            .name(name.to_string())
            .spawn(move || serve(&connection, &waiting))
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

fn serve(connection: &Connection, waiting: &flume::Receiver<Task>) {
    while let Ok(first) = waiting.recv() {
        let begun = connection.execute_batch("BEGIN");
        let tasks = std::iter::once(first).chain(waiting.try_iter()).take(SHARED);
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
        Lane::start("test", connection).unwrap()
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
