//! Removal of generations that nobody needs any more.

use rusqlite::{Params, params};
use tidewater_protocol::{Epoch, OpId};

use super::connection_pool::Durability;
use super::{Embedded, failure};
use crate::error::{BoxError, StorageError};
use crate::keys::{BucketKey, GenerationId, Tag};
use crate::ports::{OpLog, Sweep};

/// Rows that one transaction deletes, so that the worker never waits long for its turn.
const DELETED_AT_ONCE: usize = 1_000;

impl Sweep for Embedded {
    async fn generations(&self) -> Result<Vec<GenerationId>, StorageError> {
        let stored = self
            .reading(|connection| {
                let read = || {
                    connection
                        .prepare_cached("SELECT id FROM generation ORDER BY id")?
                        .query_map((), |row| row.get(0))?
                        .collect::<rusqlite::Result<Vec<u32>>>()
                };
                read().map_err(failure::of_sqlite)
            })
            .await?;
        let id = |number: u32| {
            let epoch = Epoch::new(number).ok_or_else(|| {
                let cause: BoxError = format!("epoch {number}").into();
                StorageError::Damaged("generation", cause)
            })?;
            Ok(GenerationId(epoch))
        };
        stored.into_iter().map(id).collect()
    }

    async fn delete_bucket(&self, bucket: &BucketKey) -> Result<(), StorageError> {
        self.delete_segments(bucket, OpId::MAX).await?;
        let bucket = bucket.clone();
        self.writing(Durability::Process, move |transaction| {
            let delete = || {
                for sql in [
                    "DELETE FROM bucket WHERE bucket = ?1",
                    "DELETE FROM due WHERE bucket = ?1",
                    "DELETE FROM registry WHERE bucket = ?1",
                ] {
                    transaction.prepare_cached(sql)?.execute([bucket.as_str()])?;
                }
                Ok(())
            };
            delete().map_err(failure::of_sqlite)
        })
        .await
    }

    async fn delete_lookup(&self, tag: &Tag) -> Result<(), StorageError> {
        // A key is the tag, then a JSON array; '\\' is the character after '['.
        let (first, end) = (format!("{tag}["), format!("{tag}\\"));
        self.delete_bit_by_bit(
            "DELETE FROM lookup WHERE (lookup, source) IN (
                SELECT lookup, source FROM lookup WHERE lookup >= ?1 AND lookup < ?2 LIMIT ?3)",
            move || params_of_lookup(&first, &end),
        )
        .await
    }

    async fn delete_generation(&self, id: GenerationId) -> Result<(), StorageError> {
        let number = id.0.number();
        self.delete_bit_by_bit(
            "DELETE FROM source_row WHERE generation = ?1 AND (source_table, row_key) IN (
                SELECT source_table, row_key FROM source_row WHERE generation = ?1 LIMIT ?2)",
            move || (number, DELETED_AT_ONCE as i64),
        )
        .await?;
        self.writing(Durability::Process, move |transaction| {
            let delete = || {
                transaction.execute("DELETE FROM copy WHERE generation = ?1", params![number])?;
                transaction.execute("DELETE FROM generation WHERE id = ?1", params![number])
            };
            delete().map(|_| ()).map_err(failure::of_sqlite)
        })
        .await
    }
}

fn params_of_lookup(first: &str, end: &str) -> (String, String, i64) {
    (first.to_owned(), end.to_owned(), DELETED_AT_ONCE as i64)
}

impl Embedded {
    /// Repeats a deletion of at most [`DELETED_AT_ONCE`] rows until there is nothing left for it.
    async fn delete_bit_by_bit<P: Params + Send + 'static>(
        &self,
        sql: &'static str,
        params: impl Fn() -> P + Send + Sync,
    ) -> Result<(), StorageError> {
        loop {
            let params = params();
            let deleted = self
                .writing(Durability::Process, move |transaction| {
                    let delete = || transaction.prepare_cached(sql)?.execute(params);
                    delete().map_err(failure::of_sqlite)
                })
                .await?;
            if deleted < DELETED_AT_ONCE {
                return Ok(());
            }
        }
    }
}
