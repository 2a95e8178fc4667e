//! Reads a snapshot's file, which is not trusted before it was looked at.
//!
//! What a file says about itself is used only where it can do no harm: it must have the header and
//! the tables that the writer would have given it, to the letter of their SQL. So there is nothing
//! in it that SQLite would run: no view, trigger, index, virtual table, default, check or generated
//! column.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use tidewater_protocol::{Checksum, OpId};

use crate::error::SnapshotError;
use crate::keys::Keys;
use crate::row_text::push_member;
use crate::schema::{
    APPLICATION_ID, FORMAT, IdColumn, META_SQL, PAGE_BYTES, TypedTable, are_usable,
};
use crate::value::Value;
use crate::writer::SnapshotRow;

/// More tables or types than a writer makes.
const ENTRIES_MAX: usize = 100_000;

/// What the file must be, as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The bucket's name. A file knows the last part of it, which is unique by itself; what comes
    /// before, up to a full stop, is for people and may change while the rows stay the same.
    pub bucket: &'a str,
    /// Its position.
    pub to: OpId,
    /// Its sum there.
    pub checksum: Checksum,
    /// The file's size, unpacked.
    pub raw_bytes: u64,
}

/// A file of a snapshot that was looked at.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    connection: Connection,
    rows: u64,
    types: Vec<TypeEntry>,
    tables: Vec<TypedTable>,
}

#[derive(Debug)]
struct TypeEntry {
    name: String,
    rows: u64,
    ids_are_unique: bool,
}

/// A row of a [`TypedTable`].
#[derive(Debug)]
pub struct TypedRow<'r> {
    /// Its id.
    pub id: &'r str,
    /// Its subkey.
    pub subkey: &'r str,
    /// The operation that put it there.
    pub op_id: OpId,
    /// That operation's checksum.
    pub checksum: Checksum,
    first: usize,
    row: &'r Row<'r>,
}

impl Snapshot {
    /// Opens a file whose frames were proven by their hashes, or any other file, and looks at its
    /// header, its schema and what it says about itself. Its rows are looked at as they are read,
    /// each once: whoever has gone through all tables and the texts without an error has seen
    /// exactly the rows that the file announces.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not exactly what it should be,
    /// [`SnapshotError::NewerFormat`], [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    pub fn open(path: &Path, expected: &Expected<'_>) -> Result<Self, SnapshotError> {
        check_header(path, expected.raw_bytes)?;
        let connection = connect(path).map_err(SnapshotError::reading)?;
        let rows = read_meta(&connection, expected)?;
        let types = read_types(&connection).map_err(SnapshotError::reading)?;
        let tables = read_tables(&connection)?;
        check_schema(&connection, &tables)?;
        let snapshot = Self { path: path.to_owned(), connection, rows, types, tables };
        snapshot.check_counts()?;
        Ok(snapshot)
    }

    /// A reader of its own of a table's keys, for another thread.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub fn keys(&self, table: &TypedTable) -> Result<Keys, SnapshotError> {
        let connection = connect(&self.path).map_err(SnapshotError::reading)?;
        Ok(Keys::new(connection, table))
    }

    /// How many rows are in the file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The types of its rows, in their order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|entry| entry.name.as_str())
    }

    /// Whether no two rows of the type have the same id, in all files of the snapshot together if
    /// it is so in each.
    #[must_use]
    pub fn ids_are_unique(&self, object_type: &str) -> bool {
        self.types.iter().any(|entry| entry.name == object_type && entry.ids_are_unique)
    }

    /// The tables, by type. Rows that fit into none are texts.
    #[must_use]
    pub fn tables(&self) -> &[TypedTable] {
        &self.tables
    }

    /// Goes through a table's rows, ascending by id and subkey.
    ///
    /// # Errors
    /// Those of `visit`; [`SnapshotError`] for a file that turns out to be damaged.
    pub fn for_each_typed<E: From<SnapshotError>>(
        &self,
        table: &TypedTable,
        mut visit: impl FnMut(&TypedRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = |error| E::from(SnapshotError::reading(error));
        let mut select = self.connection.prepare(&table.select_sql()).map_err(reading)?;
        let mut rows = select.query([]).map_err(reading)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(reading)? {
            visit(&TypedRow::new(table, row)?)?;
            count += 1;
        }
        check_count(count, table.rows, &table.name).map_err(E::from)
    }

    /// Goes through the texts: the rows of all types that are in none of the tables.
    ///
    /// # Errors
    /// As [`Snapshot::for_each_typed`].
    pub fn for_each_text<E: From<SnapshotError>>(
        &self,
        mut visit: impl FnMut(&SnapshotRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = |error| E::from(SnapshotError::reading(error));
        let mut select = self.connection.prepare("SELECT * FROM _tw_texts").map_err(reading)?;
        let mut rows = select.query([]).map_err(reading)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(reading)? {
            count += 1;
            visit(&SnapshotRow {
                object_type: text(row, 0)?,
                object_id: text(row, 1)?,
                subkey: text(row, 2)?,
                op_id: op_id(row, 3)?,
                checksum: checksum(row, 4)?,
                data: text(row, 5)?,
            })?;
        }
        let of_tables: u64 = self.tables.iter().map(|table| table.rows).sum();
        check_count(count, self.rows - of_tables, "_tw_texts").map_err(E::from)
    }

    /// Goes through all rows as they were pushed, but table by table.
    ///
    /// # Errors
    /// As [`Snapshot::for_each_typed`].
    pub fn for_each_row<E: From<SnapshotError>>(
        &self,
        mut visit: impl FnMut(&SnapshotRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut data = String::new();
        for table in &self.tables {
            self.for_each_typed(table, |row| {
                row.text(table, &mut data)?;
                visit(&row.with_data(table, &data))
            })?;
        }
        self.for_each_text(visit)
    }

    fn check_counts(&self) -> Result<(), SnapshotError> {
        let mut of_types = 0_u64;
        let mut of_tables: HashMap<&str, u64> = HashMap::new();
        for table in &self.tables {
            let of_type = of_tables.entry(&table.object_type).or_default();
            *of_type = of_type.saturating_add(table.rows);
        }
        for entry in &self.types {
            of_types = of_types.saturating_add(entry.rows);
            if of_tables.remove(entry.name.as_str()).is_some_and(|rows| rows > entry.rows) {
                return Err(damaged("its counts contradict each other"));
            }
        }
        if of_types == self.rows && of_tables.is_empty() {
            Ok(())
        } else {
            Err(damaged("its counts contradict each other"))
        }
    }
}

impl<'r> TypedRow<'r> {
    fn new(table: &TypedTable, row: &'r Row<'r>) -> Result<Self, SnapshotError> {
        let first = table.own_columns();
        let id = match table.id_column {
            IdColumn::Data(place) => first + place,
            IdColumn::Own => 3,
        };
        Ok(Self {
            id: text(row, id)?,
            subkey: text(row, 0)?,
            op_id: op_id(row, 1)?,
            checksum: checksum(row, 2)?,
            first,
            row,
        })
    }

    /// The value of a column, by its place in [`TypedTable::columns`].
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is none that a row can have.
    pub fn value(&self, column: usize) -> Result<Value<'r>, SnapshotError> {
        let value = self.row.get_ref(self.first + column).map_err(SnapshotError::reading)?;
        Ok(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(utf8(text)?.into()),
            ValueRef::Blob(_) => return Err(damaged("a row holds a blob")),
        })
    }

    /// The row's JSON text, byte for byte as it was pushed.
    ///
    /// # Errors
    /// As [`TypedRow::value`].
    pub fn text(&self, table: &TypedTable, out: &mut String) -> Result<(), SnapshotError> {
        out.clear();
        out.push('{');
        for (at, column) in table.columns.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_member(column, &self.value(at)?, out);
        }
        out.push('}');
        Ok(())
    }

    /// The row with its text.
    #[must_use]
    pub fn with_data<'s>(&'s self, table: &'s TypedTable, data: &'s str) -> SnapshotRow<'s> {
        SnapshotRow {
            object_type: &table.object_type,
            object_id: self.id,
            subkey: self.subkey,
            op_id: self.op_id,
            checksum: self.checksum,
            data,
        }
    }
}

pub(crate) fn check_count(found: u64, announced: u64, table: &str) -> Result<(), SnapshotError> {
    if found == announced {
        return Ok(());
    }
    Err(SnapshotError::Damaged(format!("table {table} has {found} rows instead of {announced}")))
}

pub(crate) fn damaged(what: &str) -> SnapshotError {
    SnapshotError::Damaged(what.to_owned())
}

/// What SQLite would find only after it has begun to trust the file. Offsets are those of
/// SQLite's file format.
fn check_header(path: &Path, raw_bytes: u64) -> Result<(), SnapshotError> {
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

fn connect(path: &Path) -> rusqlite::Result<Connection> {
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

fn read_meta(connection: &Connection, expected: &Expected<'_>) -> Result<u64, SnapshotError> {
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

fn read_types(connection: &Connection) -> rusqlite::Result<Vec<TypeEntry>> {
    let mut select = connection.prepare("SELECT * FROM _tw_types")?;
    let types = select.query_map([], |row| {
        Ok(TypeEntry { name: row.get(0)?, rows: count(row, 1)?, ids_are_unique: row.get(2)? })
    })?;
    types.take(ENTRIES_MAX).collect()
}

fn read_tables(connection: &Connection) -> Result<Vec<TypedTable>, SnapshotError> {
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
fn check_schema(connection: &Connection, tables: &[TypedTable]) -> Result<(), SnapshotError> {
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

pub(crate) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, SnapshotError> {
    if let ValueRef::Text(text) = row.get_ref(column).map_err(SnapshotError::reading)? {
        return utf8(text);
    }
    Err(damaged("a text is missing"))
}

fn utf8(text: &[u8]) -> Result<&str, SnapshotError> {
    std::str::from_utf8(text).map_err(|_| damaged("a text is not UTF-8"))
}

pub(crate) fn op_id(row: &Row<'_>, column: usize) -> Result<OpId, SnapshotError> {
    let number = row.get(column).map_err(SnapshotError::reading)?;
    OpId::from_i64(number).ok_or_else(|| damaged("an op id is negative"))
}

pub(crate) fn checksum(row: &Row<'_>, column: usize) -> Result<Checksum, SnapshotError> {
    row.get(column).map(Checksum).map_err(SnapshotError::reading)
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
