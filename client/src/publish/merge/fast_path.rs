//! The short way of a type's tables: one statement each, and the copies packed beside it.

use std::collections::HashSet;
use std::path::Path;
use std::thread;

use rusqlite::params;
use tidewater_snapshot::{Key, Keys, TypedTable};

use super::bulk_load::Bulk;
use super::{APART_MAX, FileMerge, MergeError};
use crate::db::table_plan::{TablePlan, quote};
use crate::publish::apply::ApplyError;
use crate::publish::packs::{self, Held, Packer};

impl FileMerge<'_> {
    /// Finds the ids that others hold or the app wrote to, and notes them in `_tw_apart`. One that
    /// were missed would meet the key of the row that is there, and send its type the long way.
    pub(super) fn set_apart(
        &self,
        type_id: i64,
        schema: &str,
        tables: &[&TypedTable],
    ) -> Result<Option<HashSet<String>>, ApplyError> {
        let tx = self.tx;
        tx.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS _tw_apart (id TEXT PRIMARY KEY) WITHOUT ROWID;
             DELETE FROM _tw_apart;",
        )?;
        let mut apart = HashSet::new();
        for others in ["_tw_rows", "_tw_touched"] {
            let any = format!("SELECT 1 FROM {others} WHERE type = ?1");
            if !tx.prepare_cached(&any)?.exists([type_id])? {
                continue;
            }
            for table in tables {
                let (id, name) = (quote(table.id_name()), quote(&table.name));
                let sql = format!(
                    "INSERT OR IGNORE INTO _tw_apart SELECT new.{id} FROM {schema}.{name} AS new \
                     WHERE EXISTS (SELECT 1 FROM main.{others} AS old \
                     WHERE old.type = {type_id} AND old.id = new.{id}) LIMIT {APART_MAX}"
                );
                tx.prepare(&sql)
                    .and_then(|mut statement| statement.execute([]))
                    .map_err(|error| self.named(error.into()))?;
            }
        }
        if packs::end(tx, type_id)?.is_some() {
            for table in tables {
                self.set_packed_apart(type_id, table).map_err(|error| self.named(error))?;
            }
        }
        let mut select = tx.prepare("SELECT id FROM _tw_apart")?;
        for id in select.query_map([], |row| row.get(0))? {
            apart.insert(id?);
        }
        Ok((apart.len() < APART_MAX).then_some(apart))
    }

    /// The same for copies in packs: they and the table's are in one order.
    fn set_packed_apart(&self, type_id: i64, table: &TypedTable) -> Result<(), MergeError> {
        let mut select = self.tx.prepare_cached(Held::SQL)?;
        let mut held = Held::new(select.query([type_id])?);
        let insert = "INSERT OR IGNORE INTO _tw_apart VALUES (?1)";
        let mut insert = self.tx.prepare_cached(insert)?;
        let mut room = APART_MAX;
        self.file.snapshot.keys(table)?.for_each(|key| {
            if room > 0 && held.has(key.id)? {
                insert.execute([key.id])?;
                room -= 1;
            }
            Ok(())
        })
    }

    /// Copies rows into the app's table and notes the bucket's copies of them.
    pub(super) fn copy(
        &self,
        (type_id, plan): (i64, &TablePlan),
        schema: &str,
        tables: &[&TypedTable],
        apart: &HashSet<String>,
    ) -> Result<(), MergeError> {
        let rows = tables.iter().map(|table| table.rows).sum::<u64>();
        let bulk = Bulk::begin(self.tx, plan, rows >= self.bulk_rows)?;
        for table in tables {
            let (id, source) = (quote(table.id_name()), quote(&table.name));
            let shared: String = plan
                .columns
                .iter()
                .filter(|column| table.columns.contains(&column.name))
                .map(|column| format!(", {}", quote(&column.name)))
                .collect();
            let without = if apart.is_empty() {
                String::new()
            } else {
                format!("WHERE {id} NOT IN (SELECT id FROM temp._tw_apart)")
            };
            let insert = format!(
                "INSERT OR ABORT INTO main.{} (id{shared}) SELECT {id}{shared} \
                 FROM {schema}.{source} {without}",
                quote(&plan.name)
            );
            if table.rows < self.bulk_rows || !self.copy_and_pack(type_id, table, &insert, apart)? {
                self.tx.execute_batch(&insert)?;
                self.note_copies(type_id, table, apart)?;
            }
        }
        Ok(bulk.end(self.tx, plan, type_id)?)
    }

    /// Two threads: one copies the rows, the other goes through the keys and packs them. False,
    /// and nothing done, if the packs would overlap with those that are there.
    fn copy_and_pack(
        &self,
        type_id: i64,
        table: &TypedTable,
        insert: &str,
        apart: &HashSet<String>,
    ) -> Result<bool, MergeError> {
        let keys = self.file.snapshot.keys(table)?;
        if let Some(end) = packs::end(self.tx, type_id)?
            && keys.first()?.is_some_and(|first| first <= end)
        {
            return Ok(false);
        }
        let path = self.file.path.with_extension("packs");
        thread::scope(|scope| {
            let path = &path;
            let packing = thread::Builder::new()
                .name("tidewater-pack".to_owned())
                .spawn_scoped(scope, move || pack(&keys, path, apart))?;
            self.tx.execute_batch(insert)?;
            packing.join().expect("packing does not panic")
        })?;
        packs::insert(self.tx, type_id, self.file.bucket, &path)?;
        Ok(true)
    }

    fn note_copies(
        &self,
        type_id: i64,
        table: &TypedTable,
        apart: &HashSet<String>,
    ) -> Result<(), MergeError> {
        let mut insert = self.tx.prepare_cached(
            "INSERT OR ABORT INTO _tw_rows (type, id, bucket, subkey, op_id) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        self.file.snapshot.keys(table)?.for_each(|Key { id, subkey, op_id }| {
            if !apart.contains(id) {
                insert.execute(params![type_id, id, self.file.bucket, subkey, op_id.get()])?;
            }
            Ok(())
        })
    }

    /// Rows of a type without a table are kept as they are.
    pub(super) fn keep(
        &self,
        type_id: i64,
        tables: &[&TypedTable],
        apart: &HashSet<String>,
    ) -> Result<(), MergeError> {
        let mut insert = self.tx.prepare_cached(
            "INSERT OR ABORT INTO _tw_rows (type, id, bucket, subkey, op_id, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let mut data = String::new();
        for table in tables {
            self.file.snapshot.for_each_typed(table, |row| {
                if !apart.contains(row.id) {
                    row.text(table, &mut data)?;
                    let (bucket, op_id) = (self.file.bucket, row.op_id.get());
                    insert.execute(params![type_id, row.id, bucket, row.subkey, op_id, data])?;
                }
                Ok::<_, MergeError>(())
            })?;
        }
        Ok(())
    }
}

fn pack(keys: &Keys, path: &Path, apart: &HashSet<String>) -> Result<(), MergeError> {
    let mut packer = Packer::create(path)?;
    keys.for_each(|Key { id, subkey, op_id }| {
        if !apart.contains(id) {
            packer.push(id, subkey, op_id.get())?;
        }
        Ok::<_, MergeError>(())
    })?;
    Ok(packer.finish()?)
}
