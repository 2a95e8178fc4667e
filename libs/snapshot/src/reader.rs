//! Reads a snapshot's file, which is not trusted before it was looked at.
//!
//! What a file says about itself is used only where it can do no harm: it must have the header and
//! the tables that the writer would have given it, to the letter of their SQL. So there is nothing
//! in it that SQLite would run: no view, trigger, index, virtual table, default, check or generated
//! column.

mod fields;
mod keys;
mod verify;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tidewater_protocol::{Checksum, OpId};

use self::fields::{check_count, checksum, damaged, op_id, text, utf8};
pub use self::keys::{Key, Keys};
use self::verify::{check_header, check_schema, connect, read_meta, read_tables, read_types};
use crate::error::SnapshotError;
use crate::row::SnapshotRow;
use crate::row_text::push_member;
use crate::schema::{IdColumn, TypedTable};
use crate::value::Value;

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
