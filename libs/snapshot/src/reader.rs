//! Reading a snapshot's file, which is untrusted until it is verified.
//!
//! A file must have exactly the header and the tables that the writer would have given it, down to
//! their SQL. So there is nothing in it that SQLite would run: no view, trigger, index, virtual
//! table, default, check or generated column.

mod fields;
mod keys;
mod verify;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tidewater_protocol::{Checksum, OpId};

use self::fields::{check_count, checksum, op_id, reading, text, utf8};
pub use self::keys::{TableKey, TableKeys};
pub use self::verify::ExpectedFile;
use self::verify::{
    TypeEntry, check_description, check_header, check_schema, connect, read_meta, read_tables,
    read_types,
};
use crate::error::SnapshotError;
use crate::row::SnapshotRow;
use crate::row_text::push_member;
use crate::schema::{IdColumn, TypedTable};
use crate::value::ColumnValue;

/// A file of a snapshot, opened and verified.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    connection: Connection,
    rows: u64,
    types: Vec<TypeEntry>,
    tables: Vec<TypedTable>,
}

/// A row of a [`TypedTable`].
#[derive(Debug)]
pub struct TypedRow<'r> {
    /// Id of the row.
    pub id: &'r str,
    /// Subkey of the row.
    pub subkey: &'r str,
    /// Id of the operation that put the row.
    pub op_id: OpId,
    /// Checksum of that operation.
    pub checksum: Checksum,
    /// Index of the first column that is the row's own.
    first: usize,
    row: &'r Row<'r>,
}

impl Snapshot {
    /// Opens a file and verifies its header, its schema and its description.
    ///
    /// The rows are verified as they are read. A caller that has read all tables and the texts
    /// without an error has seen exactly the rows that the file announces.
    ///
    /// # Errors
    /// Fails with [`SnapshotError::Damaged`] if the file is not the expected one, and with
    /// [`SnapshotError::NewerFormat`], [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    pub fn open(path: &Path, expected: &ExpectedFile<'_>) -> Result<Self, SnapshotError> {
        // The header comes first: SQLite must not open a file in WAL mode or of another format.
        check_header(path, expected.raw_bytes)?;

        let connection = connect(path).map_err(SnapshotError::reading)?;
        check_description(&connection)?;
        let rows = read_meta(&connection, expected)?;
        let types = read_types(&connection).map_err(SnapshotError::reading)?;
        let tables = read_tables(&connection)?;
        check_schema(&connection, &tables)?;

        let snapshot = Self { path: path.to_owned(), connection, rows, types, tables };
        snapshot.check_counts()?;
        Ok(snapshot)
    }

    /// Returns a reader of a table's keys, which another thread may use.
    ///
    /// # Errors
    /// Fails like [`Snapshot::open`].
    pub fn keys(&self, table: &TypedTable) -> Result<TableKeys, SnapshotError> {
        let connection = connect(&self.path).map_err(SnapshotError::reading)?;
        Ok(TableKeys::new(connection, table))
    }

    /// Returns the number of rows in the file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the types of the file's rows in ascending order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|entry| entry.name.as_str())
    }

    /// Returns whether no two rows of the type in this file have the same id.
    ///
    /// Rows with the same type and id are always in one file. So the ids are unique in the whole
    /// snapshot if they are unique in each of its files.
    #[must_use]
    pub fn ids_are_unique(&self, object_type: &str) -> bool {
        self.types.iter().any(|entry| entry.name == object_type && entry.ids_are_unique)
    }

    /// Returns the tables in the order of their types. Rows that fit into no table are texts.
    #[must_use]
    pub fn tables(&self) -> &[TypedTable] {
        &self.tables
    }

    /// Visits a table's rows in ascending order of id and subkey.
    ///
    /// # Errors
    /// Fails with the error of `visit`, or with a [`SnapshotError`] if the file cannot be read or is
    /// damaged.
    pub fn for_each_typed<E: From<SnapshotError>>(
        &self,
        table: &TypedTable,
        mut visit: impl FnMut(&TypedRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut select = self.connection.prepare(&table.select_sql()).map_err(reading::<E>)?;
        let mut rows = select.query([]).map_err(reading::<E>)?;
        let mut count = 0;

        while let Some(row) = rows.next().map_err(reading::<E>)? {
            visit(&TypedRow::new(table, row)?)?;
            count += 1;
        }
        check_count(count, table.rows, &table.name).map_err(E::from)
    }

    /// Visits the texts: the rows of all types that fit into no table.
    ///
    /// # Errors
    /// Fails like [`Snapshot::for_each_typed`].
    pub fn for_each_text<E: From<SnapshotError>>(
        &self,
        mut visit: impl FnMut(&SnapshotRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut select =
            self.connection.prepare("SELECT * FROM _tw_texts").map_err(reading::<E>)?;
        let mut rows = select.query([]).map_err(reading::<E>)?;
        let mut count = 0;

        while let Some(row) = rows.next().map_err(reading::<E>)? {
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

    /// Visits all rows as they were pushed, but table by table.
    ///
    /// # Errors
    /// Fails like [`Snapshot::for_each_typed`].
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

    /// Fails unless the counts of types and tables add up to the number of rows.
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
                return Err(SnapshotError::damaged("its counts contradict each other"));
            }
        }

        if of_types == self.rows && of_tables.is_empty() {
            Ok(())
        } else {
            Err(SnapshotError::damaged("its counts contradict each other"))
        }
    }
}

impl<'r> TypedRow<'r> {
    fn new(table: &TypedTable, row: &'r Row<'r>) -> Result<Self, SnapshotError> {
        let first = table.own_columns();
        let id = match table.id_column {
            IdColumn::Data(index) => first + index,
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

    /// Returns the value of a column, by its index in [`TypedTable::columns`].
    ///
    /// # Errors
    /// Fails with [`SnapshotError::Damaged`] if the value is none that a row can have.
    pub fn value(&self, column: usize) -> Result<ColumnValue<'r>, SnapshotError> {
        let value = self.row.get_ref(self.first + column).map_err(SnapshotError::reading)?;
        Ok(match value {
            ValueRef::Null => ColumnValue::Null,
            ValueRef::Integer(number) => ColumnValue::Integer(number),
            ValueRef::Real(number) => ColumnValue::Real(number),
            ValueRef::Text(text) => ColumnValue::Text(utf8(text)?.into()),
            ValueRef::Blob(_) => return Err(SnapshotError::damaged("a row holds a blob")),
        })
    }

    /// Writes the row's JSON text to `out`, byte for byte as it was pushed.
    ///
    /// # Errors
    /// Fails like [`TypedRow::value`].
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

    /// Returns the row together with its text.
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
