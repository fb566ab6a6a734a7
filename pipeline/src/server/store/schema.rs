//! The database's layout, and how an older one becomes the present one.

use rusqlite::Connection;

use super::StoreError;

/// What each version adds; the database's `user_version` counts those that were applied. Entries are never changed, only
/// added.
const MIGRATIONS: [&str; 2] = [
    r"
    CREATE TABLE videos (
        -- Order of acceptance; never used twice.
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        -- Which API key it belongs to; empty where keys are not asked for.
        owner TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('queued', 'in_progress', 'completed', 'failed')),
        priority INTEGER NOT NULL,
        -- Everything that the video's bits depend on, besides the weights.
        request TEXT NOT NULL,
        model TEXT NOT NULL,
        -- Weights, device and dtype that it was accepted for.
        fingerprint TEXT NOT NULL,
        metadata TEXT,
        remixed_from TEXT,
        idempotency_key TEXT,
        created_at INTEGER NOT NULL,
        completed_at INTEGER,
        error_code TEXT,
        error_message TEXT,
        bytes INTEGER NOT NULL DEFAULT 0,
        sha256 TEXT
    ) STRICT;
    CREATE INDEX videos_to_do ON videos (priority DESC, sequence) WHERE status = 'queued';
    CREATE INDEX videos_unfinished ON videos (owner) WHERE status IN ('queued', 'in_progress');
    CREATE INDEX videos_over ON videos (completed_at) WHERE status IN ('completed', 'failed');
    CREATE INDEX videos_of_owner ON videos (owner, sequence);
    CREATE UNIQUE INDEX videos_idempotent ON videos (owner, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
",
    r"
    -- How often the video was taken up since work on it was saved for the last time.
    ALTER TABLE videos ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    -- `bytes` counts all files of a video from now on.
    CREATE INDEX videos_finished ON videos (completed_at, sequence, bytes) WHERE status = 'completed';
    CREATE INDEX videos_failed ON videos (completed_at, sequence) WHERE status = 'failed';
",
];

/// Brings a database up to the present layout.
///
/// # Errors
/// It is of a later version of this program, or SQLite refuses.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    if version > MIGRATIONS.len() {
        return Err(StoreError::Later { found: version, known: MIGRATIONS.len() });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_database_is_brought_up_once_and_a_later_one_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'videos'";
        assert_eq!(connection.query_row(tables, [], |row| row.get::<_, u32>(0)).unwrap(), 1);
        connection.pragma_update(None, "user_version", 99).unwrap();
        let told = migrate(&mut connection).unwrap_err().to_string();
        assert!(told.contains("99"), "{told}");
    }
}
