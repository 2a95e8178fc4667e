//! Versioned records: conditional writes in bulk, and point reads.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Row, Statement, Transaction};
use tidewater_protocol::OpId;

use super::connection_pool::{Durability, in_one_snapshot};
use super::{Embedded, compaction_queue, failure, op_log};
use crate::error::StorageError;
use crate::keys::{BucketKey, GenerationId, RecordKey};
use crate::ports::{Batch, RecordConflict, RecordStore, RecordWrite, SourceRowPage};
use crate::versioned_record::VersionedRecord;

/// The statements for one kind of record. Their parameters are the columns of its key, then the new
/// record, its newest op id, and the expected newest op id. The column `cell` holds the encoded record,
/// in which `substr(cell, 9, 8)` is the newest op id.
struct Sql {
    select: &'static str,
    /// Writes if no record is stored.
    insert: &'static str,
    /// Writes if the stored newest op id is the expected one.
    update: &'static str,
}

const BUCKET: Sql = Sql {
    select: "SELECT cell FROM bucket WHERE bucket = ?1",
    insert: "INSERT INTO bucket (bucket, cell) VALUES (?1, ?2) ON CONFLICT DO UPDATE
        SET cell = excluded.cell WHERE substr(cell, 9, 8) = ?3",
    update: "UPDATE bucket SET cell = ?2 WHERE bucket = ?1 AND substr(cell, 9, 8) IN (?3, ?4)",
};

const LOOKUP: Sql = Sql {
    select: "SELECT cell FROM lookup WHERE lookup = ?1 AND source = ?2",
    insert: "INSERT INTO lookup VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE
        SET cell = excluded.cell WHERE substr(cell, 9, 8) = ?4",
    update: "UPDATE lookup SET cell = ?3
        WHERE lookup = ?1 AND source = ?2 AND substr(cell, 9, 8) IN (?4, ?5)",
};

const SOURCE_ROW: Sql = Sql {
    select: "SELECT cell FROM source_row
        WHERE generation = ?1 AND source_table = ?2 AND row_key = ?3",
    insert: "INSERT INTO source_row VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
        SET cell = excluded.cell WHERE substr(cell, 9, 8) = ?5",
    update: "UPDATE source_row SET cell = ?4 WHERE generation = ?1 AND source_table = ?2
        AND row_key = ?3 AND substr(cell, 9, 8) IN (?5, ?6)",
};

const COPY: Sql = Sql {
    select: "SELECT cell FROM copy WHERE generation = ?1",
    insert: "INSERT INTO copy VALUES (?1, ?2) ON CONFLICT DO UPDATE
        SET cell = excluded.cell WHERE substr(cell, 9, 8) = ?3",
    update: "UPDATE copy SET cell = ?2 WHERE generation = ?1 AND substr(cell, 9, 8) IN (?3, ?4)",
};

impl RecordStore for Embedded {
    async fn records(
        &self,
        keys: &[RecordKey],
    ) -> Result<Vec<Option<VersionedRecord>>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }

        let keys = keys.to_vec();
        self.reading(move |connection| {
            in_one_snapshot(connection, |connection| {
                let mut selects = Selects::new(connection);
                keys.iter().map(|key| selects.record(key)).collect()
            })
        })
        .await
    }

    async fn source_rows(
        &self,
        generation: GenerationId,
        table: u16,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SourceRowPage, StorageError> {
        // The place is the last name before it.
        let after = after.map(str::to_owned);
        let limit = limit.max(1);
        let rows_max = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reading(move |connection| {
            let read = || {
                let comparison = if after.is_some() { ">" } else { ">=" };
                let query = format!(
                    "SELECT row_key FROM source_row
                     WHERE generation = ?1 AND source_table = ?2 AND row_key {comparison} ?3
                     ORDER BY row_key LIMIT ?4"
                );
                let after = after.unwrap_or_default();
                connection
                    .prepare_cached(&query)?
                    .query_map((generation.0.number(), table, after, rows_max), |row| {
                        Ok(Arc::from(row.get_ref(0)?.as_str()?))
                    })?
                    .collect::<rusqlite::Result<Vec<Arc<str>>>>()
            };
            let names = read().map_err(failure::of_sqlite)?;
            let is_full = names.len() >= limit;
            let next = names.last().filter(|_| is_full).map(|last| last.to_string());
            Ok(SourceRowPage { names, next })
        })
        .await
    }

    async fn write(&self, batch: Arc<Batch>) -> Result<Vec<RecordConflict>, StorageError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // The batch stays uncommitted until a control record commits it, and that write is durable.
        self.writing(Durability::Process, move |transaction| {
            register(transaction, &batch.registry).map_err(failure::of_sqlite)?;
            op_log::put(transaction, &batch.segments)?;
            compaction_queue::put(transaction, &batch.compaction_tasks)
                .map_err(failure::of_sqlite)?;

            let conflicts =
                write_records(transaction, &batch.records).map_err(failure::of_sqlite)?;
            let mut selects = Selects::new(transaction);
            conflicts
                .into_iter()
                .map(|key| Ok(RecordConflict { key: key.clone(), stored: selects.record(key)? }))
                .collect()
        })
        .await
    }
}

fn register(transaction: &Transaction<'_>, buckets: &[BucketKey]) -> rusqlite::Result<()> {
    if buckets.is_empty() {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO registry VALUES (?1)")?;
    for bucket in buckets {
        insert.execute([bucket.as_str()])?;
    }
    Ok(())
}

/// Writes records on their conditions. Returns the keys of those whose condition failed.
fn write_records<'a>(
    transaction: &Transaction<'_>,
    writes: &'a [RecordWrite],
) -> rusqlite::Result<Vec<&'a RecordKey>> {
    let mut conflicts = Vec::new();
    let mut inserts: [Option<CachedStatement<'_>>; 4] = Default::default();
    let mut updates: [Option<CachedStatement<'_>>; 4] = Default::default();

    for write in writes {
        let (kind, sql) = kind(&write.key);
        let (statement, sql) = match write.expected_newest {
            None => (&mut inserts[kind], sql.insert),
            Some(_) => (&mut updates[kind], sql.update),
        };
        let statement = prepared(transaction, statement, sql)?;

        let next = bind_key(statement, &write.key)?;
        statement.raw_bind_parameter(next, write.record.encode())?;
        statement.raw_bind_parameter(next + 1, &encoded(write.record.newest_op())[..])?;
        if let Some(expected) = write.expected_newest {
            statement.raw_bind_parameter(next + 2, &encoded(expected)[..])?;
        }

        if statement.raw_execute()? == 0 {
            conflicts.push(&write.key);
        }
    }
    Ok(conflicts)
}

struct Selects<'a> {
    connection: &'a Connection,
    statements: [Option<CachedStatement<'a>>; 4],
}

impl<'a> Selects<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, statements: Default::default() }
    }

    fn record(&mut self, key: &RecordKey) -> Result<Option<VersionedRecord>, StorageError> {
        let stored = self.stored(key).map_err(failure::of_sqlite)?;
        stored.as_ref().map(VersionedRecord::decode).transpose()
    }

    fn stored(&mut self, key: &RecordKey) -> rusqlite::Result<Option<Bytes>> {
        let (kind, sql) = kind(key);
        let statement = prepared(self.connection, &mut self.statements[kind], sql.select)?;
        bind_key(statement, key)?;
        let mut rows = statement.raw_query();
        rows.next()?.map(|row| blob(row, 0)).transpose()
    }
}

fn prepared<'s, 'c>(
    connection: &'c Connection,
    statement: &'s mut Option<CachedStatement<'c>>,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'c>> {
    match statement {
        Some(statement) => Ok(statement),
        None => Ok(statement.insert(connection.prepare_cached(sql)?)),
    }
}

fn kind(key: &RecordKey) -> (usize, &'static Sql) {
    match key {
        RecordKey::Bucket(_) => (0, &BUCKET),
        RecordKey::Lookup(..) => (1, &LOOKUP),
        RecordKey::SourceRow(..) => (2, &SOURCE_ROW),
        RecordKey::Copy(_) => (3, &COPY),
    }
}

/// Binds the columns of the key. Returns the number of the next parameter.
fn bind_key(statement: &mut Statement<'_>, key: &RecordKey) -> rusqlite::Result<usize> {
    match key {
        RecordKey::Bucket(bucket) => {
            statement.raw_bind_parameter(1, bucket.as_str())?;
            Ok(2)
        }
        RecordKey::Lookup(lookup, source) => {
            statement.raw_bind_parameter(1, lookup.as_str())?;
            statement.raw_bind_parameter(2, &**source)?;
            Ok(3)
        }
        RecordKey::SourceRow(generation, table, row) => {
            statement.raw_bind_parameter(1, generation.0.number())?;
            statement.raw_bind_parameter(2, *table)?;
            statement.raw_bind_parameter(3, &**row)?;
            Ok(4)
        }
        RecordKey::Copy(generation) => {
            statement.raw_bind_parameter(1, generation.0.number())?;
            Ok(2)
        }
    }
}

fn encoded(op: OpId) -> [u8; 8] {
    op.get().to_le_bytes()
}

pub(super) fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
