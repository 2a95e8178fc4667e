//! The keys of a table's rows, without the rows.

use rusqlite::Connection;
use tidewater_protocol::OpId;

use super::fields::{check_count, checksum, op_id, reading, text};
use crate::error::SnapshotError;
use crate::schema::TypedTable;

/// A reader of the keys of a [`TypedTable`]. It has a connection of its own, so that it can run on
/// another thread than its [`crate::Snapshot`].
#[derive(Debug)]
pub struct TableKeys {
    connection: Connection,
    sql: String,
    table: String,
    rows: u64,
}

/// The identity of a row within a table, and the operation that put the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableKey<'r> {
    /// Id of the row.
    pub id: &'r str,
    /// Subkey of the row.
    pub subkey: &'r str,
    /// Id of the operation that put the row.
    pub op_id: OpId,
}

impl TableKeys {
    pub(super) fn new(connection: Connection, table: &TypedTable) -> Self {
        Self {
            connection,
            sql: table.select_keys_sql(),
            table: table.name.clone(),
            rows: table.rows,
        }
    }

    /// Returns the smallest id, or `None` if the table has no rows.
    ///
    /// # Errors
    /// Fails like [`crate::Snapshot::for_each_typed`].
    pub fn first(&self) -> Result<Option<String>, SnapshotError> {
        let mut select = self.connection.prepare(&self.sql).map_err(SnapshotError::reading)?;
        let mut rows = select.query([]).map_err(SnapshotError::reading)?;
        let first = rows.next().map_err(SnapshotError::reading)?;
        first.map(|row| text(row, 0).map(str::to_owned)).transpose()
    }

    /// Visits the keys in ascending order of id and subkey. Fails if the file has them in another
    /// order, or if their number differs from the announced one.
    ///
    /// For a long row, only the pages of its key are read. Damage in the rest is found by whoever
    /// reads the row.
    ///
    /// # Errors
    /// Fails like [`crate::Snapshot::for_each_typed`].
    pub fn for_each<E: From<SnapshotError>>(
        &self,
        mut visit: impl FnMut(TableKey<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut select = self.connection.prepare(&self.sql).map_err(reading::<E>)?;
        let mut rows = select.query([]).map_err(reading::<E>)?;
        let mut last_id = String::new();
        let mut last_subkey = String::new();
        let mut count = 0;

        while let Some(row) = rows.next().map_err(reading::<E>)? {
            let key = TableKey { id: text(row, 0)?, subkey: text(row, 1)?, op_id: op_id(row, 2)? };
            checksum(row, 3)?;

            let last = (last_id.as_str(), last_subkey.as_str());
            if count > 0 && (key.id, key.subkey) <= last {
                return Err(SnapshotError::damaged("its rows are out of order").into());
            }
            visit(key)?;

            last_id.clear();
            last_id.push_str(key.id);
            last_subkey.clear();
            last_subkey.push_str(key.subkey);
            count += 1;
        }
        check_count(count, self.rows, &self.table).map_err(E::from)
    }
}
