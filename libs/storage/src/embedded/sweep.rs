//! Deletion of generations that are no longer used.

use rusqlite::{Connection, Params, Transaction, params};
use tidewater_protocol::{Epoch, OpId};

use super::buckets::keys_of_tag;
use super::connection_pool::Durability;
use super::{Embedded, failure};
use crate::error::{BoxError, StorageError};
use crate::keys::{BucketKey, GenerationId, Tag};
use crate::ports::{OpLog, Sweep};

/// Maximum number of rows that one transaction deletes, so that the worker never waits long for the
/// write lock.
const DELETED_AT_ONCE: u32 = 1_000;

impl Sweep for Embedded {
    async fn generations(&self) -> Result<Vec<GenerationId>, StorageError> {
        let stored = self
            .reading(|connection| stored_generations(connection).map_err(failure::of_sqlite))
            .await?;
        stored.into_iter().map(generation_id).collect()
    }

    async fn delete_bucket(&self, bucket: &BucketKey) -> Result<(), StorageError> {
        self.delete_segments(bucket, OpId::MAX).await?;

        let bucket = bucket.clone();
        self.writing(Durability::Process, move |transaction| {
            delete_bucket(transaction, &bucket).map_err(failure::of_sqlite)
        })
        .await
    }

    async fn delete_lookup(&self, tag: &Tag) -> Result<(), StorageError> {
        let keys = keys_of_tag(tag);
        self.delete_in_steps(
            "DELETE FROM lookup WHERE (lookup, source) IN (
                SELECT lookup, source FROM lookup WHERE lookup >= ?1 AND lookup < ?2 LIMIT ?3)",
            move || (keys.start.clone(), keys.end.clone(), DELETED_AT_ONCE),
        )
        .await
    }

    async fn delete_generation(&self, id: GenerationId) -> Result<(), StorageError> {
        let number = id.0.number();
        self.delete_in_steps(
            "DELETE FROM source_row WHERE generation = ?1 AND (source_table, row_key) IN (
                SELECT source_table, row_key FROM source_row WHERE generation = ?1 LIMIT ?2)",
            move || (number, DELETED_AT_ONCE),
        )
        .await?;

        self.writing(Durability::Process, move |transaction| {
            for sql in
                ["DELETE FROM copy WHERE generation = ?1", "DELETE FROM generation WHERE id = ?1"]
            {
                transaction.execute(sql, params![number]).map_err(failure::of_sqlite)?;
            }
            Ok(())
        })
        .await
    }
}

fn stored_generations(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    connection
        .prepare_cached("SELECT id FROM generation ORDER BY id")?
        .query_map((), |row| row.get(0))?
        .collect()
}

fn generation_id(number: u32) -> Result<GenerationId, StorageError> {
    let epoch = Epoch::new(number).ok_or_else(|| {
        let cause: BoxError = format!("epoch {number}").into();
        StorageError::Damaged("generation", cause)
    })?;
    Ok(GenerationId(epoch))
}

fn delete_bucket(transaction: &Transaction<'_>, bucket: &BucketKey) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM bucket WHERE bucket = ?1",
        "DELETE FROM due WHERE bucket = ?1",
        "DELETE FROM registry WHERE bucket = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([bucket.as_str()])?;
    }
    Ok(())
}

impl Embedded {
    /// Repeats a statement that deletes at most [`DELETED_AT_ONCE`] rows until no row is left.
    async fn delete_in_steps<P: Params + Send + 'static>(
        &self,
        sql: &'static str,
        params: impl Fn() -> P + Send + Sync,
    ) -> Result<(), StorageError> {
        loop {
            let params = params();
            let deleted = self
                .writing(Durability::Process, move |transaction| {
                    transaction
                        .prepare_cached(sql)
                        .and_then(|mut delete| delete.execute(params))
                        .map_err(failure::of_sqlite)
                })
                .await?;

            if deleted < DELETED_AT_ONCE as usize {
                return Ok(());
            }
        }
    }
}
