//! The durable record of every video: one SQLite database in the server's folder.
//!
//! What a method of [`Store`] has answered is on the disk: a write is answered after its commit, which is synced.

mod error;
mod keeping;
mod lane;
mod queue;
mod record;
mod schema;
#[cfg(test)]
pub(super) mod tests;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, params};

use self::lane::{Lane, Purpose};
use super::ids::VideoId;
use crate::saved_job::exact_json;

pub use error::StoreError;
pub use keeping::Kept;
pub use queue::{Cancellation, ToMake};
pub use record::{NewVideo, Owner, VideoError, VideoRecord, VideoStatus};

/// How long one process waits for another that has the database open, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The videos of one server. Writes go through one thread and reads through another, so that neither compute nor HTTP
/// threads wait for the disk.
#[derive(Clone)]
pub struct Store {
    writes: Lane,
    reads: Lane,
}

/// How many videos may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// In all.
    pub waiting: usize,
    /// Waiting and being made, for one owner.
    pub of_owner: usize,
}

/// What became of a new video.
#[derive(Debug, PartialEq)]
pub enum Acceptance {
    /// It is on the disk.
    Accepted(VideoRecord),
    /// The same idempotency key came before, with this video.
    Before(VideoRecord),
    /// As many wait as may wait.
    QueueFull,
    /// The owner has as many unfinished videos as it may have.
    OwnerFull,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Behind this video.
    pub after: Option<VideoId>,
    /// So many at most.
    pub limit: usize,
    /// The oldest first.
    pub ascending: bool,
}

/// A part of a list.
#[derive(Debug, PartialEq)]
pub struct Listing {
    /// Its videos.
    pub videos: Vec<VideoRecord>,
    /// Whether more follow.
    pub has_more: bool,
}

impl Store {
    /// Opens the database, or makes it.
    ///
    /// # Errors
    /// It cannot be opened or written to, or a later version of this program made it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = Connection::open(path)?;
        // Readers do not wait for the writer, and a commit is on the disk when it returns.
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        schema::migrate(&mut writer)?;
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Self {
            writes: Lane::start("store_writer", writer, Purpose::Writing)?,
            reads: Lane::start("store_reader", reader, Purpose::Reading)?,
        })
    }

    /// Accepts a video, if there is room for it.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn accept(
        &self,
        video: NewVideo,
        limits: QueueLimits,
    ) -> Result<Acceptance, StoreError> {
        self.writes.run(move |connection| accept(connection, &video, limits)).await
    }

    /// An owner's video; `None` when there is none, or it is another's.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn get(&self, owner: &Owner, id: VideoId) -> Result<Option<VideoRecord>, StoreError> {
        let owner = owner.clone();
        self.reads.run(move |connection| get(connection, &owner, id)).await
    }

    /// A part of an owner's videos; `None` when there is no video that it could begin behind.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn list(&self, owner: &Owner, page: Page) -> Result<Option<Listing>, StoreError> {
        let owner = owner.clone();
        self.reads.run(move |connection| list(connection, &owner, page)).await
    }
}

fn accept(
    connection: &Connection,
    video: &NewVideo,
    limits: QueueLimits,
) -> rusqlite::Result<Acceptance> {
    let owner = &video.owner.0;
    if let Some(key) = &video.idempotency_key {
        let before = first(connection, "owner = ?1 AND idempotency_key = ?2", [owner, key])?;
        if let Some(before) = before {
            return Ok(Acceptance::Before(before));
        }
    }
    let count = |filter: &str, parameters: &[&String]| {
        let query = format!("SELECT COUNT(*) FROM videos WHERE {filter}");
        let parameters = rusqlite::params_from_iter(parameters);
        connection.prepare_cached(&query)?.query_row(parameters, |row| row.get::<_, i64>(0))
    };
    let is_full = |count: i64, most: usize| i64::try_from(most).is_ok_and(|most| count >= most);
    if is_full(count("status = 'queued'", &[])?, limits.waiting) {
        return Ok(Acceptance::QueueFull);
    }
    let unfinished = "owner = ?1 AND status IN ('queued', 'in_progress')";
    if is_full(count(unfinished, &[owner])?, limits.of_owner) {
        return Ok(Acceptance::OwnerFull);
    }
    let as_json = |cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause));
    let request = exact_json::to_text(&video.request).map_err(as_json)?;
    let metadata = video.metadata.as_ref().map(serde_json::to_string);
    connection
        .prepare_cached(
            "INSERT INTO videos (id, owner, status, priority, request, model, fingerprint, metadata, remixed_from, \
             idempotency_key, created_at) VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            video.id.to_string(),
            owner,
            video.priority,
            request,
            video.model,
            video.fingerprint,
            metadata.transpose().map_err(as_json)?,
            video.remixed_from.map(|id| id.to_string()),
            video.idempotency_key,
            video.created_at,
        ])?;
    let record = get(connection, &video.owner, video.id)?;
    record.map(Acceptance::Accepted).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn get(
    connection: &Connection,
    owner: &Owner,
    id: VideoId,
) -> rusqlite::Result<Option<VideoRecord>> {
    first(connection, "owner = ?1 AND id = ?2", [&owner.0, &id.to_string()])
}

fn list(connection: &Connection, owner: &Owner, page: Page) -> rusqlite::Result<Option<Listing>> {
    let after = match page.after {
        None => None,
        Some(id) => match get(connection, owner, id)? {
            None => return Ok(None),
            Some(record) => Some(record.sequence),
        },
    };
    let (comparison, order, end) =
        if page.ascending { (">", "ASC", i64::MIN) } else { ("<", "DESC", i64::MAX) };
    let filter =
        format!("owner = ?1 AND sequence {comparison} ?2 ORDER BY sequence {order} LIMIT ?3");
    let one_more = i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut videos = select(connection, &filter, params![owner.0, after.unwrap_or(end), one_more])?;
    let has_more = videos.len() > page.limit;
    videos.truncate(page.limit);
    Ok(Some(Listing { videos, has_more }))
}

/// All records for which `filter` holds.
fn select(
    connection: &Connection,
    filter: &str,
    parameters: impl Params,
) -> rusqlite::Result<Vec<VideoRecord>> {
    let query = format!("SELECT {} FROM videos WHERE {filter}", VideoRecord::COLUMNS);
    let mut statement = connection.prepare_cached(&query)?;
    statement.query_map(parameters, VideoRecord::from_row)?.collect()
}

/// The first record for which `filter` holds.
fn first(
    connection: &Connection,
    filter: &str,
    parameters: impl Params,
) -> rusqlite::Result<Option<VideoRecord>> {
    let query = format!("SELECT {} FROM videos WHERE {filter}", VideoRecord::COLUMNS);
    let mut statement = connection.prepare_cached(&query)?;
    statement.query_row(parameters, VideoRecord::from_row).optional()
}
