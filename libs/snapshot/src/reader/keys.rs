//! The keys of a table's rows, without the rows.

use rusqlite::Connection;
use tidewater_protocol::OpId;

use super::fields::{check_count, checksum, damaged, op_id, text};
use crate::error::SnapshotError;
use crate::schema::TypedTable;

/// The keys of a [`TypedTable`]; see [`crate::Snapshot::keys`].
#[derive(Debug)]
pub struct Keys {
    connection: Connection,
    sql: String,
    table: String,
    rows: u64,
}

/// What a row is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'r> {
    /// Its id.
    pub id: &'r str,
    /// Its subkey.
    pub subkey: &'r str,
    /// The operation that put it there.
    pub op_id: OpId,
}

impl Keys {
    pub(crate) fn new(connection: Connection, table: &TypedTable) -> Self {
        let (sql, rows) = (table.select_keys_sql(), table.rows);
        Self { connection, sql, table: table.name.clone(), rows }
    }

    /// The least id; none if there are no rows.
    ///
    /// # Errors
    /// As [`crate::Snapshot::for_each_typed`].
    pub fn first(&self) -> Result<Option<String>, SnapshotError> {
        let reading = SnapshotError::reading;
        let mut select = self.connection.prepare(&self.sql).map_err(reading)?;
        let mut rows = select.query([]).map_err(reading)?;
        let first = rows.next().map_err(reading)?;
        first.map(|row| text(row, 0).map(str::to_owned)).transpose()
    }

    /// Goes through the keys, ascending by id and subkey, and fails if they are not or if there
    /// are more or fewer than announced. Of long rows it does not read what lies beyond the key:
    /// that is found damaged, if it is, by who reads it.
    ///
    /// # Errors
    /// As [`crate::Snapshot::for_each_typed`].
    pub fn for_each<E: From<SnapshotError>>(
        &self,
        mut visit: impl FnMut(Key<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = |error| E::from(SnapshotError::reading(error));
        let mut select = self.connection.prepare(&self.sql).map_err(reading)?;
        let mut rows = select.query([]).map_err(reading)?;
        let (mut last_id, mut last_subkey) = (String::new(), String::new());
        let mut count = 0;
        while let Some(row) = rows.next().map_err(reading)? {
            let key = Key { id: text(row, 0)?, subkey: text(row, 1)?, op_id: op_id(row, 2)? };
            checksum(row, 3)?;
            let last = (last_id.as_str(), last_subkey.as_str());
            if count > 0 && (key.id, key.subkey) <= last {
                return Err(damaged("its rows are out of order").into());
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
