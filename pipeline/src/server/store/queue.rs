//! A video's way from accepted to over.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Owner, Store, StoreError, VideoError, VideoRecord, first, get, select};
use crate::server::ids::VideoId;

/// What came of a wish to cancel.
#[derive(Debug, PartialEq)]
pub enum Cancellation {
    /// There is no such video.
    Unknown,
    /// It was over already.
    Over(VideoRecord),
    /// It will not be made.
    Cancelled(VideoRecord),
}

/// What is to be made.
#[derive(Debug, PartialEq)]
pub struct ToMake<T> {
    /// The videos.
    pub videos: T,
    /// Those that could not be read, and so have failed.
    pub unreadable: Vec<VideoRecord>,
}

impl Store {
    /// Takes the video that is next by priority and age, and notes that it is being made. One that cannot be read fails.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn claim(&self, at: i64) -> Result<ToMake<Option<VideoRecord>>, StoreError> {
        self.writes
            .run(move |connection| {
                let next = "status = 'queued' ORDER BY priority DESC, sequence LIMIT 1";
                let mut unreadable = Vec::new();
                while let Some(record) = first(connection, next, [])? {
                    if record.is_readable {
                        let claim =
                            "UPDATE videos SET status = 'in_progress', attempts = 1 WHERE sequence = ?1";
                        connection.prepare_cached(claim)?.execute([record.sequence])?;
                        let videos = first(connection, "sequence = ?1", [record.sequence])?;
                        return Ok(ToMake { videos, unreadable });
                    }
                    fail_unreadable(connection, &record, at)?;
                    unreadable.push(record);
                }
                Ok(ToMake { videos: None, unreadable })
            })
            .await
    }

    /// The videos that an earlier process began, in the order in which they were accepted. Those that cannot be read fail.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn begun(&self, at: i64) -> Result<ToMake<Vec<VideoRecord>>, StoreError> {
        self.writes
            .run(move |connection| {
                let begun = select(connection, "status = 'in_progress' ORDER BY sequence", [])?;
                let (videos, unreadable): (Vec<_>, Vec<_>) =
                    begun.into_iter().partition(|record| record.is_readable);
                for record in &unreadable {
                    fail_unreadable(connection, record, at)?;
                }
                Ok(ToMake { videos, unreadable })
            })
            .await
    }

    /// Notes, before a video that an earlier process began is taken up, that it is.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn taken_up(&self, id: VideoId) -> Result<(), StoreError> {
        self.set_attempts("attempts + 1 WHERE id = ?1", id).await
    }

    /// Notes that work on a video was saved since it was taken up.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn progressed(&self, id: VideoId) -> Result<(), StoreError> {
        self.set_attempts("0 WHERE id = ?1", id).await
    }

    async fn set_attempts(&self, to: &'static str, id: VideoId) -> Result<(), StoreError> {
        self.writes
            .run(move |connection| {
                let update = format!("UPDATE videos SET attempts = {to}");
                connection.prepare_cached(&update)?.execute([id.to_string()]).map(drop)
            })
            .await
    }

    /// Notes that the process ends in order, so that no video under way is to blame.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn ended_in_order(&self) -> Result<(), StoreError> {
        let update = "UPDATE videos SET attempts = 0 WHERE status = 'in_progress'";
        self.writes.run(move |connection| connection.execute(update, []).map(drop)).await
    }

    /// Whether a video is being made, as far as the record says.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn is_in_progress(&self, id: VideoId) -> Result<bool, StoreError> {
        let filter = "id = ?1 AND status = 'in_progress'";
        let found = self.reads.run(move |connection| first(connection, filter, [id.to_string()]));
        Ok(found.await?.is_some())
    }

    /// Notes that a video is there; `false` when it was cancelled or deleted meanwhile.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn complete(
        &self,
        id: VideoId,
        sha256: String,
        bytes: u64,
        at: i64,
    ) -> Result<bool, StoreError> {
        let update = "UPDATE videos SET status = 'completed', sha256 = ?2, bytes = ?3, completed_at = ?4 \
             WHERE id = ?1 AND status = 'in_progress'";
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.writes
            .run(move |connection| {
                let parameters = params![id.to_string(), sha256, bytes, at];
                Ok(connection.prepare_cached(update)?.execute(parameters)? == 1)
            })
            .await
    }

    /// Notes that a video will not come; `false` when it was over already.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn fail(&self, id: VideoId, error: VideoError, at: i64) -> Result<bool, StoreError> {
        self.writes.run(move |connection| fail(connection, id, &error, at)).await
    }

    /// Cancels an owner's video, if it is not over.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn cancel(
        &self,
        owner: &Owner,
        id: VideoId,
        error: VideoError,
        at: i64,
    ) -> Result<Cancellation, StoreError> {
        let owner = owner.clone();
        self.writes
            .run(move |connection| {
                let Some(record) = get(connection, &owner, id)? else {
                    return Ok(Cancellation::Unknown);
                };
                if !fail(connection, id, &error, at)? {
                    return Ok(Cancellation::Over(record));
                }
                let record = get(connection, &owner, id)?;
                Ok(record.map_or(Cancellation::Unknown, Cancellation::Cancelled))
            })
            .await
    }

    /// How many videos wait.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn waiting(&self) -> Result<usize, StoreError> {
        let query = "SELECT COUNT(*) FROM videos WHERE status = 'queued'";
        let count = self.reads.run(move |connection| {
            connection.prepare_cached(query)?.query_row([], |row| row.get::<_, i64>(0))
        });
        Ok(usize::try_from(count.await?).unwrap_or(0))
    }

    /// How many videos go before a waiting one; `None` when it does not wait.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn position(&self, id: VideoId) -> Result<Option<u64>, StoreError> {
        let query = "SELECT (SELECT COUNT(*) FROM videos AS other WHERE other.status = 'queued' \
             AND (other.priority > mine.priority OR (other.priority = mine.priority AND other.sequence < mine.sequence))) \
             FROM videos AS mine WHERE mine.id = ?1 AND mine.status = 'queued'";
        self.reads
            .run(move |connection| {
                let mut statement = connection.prepare_cached(query)?;
                let position = |row: &Row<'_>| Ok(row.get::<_, i64>(0)?.unsigned_abs());
                statement.query_row([id.to_string()], position).optional()
            })
            .await
    }
}

fn fail(
    connection: &Connection,
    id: VideoId,
    error: &VideoError,
    at: i64,
) -> rusqlite::Result<bool> {
    let update = "UPDATE videos SET status = 'failed', error_code = ?2, error_message = ?3, completed_at = ?4 \
         WHERE id = ?1 AND status IN ('queued', 'in_progress')";
    let parameters = params![id.to_string(), error.code, error.message, at];
    Ok(connection.prepare_cached(update)?.execute(parameters)? == 1)
}

fn fail_unreadable(connection: &Connection, record: &VideoRecord, at: i64) -> rusqlite::Result<()> {
    tracing::error!(id = %record.id, "the record of a video cannot be read: another version of sora may have written it");
    let told = VideoError::new("unreadable", "The server cannot read what is to be made.");
    fail(connection, record.id, &told, at).map(drop)
}
