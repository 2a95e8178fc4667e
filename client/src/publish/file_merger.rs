//! Merges one file of a snapshot, type by type.
//!
//! The fast path copies each table of a file with one statement, in the order of its keys. It takes
//! rows whose ids no other bucket contains and the app did not write to, of a bucket that had no
//! rows before. All other rows are staged in front of what came after the snapshot, and are
//! published row by row. Both lead to the same state.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Transaction, params};
use tidewater_snapshot::{SnapshotRow, TypedTable};

use super::error::{MergeError, PublishError, is_constraint};
use super::fast_path::FastPath;
use super::open_file::OpenFile;
use crate::db::staging::{BEFORE_ALL, kind, strict_json};
use crate::db::table_plan::TablePlans;
use crate::db::types::type_id;

/// One file in flight.
pub(super) struct FileMerger<'a> {
    tx: &'a Transaction<'a>,
    plans: &'a TablePlans,
    file: &'a OpenFile,
    bulk_rows: u64,
    /// The bucket has visible rows, which the snapshot replaces.
    has_rows: bool,
    /// The number of the next staged record. All come before what is staged already: that is newer.
    next_seq: i64,
}

/// The result of merging one file.
#[derive(Debug, Default)]
pub(super) struct FileStats {
    /// The app's tables that changed.
    pub(super) tables: BTreeSet<String>,
    /// The number of rows copied on the fast path.
    pub(super) rows: u64,
}

impl<'a> FileMerger<'a> {
    pub(super) fn new(
        tx: &'a Transaction<'a>,
        plans: &'a TablePlans,
        file: &'a OpenFile,
        bulk_rows: u64,
    ) -> rusqlite::Result<Self> {
        let sql = format!("SELECT {BEFORE_ALL}, has_rows FROM _tw_buckets WHERE id = ?1");
        let (before_all, has_rows): (i64, bool) =
            tx.query_row(&sql, [file.bucket], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // Room for every row of the file, if all of them have to be staged.
        let next_seq = before_all - file.snapshot.rows().cast_signed();

        Ok(Self { tx, plans, file, bulk_rows, has_rows, next_seq })
    }

    pub(super) fn run(mut self) -> Result<FileStats, PublishError> {
        let mut stats = FileStats::default();
        let snapshot = &self.file.snapshot;

        for name in snapshot.types() {
            let type_id = type_id(self.tx, name)?;
            let tables: Vec<_> =
                snapshot.tables().iter().filter(|table| table.object_type == name).collect();

            let Some(excluded) = self.try_fast_path(type_id, name, &tables)? else {
                self.stage_tables(type_id, &tables, |_| true)?;
                continue;
            };
            stats.rows += tables.iter().map(|table| table.rows).sum::<u64>();
            stats.rows -= excluded.len() as u64;
            stats.tables.extend(self.plans.get(&type_id).map(|plan| plan.name.clone()));
            if !excluded.is_empty() {
                self.stage_tables(type_id, &tables, |id| excluded.contains(id))?;
            }
        }

        self.stage_text_rows()?;
        Ok(stats)
    }

    /// Copies the tables of a type as far as possible. Returns the ids of the rows that remain, or
    /// `None` if all of them do.
    fn try_fast_path(
        &self,
        type_id: i64,
        name: &str,
        tables: &[&TypedTable],
    ) -> Result<Option<HashSet<String>>, PublishError> {
        let Some(schema) = &self.file.schema else { return Ok(None) };
        // Rows of this bucket that the snapshot lacks have to go, and a row may be visible already.
        if self.has_rows || !self.file.snapshot.ids_are_unique(name) {
            return Ok(None);
        }

        let fast_path = FastPath {
            tx: self.tx,
            file: self.file,
            schema,
            type_id,
            tables,
            bulk_rows: self.bulk_rows,
        };
        let Some(excluded) = fast_path.excluded_ids()? else { return Ok(None) };

        self.tx.execute_batch("SAVEPOINT _tw_merge")?;
        let copied = match self.plans.get(&type_id) {
            Some(plan) => fast_path.copy_rows(plan, &excluded),
            None => fast_path.store_payloads(&excluded),
        };
        match copied {
            Ok(()) => {
                self.tx.execute_batch("RELEASE _tw_merge")?;
                Ok(Some(excluded))
            }
            // A constraint of the app's table. Row by row there may be an order in which all rows
            // fit; if there is none, the error names the row.
            Err(MergeError::Sqlite(error)) if is_constraint(&error) => {
                self.tx.execute_batch("ROLLBACK TO _tw_merge; RELEASE _tw_merge")?;
                Ok(None)
            }
            Err(error) => Err(error.of_bucket(&self.file.bucket_name)),
        }
    }

    /// Stages the rows of a type's tables, to be published row by row.
    fn stage_tables(
        &mut self,
        type_id: i64,
        tables: &[&TypedTable],
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), PublishError> {
        let mut data = String::new();

        for table in tables {
            self.file
                .snapshot
                .for_each_typed(table, |row| {
                    if !is_wanted(row.id) {
                        return Ok(());
                    }
                    row.text(table, &mut data)?;
                    let row = row.with_data(table, &data);
                    stage_row(self.tx, self.file.bucket, &mut self.next_seq, type_id, &row, &data)
                })
                .map_err(|error: MergeError| error.of_bucket(&self.file.bucket_name))?;
        }
        Ok(())
    }

    /// Stages the rows that the file keeps as text, because they fit into no typed table.
    fn stage_text_rows(&mut self) -> Result<(), PublishError> {
        self.file
            .snapshot
            .for_each_text(|row| {
                let type_id = type_id(self.tx, row.object_type)?;
                let data = strict_json(self.tx, row.data)?;
                stage_row(self.tx, self.file.bucket, &mut self.next_seq, type_id, row, &data)
            })
            .map_err(|error: MergeError| error.of_bucket(&self.file.bucket_name))
    }
}

fn stage_row(
    tx: &Transaction<'_>,
    bucket: i64,
    next_seq: &mut i64,
    type_id: i64,
    row: &SnapshotRow<'_>,
    data: &str,
) -> Result<(), MergeError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO _tw_staged (seq, kind, type, id, bucket, subkey, op_id, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.execute(params![
        *next_seq,
        kind::PUT,
        type_id,
        row.object_id,
        bucket,
        row.subkey,
        row.op_id.get(),
        data
    ])?;

    *next_seq += 1;
    Ok(())
}
