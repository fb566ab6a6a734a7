//! What is kept, and for how long.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::record::parsed;
use super::{Owner, Store, StoreError, VideoRecord, VideoStatus, get};
use crate::server::ids::VideoId;

/// How many videos are forgotten in one piece of work, so that whoever writes meanwhile does not wait for all of them.
const BATCH: usize = 64;

/// How many failed and cancelled videos are remembered. Our choice: they hold no files, and some megabytes of records say
/// enough of what went wrong.
const MOST_FAILED: i64 = 10_000;

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

    /// Forgets the videos that were over before `before`, the oldest failed ones beyond [`MOST_FAILED`], and then the oldest
    /// finished ones until the files of all of them have no more than `most_bytes`; answers which.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn expire(
        &self,
        before: Option<i64>,
        most_bytes: Option<u64>,
    ) -> Result<Vec<VideoId>, StoreError> {
        let mut gone = Vec::new();
        loop {
            let expire = move |connection: &Connection| expire_some(connection, before, most_bytes);
            let batch = self.writes.run(expire).await?;
            let is_last = batch.len() < BATCH;
            gone.extend(batch);
            if is_last {
                return Ok(gone);
            }
        }
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

    /// Gives up the videos that [`Store::foreign`] counts; answers when each was accepted.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn abandon_foreign(
        &self,
        fingerprint: &str,
        at: i64,
    ) -> Result<Vec<i64>, StoreError> {
        let update = "UPDATE videos SET status = 'failed', error_code = 'abandoned', completed_at = ?2, \
             error_message = 'The video was accepted for another model, which is not served any more.' \
             WHERE status IN ('queued', 'in_progress') AND fingerprint <> ?1 RETURNING created_at";
        let fingerprint = fingerprint.to_string();
        self.writes
            .run(move |connection| {
                let mut statement = connection.prepare_cached(update)?;
                statement.query_map(params![fingerprint, at], |row| row.get(0))?.collect()
            })
            .await
    }

    /// Moves by so many seconds when the videos were over that were so within `ends`, in seconds of Unix time.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn move_ends(&self, ends: RangeInclusive<i64>, by: i64) -> Result<(), StoreError> {
        let update = "UPDATE videos SET completed_at = completed_at + ?3 \
             WHERE status IN ('completed', 'failed') AND completed_at BETWEEN ?1 AND ?2";
        let (first, last) = ends.into_inner();
        self.writes
            .run(move |connection| connection.execute(update, [first, last, by]).map(drop))
            .await
    }
}

/// Forgets at most [`BATCH`] videos.
fn expire_some(
    connection: &Connection,
    before: Option<i64>,
    most_bytes: Option<u64>,
) -> rusqlite::Result<Vec<VideoId>> {
    let mut gone = Vec::new();
    // Of those for which `filter` holds, the oldest until one may stay.
    let mut forget = |filter: &str, before: i64, may_stay: &mut dyn FnMut(i64) -> bool| {
        let query = format!(
            "SELECT sequence, id, bytes FROM videos WHERE {filter} AND completed_at < ?1 \
             ORDER BY completed_at, sequence LIMIT {BATCH}"
        );
        let mut statement = connection.prepare_cached(&query)?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let found: Vec<(i64, String, i64)> =
            statement.query_map([before], row)?.collect::<Result<_, _>>()?;
        for (sequence, id, bytes) in found {
            if gone.len() == BATCH || may_stay(bytes) {
                break;
            }
            delete(connection, sequence)?;
            gone.push(parsed(1, &id)?);
        }
        Ok::<_, rusqlite::Error>(())
    };
    let number = |query: &str| -> rusqlite::Result<i64> {
        connection.prepare_cached(query)?.query_row([], |row| row.get(0))
    };
    if let Some(before) = before {
        forget("status IN ('completed', 'failed')", before, &mut |_| false)?;
    }
    let failed = number("SELECT COUNT(*) FROM videos WHERE status = 'failed'")?;
    let mut too_many = failed - MOST_FAILED;
    if too_many > 0 {
        forget("status = 'failed'", i64::MAX, &mut |_| {
            too_many -= 1;
            too_many < 0
        })?;
    }
    if let Some(most) = most_bytes {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut total =
            number("SELECT COALESCE(SUM(bytes), 0) FROM videos WHERE status = 'completed'")?;
        forget("status = 'completed'", i64::MAX, &mut |bytes| {
            let is_little_enough = total <= most;
            total -= bytes;
            is_little_enough
        })?;
    }
    Ok(gone)
}

fn delete(connection: &Connection, sequence: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM videos WHERE sequence = ?1")?.execute([sequence])?;
    Ok(())
}
