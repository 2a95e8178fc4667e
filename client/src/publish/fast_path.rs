//! The fast path for a type's tables: one statement copies a table, and its copies are packed
//! beside it.

use std::collections::HashSet;
use std::path::Path;
use std::thread;

use rusqlite::{Transaction, params};
use tidewater_snapshot::{TableKey, TableKeys, TypedTable};

use super::bulk_load::BulkLoad;
use super::error::{MergeError, PublishError};
use super::open_file::OpenFile;
use super::packs::{self, PackWriter, PackedIds};
use crate::db::table_plan::{TablePlan, quote};

/// The number of ids of a type that may be excluded from the fast path. With more, the whole type
/// is published row by row: the set would take much memory, and little would be gained.
const EXCLUDED_MAX: usize = 10_000;

/// The tables of one type in an attached file.
pub(super) struct FastPath<'a> {
    pub(super) tx: &'a Transaction<'a>,
    pub(super) file: &'a OpenFile,
    /// The name under which the file is attached.
    pub(super) schema: &'a str,
    pub(super) type_id: i64,
    pub(super) tables: &'a [&'a TypedTable],
    pub(super) bulk_rows: u64,
}

impl FastPath<'_> {
    /// Returns the ids that other buckets contain or the app wrote to, and stores them in
    /// `_tw_excluded`. Returns `None` if they are too many.
    ///
    /// It is safe to miss one: its insert would meet the visible row's key, fail with a constraint
    /// error, and send the type row by row.
    pub(super) fn excluded_ids(&self) -> Result<Option<HashSet<String>>, PublishError> {
        self.tx.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS _tw_excluded (id TEXT PRIMARY KEY) WITHOUT ROWID;
             DELETE FROM _tw_excluded;",
        )?;

        for others in ["_tw_rows", "_tw_touched"] {
            // A first sync finds both empty, and skips the join.
            let any = format!("SELECT 1 FROM {others} WHERE type = ?1");
            if self.tx.prepare_cached(&any)?.exists([self.type_id])? {
                for table in self.tables {
                    self.exclude_ids_in(others, table)
                        .map_err(|error| error.of_bucket(&self.file.bucket_name))?;
                }
            }
        }
        if packs::last_packed_id(self.tx, self.type_id)?.is_some() {
            for table in self.tables {
                self.exclude_packed_ids(table)
                    .map_err(|error| error.of_bucket(&self.file.bucket_name))?;
            }
        }

        let mut excluded = HashSet::new();
        let mut select = self.tx.prepare("SELECT id FROM _tw_excluded")?;
        for id in select.query_map([], |row| row.get(0))? {
            excluded.insert(id?);
        }
        Ok((excluded.len() < EXCLUDED_MAX).then_some(excluded))
    }

    /// Excludes the ids of a table that one of our tables has as well.
    fn exclude_ids_in(&self, others: &str, table: &TypedTable) -> Result<(), MergeError> {
        let id = quote(table.id_name());
        let name = quote(&table.name);
        let schema = self.schema;
        let type_id = self.type_id;

        let sql = format!(
            "INSERT OR IGNORE INTO _tw_excluded SELECT new.{id} FROM {schema}.{name} AS new \
             WHERE EXISTS (SELECT 1 FROM main.{others} AS old \
             WHERE old.type = {type_id} AND old.id = new.{id}) LIMIT {EXCLUDED_MAX}"
        );
        self.tx.prepare(&sql)?.execute([])?;
        Ok(())
    }

    /// Excludes the ids of a table that packs have as well. Both are in the same order, so one pass
    /// over each is enough.
    fn exclude_packed_ids(&self, table: &TypedTable) -> Result<(), MergeError> {
        let mut select = self.tx.prepare_cached(PackedIds::SQL)?;
        let mut packed = PackedIds::new(select.query([self.type_id])?);
        let insert = "INSERT OR IGNORE INTO _tw_excluded VALUES (?1)";
        let mut insert = self.tx.prepare_cached(insert)?;

        let mut room = EXCLUDED_MAX;
        self.file.snapshot.keys(table)?.for_each(|key| {
            if room > 0 && packed.contains(key.id)? {
                insert.execute([key.id])?;
                room -= 1;
            }
            Ok(())
        })
    }

    /// Copies the rows into the app's table, and records the bucket's copies of them.
    pub(super) fn copy_rows(
        &self,
        plan: &TablePlan,
        excluded: &HashSet<String>,
    ) -> Result<(), MergeError> {
        let rows = self.tables.iter().map(|table| table.rows).sum::<u64>();
        let bulk_load = BulkLoad::begin(self.tx, plan, rows >= self.bulk_rows)?;

        for table in self.tables {
            let insert = self.insert_sql(plan, table, excluded);
            let is_packed =
                table.rows >= self.bulk_rows && self.copy_and_pack(table, &insert, excluded)?;
            if !is_packed {
                self.tx.execute_batch(&insert)?;
                self.record_copies(table, excluded)?;
            }
        }

        Ok(bulk_load.end(self.tx, plan, self.type_id)?)
    }

    /// Returns the statement that copies a table. Columns that the file lacks get their default, as
    /// they would row by row.
    fn insert_sql(
        &self,
        plan: &TablePlan,
        table: &TypedTable,
        excluded: &HashSet<String>,
    ) -> String {
        let shared: String = plan
            .columns
            .iter()
            .filter(|column| table.columns.contains(&column.name))
            .map(|column| format!(", {}", quote(&column.name)))
            .collect();
        let target = quote(&plan.name);
        let source = quote(&table.name);
        let id = quote(table.id_name());
        let schema = self.schema;
        let filter = if excluded.is_empty() {
            String::new()
        } else {
            format!("WHERE {id} NOT IN (SELECT id FROM temp._tw_excluded)")
        };

        // OR ABORT: a constraint's own ON CONFLICT clause must not delete other rows.
        format!(
            "INSERT OR ABORT INTO main.{target} (id{shared}) SELECT {id}{shared} \
             FROM {schema}.{source} {filter}"
        )
    }

    /// Copies a large table on two threads: one inserts the rows, the other reads the keys and
    /// packs them. Returns false, with nothing done, if the packs would overlap with those that are
    /// there.
    fn copy_and_pack(
        &self,
        table: &TypedTable,
        insert: &str,
        excluded: &HashSet<String>,
    ) -> Result<bool, MergeError> {
        let keys = self.file.snapshot.keys(table)?;
        if let Some(last) = packs::last_packed_id(self.tx, self.type_id)?
            && keys.first()?.is_some_and(|first| first <= last)
        {
            return Ok(false);
        }

        // The packs go through a file, so that memory stays bounded and the database is written by
        // this thread only.
        let path = self.file.path.with_extension("packs");
        thread::scope(|scope| {
            let path = &path;
            let packing = thread::Builder::new()
                .name("tidewater-pack".to_owned())
                .spawn_scoped(scope, move || write_packs(&keys, path, excluded))?;
            self.tx.execute_batch(insert)?;
            packing.join().expect("packing does not panic")
        })?;

        packs::insert(self.tx, self.type_id, self.file.bucket, &path)?;
        Ok(true)
    }

    /// Records the copies of a small table in `_tw_rows`.
    fn record_copies(
        &self,
        table: &TypedTable,
        excluded: &HashSet<String>,
    ) -> Result<(), MergeError> {
        let mut insert = self.tx.prepare_cached(
            "INSERT OR ABORT INTO _tw_rows (type, id, bucket, subkey, op_id) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;

        self.file.snapshot.keys(table)?.for_each(|TableKey { id, subkey, op_id }| {
            if !excluded.contains(id) {
                let bucket = self.file.bucket;
                insert.execute(params![self.type_id, id, bucket, subkey, op_id.get()])?;
            }
            Ok(())
        })
    }

    /// Stores the rows of a type without a table in `_tw_rows`, with their values.
    pub(super) fn store_payloads(&self, excluded: &HashSet<String>) -> Result<(), MergeError> {
        let mut insert = self.tx.prepare_cached(
            "INSERT OR ABORT INTO _tw_rows (type, id, bucket, subkey, op_id, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let mut data = String::new();

        for table in self.tables {
            self.file.snapshot.for_each_typed(table, |row| {
                if !excluded.contains(row.id) {
                    row.text(table, &mut data)?;
                    let bucket = self.file.bucket;
                    let op_id = row.op_id.get();
                    insert.execute(params![
                        self.type_id,
                        row.id,
                        bucket,
                        row.subkey,
                        op_id,
                        data
                    ])?;
                }
                Ok::<_, MergeError>(())
            })?;
        }
        Ok(())
    }
}

fn write_packs(
    keys: &TableKeys,
    path: &Path,
    excluded: &HashSet<String>,
) -> Result<(), MergeError> {
    let mut writer = PackWriter::create(path)?;
    keys.for_each(|TableKey { id, subkey, op_id }| {
        if !excluded.contains(id) {
            writer.push(id, subkey, op_id.get())?;
        }
        Ok::<_, MergeError>(())
    })?;

    Ok(writer.finish()?)
}
