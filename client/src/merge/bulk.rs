//! Filling a table without what makes that slow.

use rusqlite::Transaction;

use crate::row::{TablePlan, quote};
use crate::triggers;

/// A table without its triggers of ours and, if it was empty, its indexes.
pub(super) struct Bulk {
    indexes: Vec<(String, String)>,
}

impl Bulk {
    pub(super) fn begin(tx: &Transaction<'_>, plan: &TablePlan) -> rusqlite::Result<Self> {
        tx.execute_batch(&triggers::drop(plan))?;
        let table = quote(&plan.name);
        let has_rows = tx.prepare(&format!("SELECT 1 FROM {table}"))?.exists([])?;
        let mut indexes = Vec::new();
        if !has_rows {
            // Those of constraints have no SQL, and stay.
            let mut select = tx.prepare(
                "SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' \
                 AND tbl_name = ?1 COLLATE NOCASE AND sql IS NOT NULL",
            )?;
            for index in select.query_map([&plan.name], |row| Ok((row.get(0)?, row.get(1)?)))? {
                indexes.push(index?);
            }
        }
        let drop = |(name, _): &(String, String)| {
            tx.execute_batch(&format!("DROP INDEX main.{}", quote(name)))
        };
        indexes.iter().try_for_each(drop)?;
        Ok(Self { indexes })
    }

    pub(super) fn end(
        &self,
        tx: &Transaction<'_>,
        plan: &TablePlan,
        type_id: i64,
    ) -> rusqlite::Result<()> {
        for (_, sql) in &self.indexes {
            tx.execute_batch(sql)?;
        }
        tx.execute_batch(&triggers::create(plan, type_id))
    }
}
