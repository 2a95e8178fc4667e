//! Publishes the staged operations, row by row in the order of the tables' keys.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use super::error::{PublishError, is_constraint};
use super::packs;
use super::row_state::{BucketCopy, CopyValue, RowState, StagedRecord, VisibleValue};
use crate::db::table_plan::{ColumnValues, TablePlan, TablePlans};

/// One pass over everything staged, within the publishing transaction.
pub(super) struct RowPublisher<'a> {
    tx: &'a Transaction<'a>,
    plans: &'a TablePlans,
    published: PublishedRows,
    /// Rows wait in `_tw_deferred`.
    has_deferred: bool,
    /// True if a copy is packed. Otherwise no row has to be looked up in the packs.
    has_packs: bool,
}

/// The rows that the pass has published.
#[derive(Debug, Default)]
pub(super) struct PublishedRows {
    /// The app's tables that changed.
    pub(super) tables: BTreeSet<String>,
    pub(super) rows: u64,
}

impl<'a> RowPublisher<'a> {
    pub(super) fn new(tx: &'a Transaction<'a>, plans: &'a TablePlans) -> rusqlite::Result<Self> {
        Ok(Self {
            tx,
            plans,
            published: PublishedRows::default(),
            has_deferred: false,
            has_packs: packs::has_any(tx)?,
        })
    }

    pub(super) fn run(mut self) -> Result<PublishedRows, PublishError> {
        // SQLite sorts, and spills to a file: memory stays bounded. The order also makes the app's
        // tables and `_tw_rows` be written front to back.
        let mut select = self.tx.prepare(
            "SELECT type, id, kind, bucket, subkey, op_id, data FROM _tw_staged \
             ORDER BY type, id, seq",
        )?;
        let mut staged = select.query([])?;

        // Collects the records of one row until the next row begins.
        let mut current: Option<RowState> = None;
        while let Some(entry) = staged.next()? {
            let type_id: i64 = entry.get(0)?;
            let id = entry.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let mut row = match current.take() {
                Some(row) if row.type_id == type_id && row.id == id => row,
                previous => {
                    if let Some(previous) = previous {
                        self.finish(previous)?;
                    }
                    self.load(type_id, id)?
                }
            };

            row.apply_op(StagedRecord {
                kind: entry.get(2)?,
                bucket: entry.get(3)?,
                subkey: entry.get(4)?,
                op_id: entry.get(5)?,
                data: entry.get(6)?,
            });
            current = Some(row);
        }
        if let Some(last) = current {
            self.finish(last)?;
        }

        self.write_deferred()?;
        Ok(self.published)
    }

    /// Loads the copies of a row. Those in a pack are unpacked first, so that `_tw_rows` has all.
    fn load(&self, type_id: i64, id: &str) -> rusqlite::Result<RowState> {
        if self.has_packs {
            packs::unpack_containing(self.tx, type_id, id)?;
        }

        let mut select = self.tx.prepare_cached(
            "SELECT bucket, subkey, op_id, payload FROM _tw_rows WHERE type = ?1 AND id = ?2",
        )?;
        let copies: Vec<_> = select
            .query_map(params![type_id, id], |row| {
                let payload = row.get::<_, Option<String>>(3)?;
                Ok(BucketCopy {
                    bucket: row.get(0)?,
                    subkey: row.get(1)?,
                    op_id: row.get(2)?,
                    value: payload.map_or(CopyValue::SameAsVisible, CopyValue::Own),
                    is_changed: false,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;

        Ok(RowState {
            type_id,
            id: id.to_owned(),
            had_copies: !copies.is_empty(),
            copies,
            removed: Vec::new(),
            touched: None,
        })
    }

    /// Writes a row whose records have all been applied: first the visible row, then its copies.
    fn finish(&mut self, mut row: RowState) -> Result<(), PublishError> {
        self.published.rows += 1;
        // A type without a table keeps the values of all copies for a later schema.
        if let Some(plan) = self.plans.get(&row.type_id) {
            self.write_visible_row(plan, &mut row)?;
        }

        let mut delete = self.tx.prepare_cached(
            "DELETE FROM _tw_rows WHERE type = ?1 AND id = ?2 AND bucket = ?3 AND subkey = ?4",
        )?;
        for (bucket, subkey) in &row.removed {
            delete.execute(params![row.type_id, row.id, bucket, subkey])?;
        }

        // This comes after the deletions, because a copy may have been removed and put again.
        let mut upsert = self.tx.prepare_cached(
            "INSERT OR REPLACE INTO _tw_rows (type, id, bucket, subkey, op_id, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for copy in row.copies.iter().filter(|copy| copy.is_changed) {
            let payload = match &copy.value {
                CopyValue::SameAsVisible => None,
                CopyValue::Own(text) => Some(text),
            };
            upsert.execute(params![
                row.type_id,
                row.id,
                copy.bucket,
                copy.subkey,
                copy.op_id,
                payload
            ])?;
        }
        Ok(())
    }

    /// Makes the winning copy's value the visible row. Other copies whose value was visible store
    /// it before it is overwritten. `row_state.rs` lists the cases.
    fn write_visible_row(
        &mut self,
        plan: &TablePlan,
        row: &mut RowState,
    ) -> Result<(), PublishError> {
        let Some(winner) = row.winner() else {
            // No bucket contains the row any more. If none did before, it is visible only because
            // the app wrote it.
            if row.had_copies || row.touched.is_some() {
                self.published.tables.insert(plan.name.clone());
                plan.delete(self.tx, &row.id)?;
            }
            return Ok(());
        };

        // If the app wrote to the row, the visible row is not the server's: the saved value is.
        let before = match &row.touched {
            _ if !row.needs_value_before(winner) => None,
            Some(base) => base.clone(),
            None => plan.image(self.tx, &row.id)?,
        };

        let value = std::mem::replace(&mut row.copies[winner].value, CopyValue::SameAsVisible);
        let (text, is_new) = match value {
            CopyValue::Own(text) => (Some(text), true),
            CopyValue::SameAsVisible => (before.clone(), false),
        };
        row.copies[winner].is_changed |= is_new;
        // The row has one copy, which is visible already, and the app did not write to it.
        let Some(text) = text else { return Ok(()) };

        let values = self.read(plan, &row.id, &text)?;
        let visible = VisibleValue { text: &text, values: &values, is_new };
        for (at, copy) in row.copies.iter_mut().enumerate() {
            if at != winner {
                copy.keep_own_value(plan, before.as_deref(), &visible);
            }
        }

        if is_new || row.touched.is_some() {
            self.published.tables.insert(plan.name.clone());
            self.upsert(plan, &row.id, &values, &text)?;
        }
        Ok(())
    }

    fn read<'t>(
        &self,
        plan: &TablePlan,
        id: &str,
        text: &'t str,
    ) -> Result<ColumnValues<'t>, PublishError> {
        plan.read(text).map_err(|error| PublishError::refused(plan, id, error.to_string()))
    }

    /// Writes the visible row, or defers it if a unique index refuses it: the row in its way may
    /// itself change later in this pass.
    fn upsert(
        &mut self,
        plan: &TablePlan,
        id: &str,
        values: &ColumnValues<'_>,
        text: &str,
    ) -> Result<(), PublishError> {
        match plan.upsert(self.tx, id, values) {
            Ok(()) => Ok(()),
            Err(error) if is_constraint(&error) => {
                if !std::mem::replace(&mut self.has_deferred, true) {
                    self.tx.execute_batch(
                        "CREATE TEMP TABLE IF NOT EXISTS _tw_deferred (tab, id, data);
                         DELETE FROM _tw_deferred;",
                    )?;
                }

                // The old value is deleted, so that it does not conflict with other rows.
                plan.delete(self.tx, id)?;
                let insert = "INSERT INTO _tw_deferred (tab, id, data) VALUES (?1, ?2, ?3)";
                self.tx.prepare_cached(insert)?.execute([&plan.name, id, text])?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the deferred rows. All others have their new values by now, so a row that is refused
    /// here fits in no order.
    fn write_deferred(&self) -> Result<(), PublishError> {
        if !self.has_deferred {
            return Ok(());
        }

        let mut select = self.tx.prepare("SELECT tab, id, data FROM _tw_deferred")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let table: String = row.get(0)?;
            let id: String = row.get(1)?;
            let text: String = row.get(2)?;
            let Some(plan) = self.plans.values().find(|plan| plan.name == table) else { continue };

            let values = self.read(plan, &id, &text)?;
            plan.upsert(self.tx, &id, &values).map_err(|error| {
                if is_constraint(&error) {
                    PublishError::refused(plan, &id, error.to_string())
                } else {
                    error.into()
                }
            })?;
        }
        drop(rows);
        drop(select);

        self.tx.execute_batch("DELETE FROM _tw_deferred")?;
        Ok(())
    }
}
