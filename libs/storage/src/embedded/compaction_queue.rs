//! The queue of compaction tasks.

use rusqlite::{Connection, Transaction};
use tidewater_protocol::OpId;

use super::connection_pool::Durability;
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::keys::BucketKey;
use crate::ports::{CompactionQueue, CompactionTask};

impl CompactionQueue for Embedded {
    async fn due_tasks(&self, now: u64, limit: usize) -> Result<Vec<CompactionTask>, StorageError> {
        let now = seconds(now);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);

        self.reading(move |connection| {
            due_tasks(connection, now, limit).map_err(failure::of_sqlite)
        })
        .await
    }

    async fn complete(&self, task: &CompactionTask) -> Result<bool, StorageError> {
        let bucket = task.bucket.clone();
        let triggered_by = task.triggered_by.get();

        // If the removal is lost, the task is only processed again.
        self.writing(Durability::Process, move |transaction| {
            let deleted = transaction
                .prepare_cached("DELETE FROM due WHERE bucket = ?1 AND at = ?2")
                .and_then(|mut delete| delete.execute((bucket.as_str(), triggered_by)))
                .map_err(failure::of_sqlite)?;
            Ok(deleted == 1)
        })
        .await
    }

    async fn defer(&self, task: &CompactionTask, not_before: u64) -> Result<bool, StorageError> {
        let bucket = task.bucket.clone();
        let triggered_by = task.triggered_by.get();

        self.writing(Durability::Process, move |transaction| {
            let updated = transaction
                .prepare_cached("UPDATE due SET not_before = ?3 WHERE bucket = ?1 AND at = ?2")
                .and_then(|mut update| {
                    update.execute((bucket.as_str(), triggered_by, seconds(not_before)))
                })
                .map_err(failure::of_sqlite)?;
            Ok(updated == 1)
        })
        .await
    }
}

fn due_tasks(
    connection: &Connection,
    now: i64,
    limit: i64,
) -> rusqlite::Result<Vec<CompactionTask>> {
    connection
        .prepare_cached("SELECT bucket, at, not_before FROM due WHERE not_before <= ?1 LIMIT ?2")?
        .query_map((now, limit), |row| {
            Ok(CompactionTask {
                bucket: BucketKey::from_stored(row.get_ref(0)?.as_str()?),
                triggered_by: OpId::from_i64(row.get(1)?).unwrap_or_default(),
                not_before: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })?
        .collect()
}

/// Queues tasks. Each replaces the queued task of its bucket.
pub(super) fn put(transaction: &Transaction<'_>, tasks: &[CompactionTask]) -> rusqlite::Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO due VALUES (?1, ?2, ?3)")?;
    for task in tasks {
        put.execute((task.bucket.as_str(), task.triggered_by.get(), seconds(task.not_before)))?;
    }
    Ok(())
}

/// Returns a time as SQLite stores it.
fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
