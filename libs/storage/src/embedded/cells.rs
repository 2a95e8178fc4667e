//! Cells: conditional writes in bulk, and point reads.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Row, Statement, Transaction};
use tidewater_protocol::OpId;

use super::sessions::{Durability, in_one_snapshot};
use super::{Embedded, failure, op_log, work_list};
use crate::cell::Cell;
use crate::error::StorageError;
use crate::keys::{BucketKey, CellKey};
use crate::ports::{Batch, CellStore, CellWrite, Refused};

/// The statements for one kind of cell. Their parameters are the columns of its key, then the new
/// cell, its top, the top known. `substr(cell, 9, 8)` is the top in the encoded cell.
struct Sql {
    select: &'static str,
    /// On condition that there is none.
    insert: &'static str,
    /// On condition that its top is the one known.
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

impl CellStore for Embedded {
    async fn cells(&self, keys: &[CellKey]) -> Result<Vec<Option<Cell>>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = keys.to_vec();
        self.reading(move |connection| {
            in_one_snapshot(connection, |connection| {
                let mut selects = Selects::new(connection);
                keys.iter().map(|key| selects.cell(key)).collect()
            })
        })
        .await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Refused>, StorageError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.clone();
        // Nothing of it counts before the control record is written after it, durably.
        self.writing(Durability::Process, move |transaction| {
            register(transaction, &batch.registry).map_err(failure::of_sqlite)?;
            op_log::put(transaction, &batch.segments).map_err(failure::of_sqlite)?;
            work_list::put(transaction, &batch.due).map_err(failure::of_sqlite)?;
            let refused = write_cells(transaction, &batch.cells).map_err(failure::of_sqlite)?;
            let mut selects = Selects::new(transaction);
            let refused = refused.into_iter().map(|key| {
                let stored = selects.cell(key)?;
                Ok(Refused { key: key.clone(), stored })
            });
            refused.collect()
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

/// Writes cells on their conditions; returns the keys of those that were refused.
fn write_cells<'a>(
    transaction: &Transaction<'_>,
    writes: &'a [CellWrite],
) -> rusqlite::Result<Vec<&'a CellKey>> {
    let mut refused = Vec::new();
    let mut inserts: [Option<CachedStatement<'_>>; 4] = Default::default();
    let mut updates: [Option<CachedStatement<'_>>; 4] = Default::default();
    for write in writes {
        let (kind, sql) = kind(&write.key);
        let (statement, sql) = match write.known_top {
            None => (&mut inserts[kind], sql.insert),
            Some(_) => (&mut updates[kind], sql.update),
        };
        let statement = prepared(transaction, statement, sql)?;
        let next = bind_key(statement, &write.key)?;
        statement.raw_bind_parameter(next, write.cell.encode())?;
        statement.raw_bind_parameter(next + 1, &encoded(write.cell.top())[..])?;
        if let Some(known) = write.known_top {
            statement.raw_bind_parameter(next + 2, &encoded(known)[..])?;
        }
        if statement.raw_execute()? == 0 {
            refused.push(&write.key);
        }
    }
    Ok(refused)
}

struct Selects<'a> {
    connection: &'a Connection,
    statements: [Option<CachedStatement<'a>>; 4],
}

impl<'a> Selects<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, statements: Default::default() }
    }

    fn cell(&mut self, key: &CellKey) -> Result<Option<Cell>, StorageError> {
        let stored = self.stored(key).map_err(failure::of_sqlite)?;
        stored.as_ref().map(Cell::decode).transpose()
    }

    fn stored(&mut self, key: &CellKey) -> rusqlite::Result<Option<Bytes>> {
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

fn kind(key: &CellKey) -> (usize, &'static Sql) {
    match key {
        CellKey::Bucket(_) => (0, &BUCKET),
        CellKey::Lookup(..) => (1, &LOOKUP),
        CellKey::SourceRow(..) => (2, &SOURCE_ROW),
        CellKey::Copy(_) => (3, &COPY),
    }
}

/// Binds the columns of the key; returns the number of the next parameter.
fn bind_key(statement: &mut Statement<'_>, key: &CellKey) -> rusqlite::Result<usize> {
    match key {
        CellKey::Bucket(bucket) => {
            statement.raw_bind_parameter(1, bucket.as_str())?;
            Ok(2)
        }
        CellKey::Lookup(lookup, source) => {
            statement.raw_bind_parameter(1, lookup.as_str())?;
            statement.raw_bind_parameter(2, &**source)?;
            Ok(3)
        }
        CellKey::SourceRow(generation, table, row) => {
            statement.raw_bind_parameter(1, generation.0.number())?;
            statement.raw_bind_parameter(2, *table)?;
            statement.raw_bind_parameter(3, &**row)?;
            Ok(4)
        }
        CellKey::Copy(generation) => {
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
