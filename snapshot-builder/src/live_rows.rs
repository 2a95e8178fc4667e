//! The live rows of a bucket while they are gathered: a temporary SQLite database, so that memory
//! stays bounded whatever the size of the bucket.

use std::path::Path;

use rusqlite::{Connection, params};
use tidewater_protocol::{Body, Checksum, OpId, Operation, RowKey};
use tidewater_snapshot::{SnapshotRow, SnapshotWriter};
use tidewater_storage::{BaseRowsWriter, RowsFrame, SegmentReader};

use crate::error::BuildError;

/// Pages of 4 KiB that SQLite keeps in memory.
const CACHE_PAGES: i64 = 16_384;

/// The newest operation of each row so far.
#[derive(Debug)]
pub(crate) struct LiveRows {
    connection: Connection,
}

/// What the rows add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) sum: Checksum,
}

impl LiveRows {
    /// No rows, in a new file.
    pub(crate) fn create(path: &Path) -> Result<Self, BuildError> {
        let connection = Connection::open(path)?;
        // The file is of use to this process only.
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

    /// Applies operations in their order, as `SegmentWriter` wrote them.
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
                    let (op, sum) = (op_id.get(), checksum.0);
                    put.execute(params![object_type, object_id, subkey, op, sum, data])?;
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

    /// What the rows add up to.
    pub(crate) fn totals(&self) -> Result<Totals, BuildError> {
        let (rows, sum): (i64, i64) = self.connection.query_row(
            "SELECT count(*), coalesce(sum(sum), 0) & 0xFFFFFFFF FROM live",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let sum = u32::try_from(sum).expect("32 bits are left");
        Ok(Totals { rows: rows.unsigned_abs(), sum: Checksum(sum) })
    }

    /// Writes the rows in the order of their op ids.
    pub(crate) fn write_rows(
        &self,
        path: &Path,
        frame_rows: u64,
    ) -> Result<Vec<RowsFrame>, BuildError> {
        let mut writer = BaseRowsWriter::create(path, frame_rows)?;
        self.for_each("op", |row| {
            let key = RowKey::new(row.object_type, row.object_id, row.subkey);
            let body = Body::Put { row: key, data: row.data.into() };
            let (op_id, checksum) = (row.op_id, row.checksum);
            Ok(writer.push(&Operation { op_id, checksum, body })?)
        })?;
        Ok(writer.finish()?)
    }

    /// Writes the rows in the order of their keys.
    pub(crate) fn write_typed(&self, writer: &mut SnapshotWriter) -> Result<(), BuildError> {
        self.for_each("object_type, object_id, subkey", |row| Ok(writer.push(row)?))
    }

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
            let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
            each(&SnapshotRow {
                object_type: text(0)?,
                object_id: text(1)?,
                subkey: text(2)?,
                op_id: OpId::from_i64(row.get(3)?).unwrap_or_default(),
                checksum: Checksum(row.get(4)?),
                data: text(5)?,
            })?;
        }
        Ok(())
    }
}
