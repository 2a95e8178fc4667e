//! Verification of what a file says about itself, before anything of it is used.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};
use tidewater_protocol::{Checksum, OpId};

use super::fields::{checksum, op_id, text};
use crate::error::SnapshotError;
use crate::schema::{
    APPLICATION_ID, FORMAT, IdColumn, META_SQL, PAGE_BYTES, TypedTable, are_usable,
};

/// Maximum number of listed tables, and of types, that is read. A writer makes 1,000 tables at
/// most; the bound keeps a malicious file from exhausting memory.
const ENTRIES_MAX: usize = 100_000;
/// Length of the header of a SQLite file in bytes.
const HEADER_BYTES: usize = 100;

/// The identity and size that a file must have, as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedFile<'a> {
    /// Name of the bucket. A file holds the last part of it, which is unique. The part before, up to
    /// a full stop, is for people and may change while the rows stay the same.
    pub bucket: &'a str,
    /// Position of the snapshot.
    pub to: OpId,
    /// Sum of the bucket at that position.
    pub checksum: Checksum,
    /// Size of the unpacked file in bytes.
    pub raw_bytes: u64,
}

/// A row of `_tw_types`.
#[derive(Debug)]
pub(super) struct TypeEntry {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) ids_are_unique: bool,
}

/// Checks the header, which SQLite itself would check only while it already trusts the file.
pub(super) fn check_header(path: &Path, raw_bytes: u64) -> Result<(), SnapshotError> {
    let mut file = File::open(path).map_err(SnapshotError::file(path))?;
    let size = file.metadata().map_err(SnapshotError::file(path))?.len();
    if size != raw_bytes {
        let what = format!("it has {size} bytes instead of {raw_bytes}");
        return Err(SnapshotError::damaged(what));
    }

    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)
        .map_err(|error| SnapshotError::damaged_because("it is too short", error))?;

    // The offsets are those of the SQLite database file format.
    let is_sqlite = header.starts_with(b"SQLite format 3\0");
    if !is_sqlite || number_at(&header, 68) != APPLICATION_ID.cast_unsigned() {
        return Err(SnapshotError::damaged("it is not a snapshot"));
    }
    let format = i64::from(number_at(&header, 60));
    if format != FORMAT {
        return Err(SnapshotError::NewerFormat(format));
    }

    let page_bytes = u64::from(u16::from_be_bytes([header[16], header[17]]));
    let is_plain = page_bytes == PAGE_BYTES
        // Read and write version 1 (no WAL), no reserved bytes in the pages.
        && header[18..21] == [1, 1, 0]
        && u64::from(number_at(&header, 28)) * PAGE_BYTES == size
        // No free pages, no auto-vacuum, no incremental vacuum.
        && [32, 36, 52, 64].iter().all(|&at| number_at(&header, at) == 0)
        // UTF-8.
        && number_at(&header, 56) == 1;
    if is_plain { Ok(()) } else { Err(SnapshotError::damaged("its header is not a snapshot's")) }
}

fn number_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Opens a file so that SQLite runs nothing that is in it and notices damaged pages.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA query_only = ON",
    )?;
    Ok(connection)
}

/// Checks bucket, position and sum, and returns the announced number of rows.
pub(super) fn read_meta(
    connection: &Connection,
    expected: &ExpectedFile<'_>,
) -> Result<u64, SnapshotError> {
    let mut select =
        connection.prepare("SELECT * FROM _tw_snapshot").map_err(SnapshotError::reading)?;
    let mut found = select.query([]).map_err(SnapshotError::reading)?;
    let row = found
        .next()
        .map_err(SnapshotError::reading)?
        .ok_or_else(|| SnapshotError::damaged("its description is missing"))?;

    let is_expected = is_named(expected.bucket, text(row, 0)?)
        && op_id(row, 1)? == expected.to
        && checksum(row, 2)? == expected.checksum;
    let rows = row_count(row, 3).map_err(SnapshotError::reading)?;

    let has_more = found.next().map_err(SnapshotError::reading)?.is_some();
    if !is_expected || has_more {
        return Err(SnapshotError::damaged("it is of another bucket or position"));
    }
    Ok(rows)
}

/// Returns whether a bucket of this name is the one that a file names. The file names the last part
/// of it; a part before that ends with a full stop.
fn is_named(name: &str, of_file: &str) -> bool {
    let before = name.strip_suffix(of_file);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

pub(super) fn read_types(connection: &Connection) -> rusqlite::Result<Vec<TypeEntry>> {
    let mut select = connection.prepare("SELECT * FROM _tw_types")?;
    let types = select.query_map([], |row| {
        Ok(TypeEntry { name: row.get(0)?, rows: row_count(row, 1)?, ids_are_unique: row.get(2)? })
    })?;
    types.take(ENTRIES_MAX).collect()
}

/// A row of `_tw_tables`.
struct TableEntry {
    name: String,
    object_type: String,
    columns: String,
    id_column: Option<i64>,
    rows: u64,
}

pub(super) fn read_tables(connection: &Connection) -> Result<Vec<TypedTable>, SnapshotError> {
    let mut select =
        connection.prepare("SELECT * FROM _tw_tables").map_err(SnapshotError::reading)?;
    let entries = select
        .query_map([], |row| {
            Ok(TableEntry {
                name: row.get(0)?,
                object_type: row.get(1)?,
                columns: row.get(2)?,
                id_column: row.get(3)?,
                rows: row_count(row, 4)?,
            })
        })
        .map_err(SnapshotError::reading)?;

    let mut tables = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        tables.push(entry.map_err(SnapshotError::reading)?.into_table()?);
    }
    Ok(tables)
}

impl TableEntry {
    fn into_table(self) -> Result<TypedTable, SnapshotError> {
        let columns: Vec<String> = serde_json::from_str(&self.columns).map_err(|error| {
            SnapshotError::damaged_because("the columns of a table are not listed", error)
        })?;
        if !are_usable(&columns) {
            return Err(SnapshotError::damaged("a table has columns that no table can have"));
        }

        let id_column = match self.id_column.map(usize::try_from) {
            None => IdColumn::Own,
            Some(Ok(index)) if columns.get(index).is_some_and(|column| column == "id") => {
                IdColumn::Data(index)
            }
            Some(_) => return Err(SnapshotError::damaged("a table has no column for its ids")),
        };
        let Self { name, object_type, rows, .. } = self;
        Ok(TypedTable { name, object_type, columns, id_column, rows })
    }
}

/// A row of `sqlite_schema`.
struct SchemaEntry {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

/// Fails unless the tables that describe the file have the SQL that the writer gives them.
///
/// This comes before anything is read from them: rusqlite reports a value of the wrong type with the name
/// of its column, and panics if a damaged file gives it a name that is not UTF-8.
pub(super) fn check_description(connection: &Connection) -> Result<(), SnapshotError> {
    let sql = "SELECT count(*) FROM sqlite_schema
        WHERE type = 'table' AND name = ?1 AND tbl_name = ?1 AND sql = ?2";
    let mut select = connection.prepare(sql).map_err(SnapshotError::reading)?;
    for described in META_SQL {
        let count: i64 =
            select.query_row(described, |row| row.get(0)).map_err(SnapshotError::reading)?;
        if count != 1 {
            let what = format!("it lacks its table '{}'", described.0);
            return Err(SnapshotError::damaged(what));
        }
    }
    Ok(())
}

/// Fails unless the file has the listed tables, with the SQL that the writer gives them, and nothing
/// else. So there is no view, trigger, index, virtual table, default, check or generated column that
/// SQLite could run.
pub(super) fn check_schema(
    connection: &Connection,
    tables: &[TypedTable],
) -> Result<(), SnapshotError> {
    let mut allowed: Vec<(String, String)> =
        META_SQL.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    allowed.extend(tables.iter().map(|table| (table.name.clone(), table.create_sql())));
    allowed.sort_unstable();

    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name";
    let mut select = connection.prepare(sql).map_err(SnapshotError::reading)?;
    let found = select
        .query_map([], |row| {
            Ok(SchemaEntry {
                kind: row.get(0)?,
                name: row.get(1)?,
                table: row.get(2)?,
                sql: row.get(3)?,
            })
        })
        .map_err(SnapshotError::reading)?;

    // Both lists are in the order of names.
    let mut allowed = allowed.into_iter();
    for entry in found {
        let SchemaEntry { kind, name, table, sql } = entry.map_err(SnapshotError::reading)?;
        if kind != "table" || table != name || allowed.next() != Some((name, sql)) {
            return Err(SnapshotError::damaged(format!("it has an unexpected {kind} '{table}'")));
        }
    }
    match allowed.next() {
        None => Ok(()),
        Some((name, _)) => Err(SnapshotError::damaged(format!("it lacks its table '{name}'"))),
    }
}

/// Returns a count. A negative one reads as 0 and then contradicts the others.
fn row_count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| count.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_file_is_matched_by_the_unique_part_of_its_buckets_name() {
        assert!(is_named("lists|0.k7m2qa[\"u1\"]", "k7m2qa[\"u1\"]"));
        assert!(is_named("a.b|0.k7m2qa[]", "k7m2qa[]"));
        assert!(is_named("b", "b"));
        for other in ["7m2qa[]", "k7m2qb[]", "a|0.k7m2qa[]", ""] {
            assert!(!is_named("lists|0.k7m2qa[]", other), "{other}");
        }
    }
}
