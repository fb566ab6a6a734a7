//! What is kept, and for how long.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Owner, Store, StoreError, VideoRecord, VideoStatus, first, get};
use crate::server::ids::VideoId;

/// Whether files of a video are still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is finished: its files, but not its saved work.
    Finished,
    /// It is not over: all of them.
    Unfinished,
    /// It failed, or is not known: none.
    Nothing,
}

impl Store {
    /// Forgets an owner's video; answers what it was.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn delete(
        &self,
        owner: &Owner,
        id: VideoId,
    ) -> Result<Option<VideoRecord>, StoreError> {
        let owner = owner.clone();
        self.writes
            .run(move |connection| {
                let Some(record) = get(connection, &owner, id)? else { return Ok(None) };
                delete(connection, record.sequence)?;
                Ok(Some(record))
            })
            .await
    }

    /// Forgets the videos that were over before `before`, and then the oldest finished ones until all of them have no
    /// more than `most_bytes`; answers which.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn expire(
        &self,
        before: Option<i64>,
        most_bytes: Option<u64>,
    ) -> Result<Vec<VideoId>, StoreError> {
        self.writes
            .run(move |connection| {
                let mut gone = Vec::new();
                let over = "status IN ('completed', 'failed')";
                if let Some(before) = before {
                    let filter =
                        format!("{over} AND completed_at < ?1 ORDER BY completed_at LIMIT 1");
                    while let Some(record) = first(connection, &filter, [before])? {
                        delete(connection, record.sequence)?;
                        gone.push(record.id);
                    }
                }
                let total = "SELECT COALESCE(SUM(bytes), 0) FROM videos WHERE status = 'completed'";
                let oldest = "status = 'completed' ORDER BY completed_at, sequence LIMIT 1";
                while let Some(most) = most_bytes {
                    let bytes: i64 = connection.query_row(total, [], |row| row.get(0))?;
                    if u64::try_from(bytes).unwrap_or(0) <= most {
                        break;
                    }
                    let Some(record) = first(connection, oldest, [])? else { break };
                    delete(connection, record.sequence)?;
                    gone.push(record.id);
                }
                Ok(gone)
            })
            .await
    }

    /// What is still needed of each of these videos.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn kept(&self, ids: Vec<VideoId>) -> Result<Vec<Kept>, StoreError> {
        let query = "SELECT status FROM videos WHERE id = ?1";
        self.reads
            .run(move |connection| {
                let mut statement = connection.prepare_cached(query)?;
                let mut kept = |id: VideoId| {
                    let status =
                        statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
                    let status: Option<String> = status;
                    Ok(match status.and_then(|status| status.parse().ok()) {
                        Some(VideoStatus::Completed) => Kept::Finished,
                        Some(VideoStatus::Queued | VideoStatus::InProgress) => Kept::Unfinished,
                        Some(VideoStatus::Failed) | None => Kept::Nothing,
                    })
                };
                ids.into_iter().map(&mut kept).collect()
            })
            .await
    }

    /// How many unfinished videos were accepted for other weights, another device or dtype.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn foreign(&self, fingerprint: &str) -> Result<u64, StoreError> {
        let query = "SELECT COUNT(*) FROM videos WHERE status IN ('queued', 'in_progress') AND fingerprint <> ?1";
        let fingerprint = fingerprint.to_string();
        let count = self.reads.run(move |connection| {
            connection.query_row(query, [fingerprint], |row| row.get::<_, i64>(0))
        });
        Ok(count.await?.unsigned_abs())
    }

    /// Gives up the videos that [`Store::foreign`] counts.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn abandon_foreign(&self, fingerprint: &str, at: i64) -> Result<(), StoreError> {
        let update = "UPDATE videos SET status = 'failed', error_code = 'abandoned', completed_at = ?2, \
             error_message = 'The video was accepted for another model, which is not served any more.' \
             WHERE status IN ('queued', 'in_progress') AND fingerprint <> ?1";
        let fingerprint = fingerprint.to_string();
        let done =
            self.writes.run(move |connection| connection.execute(update, params![fingerprint, at]));
        done.await.map(|_| ())
    }
}

fn delete(connection: &Connection, sequence: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM videos WHERE sequence = ?1")?.execute([sequence])?;
    Ok(())
}
