//! Writing a snapshot from rows in ascending order.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use tidewater_protocol::{Checksum, OpId, SnapshotFrame};

use crate::error::SnapshotError;
use crate::frame::{self, FRAME_RAW_BYTES_MAX};
use crate::row::SnapshotRow;
use crate::row_text;
use crate::schema::{
    APPLICATION_ID, FORMAT, IdColumn, PAGE_BYTES, TypedTable, create_meta, table_name,
};

/// Maximum number of a type's shapes that get a table. Rows of further shapes are stored as text: a
/// table costs at least one page, and rows with so many shapes gain little from columns.
const SHAPES_MAX: usize = 16;
/// Maximum number of typed tables in one file. SQLite parses the whole schema whenever it opens the
/// file.
const TABLES_MAX: usize = 1_000;
/// Upper bound of the bytes that SQLite needs for a row besides its content: cell, page and B-tree
/// overhead, and the first page of a new table.
const ROW_OVERHEAD_BYTES: u64 = 2 * PAGE_BYTES;
/// Bytes of a file that are reserved for the description tables, which are filled last.
const META_BYTES: u64 = 16 * PAGE_BYTES;

/// The bucket and the position that a snapshot describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Name of the bucket, or the last part of it, which is unique.
    pub bucket: String,
    /// Last operation of the bucket that the snapshot contains.
    pub to: OpId,
    /// Sum over the bucket's operations up to that one.
    pub checksum: Checksum,
}

/// The sizes and the compression of a snapshot's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Maximum unpacked size of a file in bytes, unless a single row is larger.
    pub raw_bytes_max: u64,
    /// Unpacked size of a frame in bytes, at most [`FRAME_RAW_BYTES_MAX`].
    pub frame_raw_bytes: u64,
    /// Compression level of zstd.
    pub level: i32,
}

impl Default for SnapshotOptions {
    /// Returns files of 1 GiB, frames of 4 MiB, and zstd's default level 3.
    fn default() -> Self {
        Self { raw_bytes_max: 1 << 30, frame_raw_bytes: 4 << 20, level: 3 }
    }
}

/// A finished file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Path of the compressed file.
    pub path: PathBuf,
    /// Unpacked size in bytes.
    pub raw_bytes: u64,
    /// Compressed size in bytes.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
    /// Frames in the order of the file.
    pub frames: Vec<SnapshotFrame>,
}

/// A writer of the files of one snapshot. Its memory is bounded, whatever the number of rows.
#[derive(Debug)]
pub struct SnapshotWriter {
    dir: PathBuf,
    header: SnapshotHeader,
    options: SnapshotOptions,
    written: Vec<WrittenFile>,
    file: RawFile,
    last: Option<RowIdentity>,
}

/// The identity of the row that was pushed last.
#[derive(Debug, Default, PartialEq, Eq)]
struct RowIdentity {
    object_type: String,
    id: String,
    subkey: String,
}

impl SnapshotWriter {
    /// Begins a snapshot in a directory. The directory should be temporary: a writer that is dropped
    /// leaves its files there.
    ///
    /// # Errors
    /// Fails with [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    ///
    /// # Panics
    /// Panics if the frame size of the options is 0 or exceeds [`FRAME_RAW_BYTES_MAX`].
    pub fn create(
        dir: &Path,
        header: &SnapshotHeader,
        options: &SnapshotOptions,
    ) -> Result<Self, SnapshotError> {
        assert!(
            (1..=FRAME_RAW_BYTES_MAX).contains(&options.frame_raw_bytes),
            "frames have at least one byte and no more than readers accept"
        );

        let file = RawFile::create(dir.join("0.sqlite"))?;
        Ok(Self {
            dir: dir.to_owned(),
            header: header.clone(),
            options: *options,
            written: Vec::new(),
            file,
            last: None,
        })
    }

    /// Adds a row. The caller pushes rows in ascending order of type, id and subkey, by bytes.
    ///
    /// # Errors
    /// Fails with [`SnapshotError::Order`], [`SnapshotError::File`] or [`SnapshotError::Sqlite`]. The
    /// writer cannot be used after that.
    pub fn push(&mut self, row: &SnapshotRow<'_>) -> Result<(), SnapshotError> {
        let key = (row.object_type, row.object_id, row.subkey);
        let is_same_id = match &self.last {
            Some(last) if key <= last.parts() => {
                return Err(SnapshotError::Order {
                    object_type: row.object_type.to_owned(),
                    id: row.object_id.to_owned(),
                });
            }
            Some(last) => row.object_type == last.object_type && row.object_id == last.id,
            None => false,
        };

        // Rows of one id stay in one file, so that ids are unique if they are unique in each file.
        if !is_same_id && self.file.rows > 0 && self.is_full(row)? {
            let next = self.dir.join(format!("{}.sqlite", self.written.len() + 1));
            let full = std::mem::replace(&mut self.file, RawFile::create(next)?);
            let written = full.finish(&self.header, &self.options)?;
            self.written.push(written);
        }

        self.file.push(row, is_same_id)?;
        self.last.get_or_insert_default().set(row);
        Ok(())
    }

    /// Finishes the snapshot and returns its files, at least one.
    ///
    /// # Errors
    /// Fails with [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    pub fn finish(mut self) -> Result<Vec<WrittenFile>, SnapshotError> {
        let last = self.file.finish(&self.header, &self.options)?;
        self.written.push(last);
        Ok(self.written)
    }

    /// Returns whether the row might make the file too large. The file's size is read from SQLite only
    /// if the estimate exceeds the limit.
    fn is_full(&mut self, row: &SnapshotRow<'_>) -> Result<bool, SnapshotError> {
        let room = self.options.raw_bytes_max.saturating_sub(META_BYTES);
        let needed = row_bytes(row) + ROW_OVERHEAD_BYTES;
        if self.file.bytes_at_most + needed <= room {
            return Ok(false);
        }
        self.file.measure()?;
        Ok(self.file.bytes_at_most + needed > room)
    }
}

impl RowIdentity {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.object_type, &self.id, &self.subkey)
    }

    /// Takes over a row's identity. The buffers are reused, since this runs for every row.
    fn set(&mut self, row: &SnapshotRow<'_>) {
        row.object_type.clone_into(&mut self.object_type);
        row.object_id.clone_into(&mut self.id);
        row.subkey.clone_into(&mut self.subkey);
    }
}

/// Returns an upper bound of the row's size within a page.
fn row_bytes(row: &SnapshotRow<'_>) -> u64 {
    let texts = [row.object_type, row.object_id, row.subkey, row.data];
    // The factor covers numbers: a digit of text may become 9 bytes.
    64 + 2 * texts.iter().map(|text| text.len() as u64).sum::<u64>()
}

/// A database that is being filled.
#[derive(Debug)]
struct RawFile {
    path: PathBuf,
    connection: Connection,
    rows: u64,
    /// Typed tables so far, of all types.
    tables: Vec<TypedTable>,
    names: HashSet<String>,
    /// Type of the last row, and the index of its first table.
    current: Option<TypeRows>,
    types: Vec<TypeRows>,
    bytes_at_most: u64,
}

/// The rows of one type.
#[derive(Debug)]
struct TypeRows {
    name: String,
    rows: u64,
    ids_are_unique: bool,
    first_table: usize,
}

impl RawFile {
    fn create(path: PathBuf) -> Result<Self, SnapshotError> {
        // SQLite would otherwise continue with the file of an earlier run.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::file(&path)(error));
            }
            _ => {}
        }

        let connection = Self::open(&path).map_err(SnapshotError::Sqlite)?;
        Ok(Self {
            path,
            connection,
            rows: 0,
            tables: Vec::new(),
            names: HashSet::new(),
            current: None,
            types: Vec::new(),
            bytes_at_most: 8 * PAGE_BYTES,
        })
    }

    /// Opens the database without a journal, since an unfinished file is discarded.
    fn open(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(2 * SHAPES_MAX);
        connection.execute_batch(&format!(
            "PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = NONE;
             PRAGMA encoding = 'UTF-8'; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -8192;
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; BEGIN"
        ))?;
        create_meta(&connection)?;
        Ok(connection)
    }

    /// Asks SQLite for the size, including pages that are not written yet.
    fn measure(&mut self) -> Result<(), SnapshotError> {
        let pages: i64 = self
            .connection
            .prepare_cached("PRAGMA page_count")
            .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)))
            .map_err(SnapshotError::Sqlite)?;
        self.bytes_at_most = pages.cast_unsigned() * PAGE_BYTES;
        Ok(())
    }

    fn push(&mut self, row: &SnapshotRow<'_>, is_same_id: bool) -> Result<(), SnapshotError> {
        self.enter_type(row.object_type);
        if let Some(current) = &mut self.current {
            current.rows += 1;
            current.ids_are_unique &= !is_same_id;
        }
        self.rows += 1;
        self.bytes_at_most += row_bytes(row);
        self.insert(row).map_err(SnapshotError::Sqlite)
    }

    fn enter_type(&mut self, name: &str) {
        if self.current.as_ref().is_some_and(|current| current.name == name) {
            return;
        }
        let next = TypeRows {
            name: name.to_owned(),
            rows: 0,
            ids_are_unique: true,
            first_table: self.tables.len(),
        };
        self.types.extend(self.current.replace(next));
    }

    fn insert(&mut self, row: &SnapshotRow<'_>) -> rusqlite::Result<()> {
        let has_nul =
            [row.object_type, row.object_id, row.subkey].iter().any(|text| text.contains('\0'));
        let members = if has_nul { None } else { row_text::parse(row.data) };

        if let Some(members) = members
            && let Some(table) = self.table(row, &members)?
        {
            table.rows += 1;
            let id_column = table.id_column;
            let sql = table.insert_sql();
            let mut insert = self.connection.prepare_cached(&sql)?;
            insert.raw_bind_parameter(1, row.subkey)?;
            insert.raw_bind_parameter(2, row.op_id.get())?;
            insert.raw_bind_parameter(3, row.checksum.0)?;

            let mut parameter = 3;
            if id_column == IdColumn::Own {
                parameter += 1;
                insert.raw_bind_parameter(parameter, row.object_id)?;
            }
            for member in &members {
                parameter += 1;
                insert.raw_bind_parameter(parameter, &member.value)?;
            }
            return insert.raw_execute().map(|_| ());
        }

        self.connection
            .prepare_cached("INSERT INTO _tw_texts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                row.object_type,
                row.object_id,
                row.subkey,
                row.op_id.get(),
                row.checksum.0,
                row.data
            ])
            .map(|_| ())
    }

    /// Returns the table for a row, created if need be. Returns `None` if the row must be stored as
    /// text.
    fn table(
        &mut self,
        row: &SnapshotRow<'_>,
        members: &[row_text::Member<'_>],
    ) -> rusqlite::Result<Option<&mut TypedTable>> {
        let first = self.current.as_ref().map_or(0, |current| current.first_table);
        let shapes = &self.tables[first..];
        if let Some(index) = shapes.iter().position(|table| table.fits(members, row.object_id)) {
            return Ok(self.tables.get_mut(first + index));
        }

        if shapes.len() >= SHAPES_MAX || self.tables.len() >= TABLES_MAX {
            return Ok(None);
        }
        let Some(mut table) = TypedTable::for_row(row.object_type, members, row.object_id) else {
            return Ok(None);
        };

        table.name = table_name(row.object_type, &mut self.names);
        let sql = table.create_sql();
        self.bytes_at_most += PAGE_BYTES + 2 * sql.len() as u64;
        self.connection.execute_batch(&sql)?;
        self.tables.push(table);
        Ok(self.tables.last_mut())
    }

    fn finish(
        mut self,
        header: &SnapshotHeader,
        options: &SnapshotOptions,
    ) -> Result<WrittenFile, SnapshotError> {
        let rows = self.rows;
        self.types.extend(self.current.take());
        self.describe(header).map_err(SnapshotError::Sqlite)?;
        let Self { path, connection, .. } = self;
        connection.close().map_err(|(_, error)| SnapshotError::Sqlite(error))?;

        let raw_bytes = file_bytes(&path)?;
        let packed = path.with_extension("sqlite.zst");
        let frames = frame::pack(&path, &packed, options.frame_raw_bytes, options.level)?;
        let bytes = file_bytes(&packed)?;
        Ok(WrittenFile { path: packed, raw_bytes, bytes, rows, frames })
    }

    /// Fills the description tables and commits.
    fn describe(&self, header: &SnapshotHeader) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.execute(
            "INSERT INTO _tw_snapshot VALUES (?1, ?2, ?3, ?4)",
            params![header.bucket, header.to.get(), header.checksum.0, self.rows.cast_signed()],
        )?;

        for entry in &self.types {
            connection
                .prepare_cached("INSERT INTO _tw_types VALUES (?1, ?2, ?3)")?
                .execute(params![entry.name, entry.rows.cast_signed(), entry.ids_are_unique])?;
        }

        for table in &self.tables {
            let columns = serde_json::Value::from(table.columns.clone()).to_string();
            let id_column = match table.id_column {
                IdColumn::Data(index) => Some(index.cast_signed() as i64),
                IdColumn::Own => None,
            };
            let mut insert =
                connection.prepare_cached("INSERT INTO _tw_tables VALUES (?1, ?2, ?3, ?4, ?5)")?;
            insert.execute(params![
                table.name,
                table.object_type,
                columns,
                id_column,
                table.rows.cast_signed()
            ])?;
        }

        connection.execute_batch("COMMIT")
    }
}

fn file_bytes(path: &Path) -> Result<u64, SnapshotError> {
    fs::metadata(path).map(|metadata| metadata.len()).map_err(SnapshotError::file(path))
}
