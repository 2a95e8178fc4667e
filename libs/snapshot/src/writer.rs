//! Writes a snapshot from rows in their order.

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

/// Shapes of one type that get a table of their own; rows of further ones travel as text.
const SHAPES_MAX: usize = 16;
/// Tables of one file; a schema of many is slow to read.
const TABLES_MAX: usize = 1_000;
/// What SQLite may need for a row beyond its text: cell, page and tree overhead, a new table.
const ROW_OVERHEAD_BYTES: u64 = 2 * PAGE_BYTES;
/// Of the bounds, kept for the meta tables, which are filled last.
const META_BYTES: u64 = 16 * PAGE_BYTES;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The bucket: its name, or the last part of it that is unique by itself.
    pub bucket: String,
    /// Its operations up to this one are in it.
    pub to: OpId,
    /// Sum over all of them.
    pub checksum: Checksum,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// A new file begins before a file gets larger than this, unpacked. A single row may be larger.
    pub raw_bytes_max: u64,
    /// Unpacked size of a frame; at most [`FRAME_RAW_BYTES_MAX`].
    pub frame_raw_bytes: u64,
    /// Of zstd's compression.
    pub level: i32,
}

impl Default for SnapshotOptions {
    /// 1 GiB, 4 MiB, level 3.
    fn default() -> Self {
        Self { raw_bytes_max: 1 << 30, frame_raw_bytes: 4 << 20, level: 3 }
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// The compressed file.
    pub path: PathBuf,
    /// Its size unpacked.
    pub raw_bytes: u64,
    /// Its size.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Its frames.
    pub frames: Vec<SnapshotFrame>,
}

/// Writes the files of one snapshot. Memory stays bounded, whatever the number of rows.
#[derive(Debug)]
pub struct SnapshotWriter {
    dir: PathBuf,
    header: SnapshotHeader,
    options: SnapshotOptions,
    written: Vec<WrittenFile>,
    file: RawFile,
    last: Option<Key>,
}

/// Identity of a row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Key {
    object_type: String,
    id: String,
    subkey: String,
}

impl SnapshotWriter {
    /// Begins a snapshot in a directory, which should be a temporary one: it is left with what was
    /// written so far when the writer is dropped.
    ///
    /// # Errors
    /// [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    ///
    /// # Panics
    /// When the options ask for frames of no or too many bytes.
    pub fn create(
        dir: &Path,
        header: &SnapshotHeader,
        options: &SnapshotOptions,
    ) -> Result<Self, SnapshotError> {
        assert!(
            (1..=FRAME_RAW_BYTES_MAX).contains(&options.frame_raw_bytes),
            "frames have at least one byte and no more than readers take"
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

    /// Adds a row. Rows come in ascending order of type, id and subkey, by bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Order`], [`SnapshotError::File`] or [`SnapshotError::Sqlite`]; the writer
    /// is of no use then.
    pub fn push(&mut self, row: &SnapshotRow<'_>) -> Result<(), SnapshotError> {
        let key = (row.object_type, row.object_id, row.subkey);
        let is_same_id = match &self.last {
            Some(last) if key <= last.parts() => {
                let (object_type, id) = (key.0.to_owned(), key.1.to_owned());
                return Err(SnapshotError::Order { object_type, id });
            }
            Some(last) => (key.0, key.1) == (last.object_type.as_str(), last.id.as_str()),
            None => false,
        };
        // Rows of one id stay in one file: so an id is unique if it is so within each file.
        if !is_same_id && self.file.rows > 0 && self.is_full(row)? {
            let next = self.dir.join(format!("{}.sqlite", self.written.len() + 1));
            let full = std::mem::replace(&mut self.file, RawFile::create(next)?);
            let written = full.finish(&self.header, &self.options)?;
            self.written.push(written);
        }
        self.file.push(row, is_same_id)?;
        self.last.get_or_insert_default().set(key);
        Ok(())
    }

    /// Ends the snapshot. There is at least one file.
    ///
    /// # Errors
    /// [`SnapshotError::File`] or [`SnapshotError::Sqlite`].
    pub fn finish(mut self) -> Result<Vec<WrittenFile>, SnapshotError> {
        let last = self.file.finish(&self.header, &self.options)?;
        self.written.push(last);
        Ok(self.written)
    }

    /// Whether the row might make the file too large. The file is asked for its size only when the
    /// estimate says that it matters.
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

impl Key {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.object_type, &self.id, &self.subkey)
    }

    /// Keeps the buffers.
    fn set(&mut self, (object_type, id, subkey): (&str, &str, &str)) {
        for (part, new) in
            [(&mut self.object_type, object_type), (&mut self.id, id), (&mut self.subkey, subkey)]
        {
            part.clear();
            part.push_str(new);
        }
    }
}

/// More than the row takes within a page.
fn row_bytes(row: &SnapshotRow<'_>) -> u64 {
    let texts = [row.object_type, row.object_id, row.subkey, row.data];
    // Numbers that are short as text take up to 9 bytes.
    64 + 2 * texts.iter().map(|text| text.len() as u64).sum::<u64>()
}

/// The database being filled.
#[derive(Debug)]
struct RawFile {
    path: PathBuf,
    connection: Connection,
    rows: u64,
    /// Tables of all types so far.
    tables: Vec<TypedTable>,
    names: HashSet<String>,
    /// The type of the row that came last, and where its tables begin.
    current: Option<TypeRows>,
    types: Vec<TypeRows>,
    bytes_at_most: u64,
}

#[derive(Debug)]
struct TypeRows {
    name: String,
    rows: u64,
    ids_are_unique: bool,
    first_table: usize,
}

impl RawFile {
    fn create(path: PathBuf) -> Result<Self, SnapshotError> {
        // Else SQLite would go on with what an earlier run left.
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

    /// No journal: a file that was not finished is thrown away.
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

    /// Asks SQLite for the size, pages not yet written included.
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
        let has_nul = [row.object_type, row.object_id, row.subkey].iter().any(|t| t.contains('\0'));
        let members = if has_nul { None } else { row_text::parse(row.data) };
        if let Some(members) = members
            && let Some(table) = self.table(row, &members)?
        {
            table.rows += 1;
            let (sql, id_column) = (table.insert_sql(), table.id_column);
            let mut insert = self.connection.prepare_cached(&sql)?;
            insert.raw_bind_parameter(1, row.subkey)?;
            insert.raw_bind_parameter(2, row.op_id.get())?;
            insert.raw_bind_parameter(3, row.checksum.0)?;
            let mut place = 3;
            if id_column == IdColumn::Own {
                place += 1;
                insert.raw_bind_parameter(place, row.object_id)?;
            }
            for member in &members {
                place += 1;
                insert.raw_bind_parameter(place, &member.value)?;
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

    /// The table for a row, made if it can be.
    fn table(
        &mut self,
        row: &SnapshotRow<'_>,
        members: &[row_text::Member<'_>],
    ) -> rusqlite::Result<Option<&mut TypedTable>> {
        let first = self.current.as_ref().map_or(0, |current| current.first_table);
        let shapes = &self.tables[first..];
        if let Some(place) = shapes.iter().position(|table| table.takes(members, row.object_id)) {
            return Ok(self.tables.get_mut(first + place));
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
        let size = |path: &Path| {
            fs::metadata(path).map(|meta| meta.len()).map_err(SnapshotError::file(path))
        };
        let raw_bytes = size(&path)?;
        let packed = path.with_extension("sqlite.zst");
        let frames = frame::pack(&path, &packed, options.frame_raw_bytes, options.level)?;
        let bytes = size(&packed)?;
        Ok(WrittenFile { path: packed, raw_bytes, bytes, rows, frames })
    }

    fn describe(&self, header: &SnapshotHeader) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.execute(
            "INSERT INTO _tw_snapshot VALUES (?1, ?2, ?3, ?4)",
            params![header.bucket, header.to.get(), header.checksum.0, self.rows.cast_signed()],
        )?;
        for known in &self.types {
            connection
                .prepare_cached("INSERT INTO _tw_types VALUES (?1, ?2, ?3)")?
                .execute(params![known.name, known.rows.cast_signed(), known.ids_are_unique])?;
        }
        for table in &self.tables {
            let columns = serde_json::Value::from(table.columns.clone()).to_string();
            let id_column = match table.id_column {
                IdColumn::Data(place) => Some(place.cast_signed() as i64),
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
