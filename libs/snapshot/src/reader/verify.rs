//! Verification of what a file says about itself, before anything of it is used.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use super::fields::{checksum, damaged, op_id, text};
use super::{Expected, TypeEntry};
use crate::error::SnapshotError;
use crate::schema::{
    APPLICATION_ID, FORMAT, IdColumn, META_SQL, PAGE_BYTES, TypedTable, are_usable,
};

/// More tables or types than a writer makes.
const ENTRIES_MAX: usize = 100_000;

/// What SQLite would find only after it has begun to trust the file. Offsets are those of
/// SQLite's file format.
pub(super) fn check_header(path: &Path, raw_bytes: u64) -> Result<(), SnapshotError> {
    let mut file = File::open(path).map_err(SnapshotError::file(path))?;
    let size = file.metadata().map_err(SnapshotError::file(path))?.len();
    if size != raw_bytes {
        return Err(SnapshotError::Damaged(format!("it has {size} bytes instead of {raw_bytes}")));
    }
    let mut header = [0; 100];
    file.read_exact(&mut header).map_err(|_| damaged("it is too short"))?;
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if !header.starts_with(b"SQLite format 3\0") || number(68) != APPLICATION_ID.cast_unsigned() {
        return Err(damaged("it is not a snapshot"));
    }
    if i64::from(number(60)) != FORMAT {
        return Err(SnapshotError::NewerFormat(i64::from(number(60))));
    }
    let page_bytes = u64::from(u16::from_be_bytes([header[16], header[17]]));
    let is_plain = page_bytes == PAGE_BYTES
        // Written without a WAL, to be read without one; no bytes reserved in the pages.
        && header[18..21] == [1, 1, 0]
        && u64::from(number(28)) * PAGE_BYTES == size
        // No free pages, no auto-vacuum, UTF-8.
        && [number(32), number(36), number(52), number(64)] == [0; 4]
        && number(56) == 1;
    if is_plain { Ok(()) } else { Err(damaged("its header is not a snapshot's")) }
}

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

/// Whether a bucket of this name is the one that a file names.
fn is_named(name: &str, of_file: &str) -> bool {
    let before = name.strip_suffix(of_file);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

pub(super) fn read_meta(
    connection: &Connection,
    expected: &Expected<'_>,
) -> Result<u64, SnapshotError> {
    let reading = SnapshotError::reading;
    let mut select = connection.prepare("SELECT * FROM _tw_snapshot").map_err(reading)?;
    let mut found = select.query([]).map_err(reading)?;
    let row =
        found.next().map_err(reading)?.ok_or_else(|| damaged("it does not say what it is"))?;
    let is_expected = is_named(expected.bucket, text(row, 0)?)
        && op_id(row, 1)? == expected.to
        && checksum(row, 2)? == expected.checksum;
    let rows = count(row, 3).map_err(reading)?;
    if !is_expected || found.next().map_err(reading)?.is_some() {
        return Err(damaged("it is of another bucket or position"));
    }
    Ok(rows)
}

pub(super) fn read_types(connection: &Connection) -> rusqlite::Result<Vec<TypeEntry>> {
    let mut select = connection.prepare("SELECT * FROM _tw_types")?;
    let types = select.query_map([], |row| {
        Ok(TypeEntry { name: row.get(0)?, rows: count(row, 1)?, ids_are_unique: row.get(2)? })
    })?;
    types.take(ENTRIES_MAX).collect()
}

pub(super) fn read_tables(connection: &Connection) -> Result<Vec<TypedTable>, SnapshotError> {
    let mut select =
        connection.prepare("SELECT * FROM _tw_tables").map_err(SnapshotError::reading)?;
    let entries = select
        .query_map([], |row| {
            let place: Option<i64> = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, place, count(row, 4)?))
        })
        .map_err(SnapshotError::reading)?;
    let mut tables = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        let (name, object_type, columns, place, rows) = entry.map_err(SnapshotError::reading)?;
        let columns: Vec<String> = serde_json::from_str(&columns)
            .map_err(|error| SnapshotError::Damaged(format!("columns of a table ({error})")))?;
        let id_column = match place.map(usize::try_from) {
            None => IdColumn::Own,
            Some(Ok(place)) if columns.get(place).is_some_and(|column| column == "id") => {
                IdColumn::Data(place)
            }
            Some(_) => return Err(damaged("a table has no column for its ids")),
        };
        if !are_usable(&columns) {
            return Err(damaged("a table has columns that no table can have"));
        }
        tables.push(TypedTable { name, object_type, columns, id_column, rows });
    }
    Ok(tables)
}

/// The file has the tables that were listed, as the writer makes them, and nothing else.
pub(super) fn check_schema(
    connection: &Connection,
    tables: &[TypedTable],
) -> Result<(), SnapshotError> {
    let reading = SnapshotError::reading;
    let mut allowed: Vec<(String, String)> =
        META_SQL.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    allowed.extend(tables.iter().map(|table| (table.name.clone(), table.create_sql())));
    allowed.sort_unstable();
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name";
    let mut select = connection.prepare(sql).map_err(reading)?;
    let found = select
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
        })
        .map_err(reading)?;
    let mut allowed = allowed.into_iter();
    for entry in found {
        let (kind, name, table, sql): (_, String, _, String) = entry.map_err(reading)?;
        if kind != "table" || table != name || allowed.next() != Some((name, sql)) {
            return Err(damaged(&format!("its {kind} '{table}' is none of a snapshot's")));
        }
    }
    match allowed.next() {
        None => Ok(()),
        Some((name, _)) => Err(damaged(&format!("it lacks its table '{name}'"))),
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| count.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_file_names_its_bucket_by_the_part_that_is_unique() {
        assert!(is_named("lists|0.k7m2qa[\"u1\"]", "k7m2qa[\"u1\"]"));
        assert!(is_named("a.b|0.k7m2qa[]", "k7m2qa[]"));
        assert!(is_named("b", "b"));
        for other in ["7m2qa[]", "k7m2qb[]", "a|0.k7m2qa[]", ""] {
            assert!(!is_named("lists|0.k7m2qa[]", other), "{other}");
        }
    }
}
