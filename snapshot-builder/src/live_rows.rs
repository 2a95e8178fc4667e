//! The current rows of a bucket while they are collected, in a temporary SQLite database. So the memory is
//! bounded, whatever the size of the bucket.

use std::path::Path;

use rusqlite::{Connection, Row, params};
use tidewater_protocol::{Body, Checksum, OpId, Operation, RowKey};
use tidewater_snapshot::{SnapshotRow, SnapshotWriter};
use tidewater_storage::{BaseRowsWriter, RowsFrame, SegmentReader};

use crate::error::BuildError;

/// Size of SQLite's page cache in pages of 4 KiB: 64 MiB.
const CACHE_PAGES: i64 = 16_384;

/// The newest operation of each row that the operations so far leave.
#[derive(Debug)]
pub(crate) struct LiveRows {
    connection: Connection,
}

/// The number of rows and the sum of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) sum: Checksum,
}

impl LiveRows {
    /// Creates the database, without rows, in a new file.
    pub(crate) fn create(path: &Path) -> Result<Self, BuildError> {
        let connection = Connection::open(path)?;
        // The file is discarded if the process ends, so it needs no journal and no sync.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA cache_size = {CACHE_PAGES};
             CREATE TABLE live (
                 object_type TEXT NOT NULL,
                 object_id TEXT NOT NULL,
                 subkey TEXT NOT NULL,
                 op INTEGER NOT NULL,
                 sum INTEGER NOT NULL,
                 data TEXT NOT NULL,
                 UNIQUE (object_type, object_id, subkey)
             ) STRICT;
             BEGIN"
        ))?;
        Ok(Self { connection })
    }

    /// Applies the operations of a segment's payload in their order.
    pub(crate) fn apply(&self, payload: &[u8]) -> Result<(), BuildError> {
        let mut put = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO live VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let mut remove = self.connection.prepare_cached(
            "DELETE FROM live WHERE object_type = ?1 AND object_id = ?2 AND subkey = ?3",
        )?;

        for operation in SegmentReader::new(payload) {
            let Operation { op_id, checksum, body } = operation?;
            match body {
                Body::Put { row, data } => {
                    let RowKey { object_type, object_id, subkey } = row;
                    put.execute(params![
                        object_type,
                        object_id,
                        subkey,
                        op_id.get(),
                        checksum.0,
                        data
                    ])?;
                }
                Body::Remove { row } => {
                    remove.execute(params![row.object_type, row.object_id, row.subkey])?;
                }
                Body::Clear => {
                    self.connection.execute("DELETE FROM live", [])?;
                }
                Body::Move => {}
            }
        }
        Ok(())
    }

    /// Returns the number of rows and the sum of their checksums.
    pub(crate) fn totals(&self) -> Result<Totals, BuildError> {
        let (rows, sum): (i64, i64) = self.connection.query_row(
            "SELECT count(*), coalesce(sum(sum), 0) & 0xFFFFFFFF FROM live",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let sum = u32::try_from(sum).expect("the sum is masked to 32 bits");
        Ok(Totals { rows: rows.unsigned_abs(), sum: Checksum(sum) })
    }

    /// Writes the rows as frames of operations, in the order of their op ids.
    pub(crate) fn write_rows(
        &self,
        path: &Path,
        frame_rows: u64,
    ) -> Result<Vec<RowsFrame>, BuildError> {
        let mut writer = BaseRowsWriter::create(path, frame_rows)?;
        self.for_each("op", |row| {
            let key = RowKey::new(row.object_type, row.object_id, row.subkey);
            let body = Body::Put { row: key, data: row.data.into() };
            Ok(writer.push(&Operation { op_id: row.op_id, checksum: row.checksum, body })?)
        })?;
        Ok(writer.finish()?)
    }

    /// Writes the rows to a typed file, in the order of their keys.
    pub(crate) fn write_typed(&self, writer: &mut SnapshotWriter) -> Result<(), BuildError> {
        self.for_each("object_type, object_id, subkey", |row| Ok(writer.push(row)?))
    }

    /// Visits the rows in an order of columns.
    fn for_each(
        &self,
        order: &str,
        mut each: impl FnMut(&SnapshotRow<'_>) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let mut select = self.connection.prepare(&format!(
            "SELECT object_type, object_id, subkey, op, sum, data FROM live ORDER BY {order}"
        ))?;
        let mut rows = select.query([])?;

        while let Some(row) = rows.next()? {
            each(&SnapshotRow {
                object_type: text(row, 0)?,
                object_id: text(row, 1)?,
                subkey: text(row, 2)?,
                op_id: OpId::from_i64(row.get(3)?).unwrap_or_default(),
                checksum: Checksum(row.get(4)?),
                data: text(row, 5)?,
            })?;
        }
        Ok(())
    }
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    Ok(row.get_ref(column)?.as_str()?)
}
