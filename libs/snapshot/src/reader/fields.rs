//! Typed access to the columns of a file's rows.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use tidewater_protocol::{Checksum, OpId};

use crate::error::SnapshotError;

/// Fails unless a table has as many rows as the file announces.
pub(super) fn check_count(found: u64, announced: u64, table: &str) -> Result<(), SnapshotError> {
    if found == announced {
        return Ok(());
    }
    let what = format!("table {table} has {found} rows instead of {announced}");
    Err(SnapshotError::damaged(what))
}

/// Converts an error of SQLite to that of a caller who has an error type of its own.
pub(super) fn reading<E: From<SnapshotError>>(error: rusqlite::Error) -> E {
    SnapshotError::reading(error).into()
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, SnapshotError> {
    if let ValueRef::Text(text) = row.get_ref(column).map_err(SnapshotError::reading)? {
        return utf8(text);
    }
    Err(SnapshotError::damaged("a text is missing"))
}

pub(super) fn utf8(text: &[u8]) -> Result<&str, SnapshotError> {
    std::str::from_utf8(text).map_err(|_| SnapshotError::damaged("a text is not UTF-8"))
}

pub(super) fn op_id(row: &Row<'_>, column: usize) -> Result<OpId, SnapshotError> {
    let number = row.get(column).map_err(SnapshotError::reading)?;
    OpId::from_i64(number).ok_or_else(|| SnapshotError::damaged("an op id is negative"))
}

pub(super) fn checksum(row: &Row<'_>, column: usize) -> Result<Checksum, SnapshotError> {
    row.get(column).map(Checksum).map_err(SnapshotError::reading)
}
