//! Brings the rows of fetched snapshots into the app's tables, within the transaction that
//! publishes a checkpoint.
//!
//! The short way: each table of a file goes into the app's with one statement, in the order of its
//! keys. It is open to rows whose ids no other bucket holds and the app did not write to, of a
//! bucket that had none before. All others are staged in front of what came after the snapshot,
//! and take the way of `apply.rs`. Either way leads to the same state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode, Transaction, params};
use tidewater_protocol::SnapshotLine;
use tidewater_snapshot::{Snapshot, SnapshotError, SnapshotRow, TypedTable};

use crate::db::migrate::type_id;
use crate::db::snapshot_files::{self, SnapshotFiles};
use crate::db::staging::{self, kind};
use crate::db::wal_checkpointer::AUTOCHECKPOINT_PAGES;
use crate::net::fetch::expected;
use crate::publish::apply::{ApplyError, BEFORE_ALL, Plans, is_constraint};
use crate::publish::packs;

mod bulk_load;
mod fast_path;

/// SQLite attaches 10 at most.
const ATTACHED_MAX: usize = 8;
/// Ids of a type that are taken out of the short way; of more, the whole type goes the long way.
const APART_MAX: usize = 10_000;
/// From this many rows on, an empty table is filled without its indexes, which are made again in
/// the same transaction, and the copies are packed.
const BULK_ROWS: u64 = 5_000;

/// What is known about the files of snapshots.
#[derive(Debug)]
pub(crate) struct Merging {
    pub(crate) files: SnapshotFiles,
    /// Lines whose files this process has fetched and looked at. Any other's are hashed again: a
    /// loss of power may have taken what was never synced to the disk.
    proven: HashSet<String>,
    /// [`BULK_ROWS`], but in tests.
    pub(crate) bulk_rows: u64,
}

/// Snapshots to be published, open for reading.
#[derive(Debug)]
pub(crate) struct Pending {
    files: Vec<OpenFile>,
    attached: Vec<String>,
    bulk_rows: u64,
}

#[derive(Debug)]
struct OpenFile {
    bucket: i64,
    bucket_name: String,
    /// The line as stored, which tells whether it is still pending.
    line: String,
    path: PathBuf,
    snapshot: Snapshot,
    /// The name it is attached under.
    schema: Option<String>,
}

/// What was merged.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) tables: BTreeSet<String>,
    pub(crate) rows: u64,
    pub(crate) buckets: BTreeSet<String>,
}

impl Merging {
    pub(crate) fn new(files: SnapshotFiles) -> Self {
        Self { files, proven: HashSet::new(), bulk_rows: BULK_ROWS }
    }

    /// The files of this line are as they should be.
    pub(crate) fn note_proven(&mut self, line: String) {
        self.proven.insert(line);
    }

    /// No snapshot waits any more.
    pub(crate) fn clear(&mut self) -> std::io::Result<()> {
        self.proven.clear();
        self.files.clear()
    }

    /// Opens and attaches the files of all snapshots that wait.
    pub(crate) fn open(&mut self, connection: &Connection) -> Result<Pending, ApplyError> {
        let bulk_rows = self.bulk_rows;
        let mut pending = Pending { files: Vec::new(), attached: Vec::new(), bulk_rows };
        let opened = self.open_into(connection, &mut pending);
        match opened {
            Ok(()) => Ok(pending),
            Err(error) => {
                pending.detach(connection)?;
                Err(error)
            }
        }
    }

    fn open_into(
        &mut self,
        connection: &Connection,
        pending: &mut Pending,
    ) -> Result<(), ApplyError> {
        for (bucket, bucket_name, text) in stored(connection)? {
            let refused =
                |reason: String| ApplyError::Snapshot { bucket: bucket_name.clone(), reason };
            let line: SnapshotLine =
                serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
            let is_proven = self.proven.contains(&text);
            for (number, file) in line.files.iter().enumerate() {
                let path = self.files.path(&line, number);
                let complete = is_proven
                    || snapshot_files::is_complete(&path, file)
                        .map_err(|error| refused(error.to_string()))?;
                if !complete {
                    return Err(refused("a file is damaged".to_owned()));
                }
                let expected = expected(&line, file.raw_bytes);
                let snapshot =
                    Snapshot::open(&path, &expected).map_err(|error| refused(error.to_string()))?;
                let schema = match path.to_str() {
                    Some(path) if pending.attached.len() < ATTACHED_MAX => {
                        let schema = format!("_tw_snapshot_{}", pending.attached.len());
                        connection.execute(&format!("ATTACH ?1 AS {schema}"), [path])?;
                        pending.attached.push(schema.clone());
                        Some(schema)
                    }
                    _ => None,
                };
                let (bucket_name, line) = (bucket_name.clone(), text.clone());
                let file = OpenFile { bucket, bucket_name, line, path, snapshot, schema };
                pending.files.push(file);
            }
            self.proven.insert(text);
        }
        if !pending.attached.is_empty() {
            connection
                .execute_batch("PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0")?;
        }
        Ok(())
    }
}

/// Bucket, its name, and the line.
fn stored(connection: &Connection) -> rusqlite::Result<Vec<(i64, String, String)>> {
    let mut select = connection.prepare_cached(
        "SELECT bucket, name, line FROM _tw_snapshots \
         JOIN _tw_buckets ON _tw_buckets.id = _tw_snapshots.bucket ORDER BY bucket",
    )?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

impl Pending {
    pub(crate) fn detach(self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.attached.is_empty() {
            connection.execute_batch(&format!(
                "PRAGMA cell_size_check = OFF; PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}"
            ))?;
        }
        self.attached
            .iter()
            .try_for_each(|schema| connection.execute_batch(&format!("DETACH {schema}")))
    }

    /// Takes the rows in, those of buckets left out that were reset meanwhile.
    pub(crate) fn merge(&self, tx: &Transaction<'_>, plans: &Plans) -> Result<Merged, ApplyError> {
        let mut merged = Merged::default();
        let waiting: BTreeMap<i64, String> =
            stored(tx)?.into_iter().map(|(bucket, _, line)| (bucket, line)).collect();
        for file in &self.files {
            if waiting.get(&file.bucket) == Some(&file.line) {
                FileMerge::new(tx, plans, file, self.bulk_rows)?.run(&mut merged)?;
                merged.buckets.insert(file.bucket_name.clone());
            }
        }
        Ok(merged)
    }
}

/// One file on its way in.
struct FileMerge<'a> {
    tx: &'a Transaction<'a>,
    plans: &'a Plans,
    file: &'a OpenFile,
    /// The bucket shows rows, which the snapshot replaces.
    has_rows: bool,
    /// Number of the next staged operation: all lie before those already staged.
    next_seq: i64,
    bulk_rows: u64,
}

impl<'a> FileMerge<'a> {
    fn new(
        tx: &'a Transaction<'a>,
        plans: &'a Plans,
        file: &'a OpenFile,
        bulk_rows: u64,
    ) -> rusqlite::Result<Self> {
        let sql = format!("SELECT {BEFORE_ALL}, has_rows FROM _tw_buckets WHERE id = ?1");
        let (before_all, has_rows): (i64, bool) =
            tx.query_row(&sql, [file.bucket], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let next_seq = before_all - file.snapshot.rows().cast_signed();
        Ok(Self { tx, plans, file, has_rows, next_seq, bulk_rows })
    }

    fn run(&mut self, merged: &mut Merged) -> Result<(), ApplyError> {
        let snapshot = &self.file.snapshot;
        let types: Vec<_> = snapshot.types().map(str::to_owned).collect();
        for name in types {
            let type_id = type_id(self.tx, &name)?;
            let tables: Vec<_> =
                snapshot.tables().iter().filter(|table| table.object_type == name).collect();
            match self.take_short_way(type_id, &name, &tables)? {
                Some(apart) => {
                    merged.rows += tables.iter().map(|table| table.rows).sum::<u64>();
                    merged.rows -= apart.len() as u64;
                    let plan = self.plans.get(&type_id);
                    merged.tables.extend(plan.map(|plan| plan.name.clone()));
                    if !apart.is_empty() {
                        self.stage_tables(type_id, &tables, |id| apart.contains(id))?;
                    }
                }
                None => self.stage_tables(type_id, &tables, |_| true)?,
            }
        }
        snapshot
            .for_each_text(|row| {
                let type_id = type_id(self.tx, row.object_type)?;
                let data = staging::strict(self.tx, row.data)?;
                stage(self.tx, self.file.bucket, &mut self.next_seq, (type_id, row, &data))
            })
            .map_err(|error| self.named(error))
    }

    /// Merges the tables of a type as far as possible. The ids whose rows have to go the long way,
    /// or none if all have to.
    fn take_short_way(
        &self,
        type_id: i64,
        name: &str,
        tables: &[&TypedTable],
    ) -> Result<Option<HashSet<String>>, ApplyError> {
        let Some(schema) = &self.file.schema else { return Ok(None) };
        if self.has_rows || !self.file.snapshot.ids_are_unique(name) {
            return Ok(None);
        }
        let Some(apart) = self.set_apart(type_id, schema, tables)? else { return Ok(None) };
        self.tx.execute_batch("SAVEPOINT _tw_merge")?;
        let merged = match self.plans.get(&type_id) {
            Some(plan) => self.copy((type_id, plan), schema, tables, &apart),
            None => self.keep(type_id, tables, &apart),
        };
        match merged {
            Ok(()) => {
                self.tx.execute_batch("RELEASE _tw_merge")?;
                Ok(Some(apart))
            }
            // The long way can put rows in an order in which they fit, or names the one that
            // fits in none.
            Err(MergeError::Sqlite(error)) if is_constraint(&error) => {
                self.tx.execute_batch("ROLLBACK TO _tw_merge; RELEASE _tw_merge")?;
                Ok(None)
            }
            Err(error) => Err(self.named(error)),
        }
    }

    fn stage_tables(
        &mut self,
        type_id: i64,
        tables: &[&TypedTable],
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), ApplyError> {
        let (tx, bucket, next_seq) = (self.tx, self.file.bucket, &mut self.next_seq);
        let mut data = String::new();
        let staged = tables.iter().try_for_each(|table| {
            self.file.snapshot.for_each_typed(table, |row| {
                if !is_wanted(row.id) {
                    return Ok(());
                }
                row.text(table, &mut data)?;
                stage(tx, bucket, next_seq, (type_id, &row.with_data(table, &data), &data))
            })
        });
        staged.map_err(|error| self.named(error))
    }

    /// The file's fault, if it is.
    fn named(&self, error: MergeError) -> ApplyError {
        let bucket = self.file.bucket_name.clone();
        match error {
            MergeError::Snapshot(error) => {
                ApplyError::Snapshot { bucket, reason: error.to_string() }
            }
            MergeError::Sqlite(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                ) =>
            {
                ApplyError::Snapshot { bucket, reason: error.to_string() }
            }
            MergeError::Sqlite(error) => ApplyError::Sqlite(error),
            MergeError::File(error) => ApplyError::File(error),
        }
    }
}

/// Which side an error is of.
#[derive(Debug, thiserror::Error)]
enum MergeError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl From<packs::InsertError> for MergeError {
    fn from(error: packs::InsertError) -> Self {
        match error {
            packs::InsertError::File(error) => Self::File(error),
            packs::InsertError::Sqlite(error) => Self::Sqlite(error),
        }
    }
}

fn stage(
    tx: &Transaction<'_>,
    bucket: i64,
    next_seq: &mut i64,
    (type_id, row, data): (i64, &SnapshotRow<'_>, &str),
) -> Result<(), MergeError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let (seq, op_id) = (*next_seq, row.op_id.get());
    let key = (row.object_id, row.subkey);
    insert.execute(params![seq, kind::PUT, type_id, key.0, bucket, key.1, op_id, data])?;
    *next_seq += 1;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
