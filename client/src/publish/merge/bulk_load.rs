//! Filling a table without what makes that slow.
//!
//! What a page holds that was written to the WAL and changes again before the commit is written
//! there once more, in its old place, and SQLite's commit then reads all of the WAL behind it to
//! make its checksums anew: for a large snapshot that takes as long as a tenth of the rest. So
//! nothing small is changed in front of the rows if that can be avoided.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction};

use crate::db::table_plan::{TablePlan, quote};
use crate::db::triggers;

/// A table without its triggers of ours and, if it was empty, its indexes.
pub(super) struct Bulk<'a> {
    indexes: Vec<(String, String)>,
    /// Where there are no triggers but ours, none fires. Where the app has some, they do, and ours
    /// are dropped or told that we are at work.
    _silence: Option<Silence<'a>>,
    are_dropped: bool,
}

impl<'a> Bulk<'a> {
    /// `is_large`: the indexes are made anew after the rows.
    pub(super) fn begin(
        tx: &'a Transaction<'_>,
        plan: &TablePlan,
        is_large: bool,
    ) -> rusqlite::Result<Self> {
        let others = "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' \
             AND tbl_name = ?1 COLLATE NOCASE AND name NOT LIKE '\\_tw\\_%' ESCAPE '\\'";
        let has_others = tx.prepare(others)?.exists([&plan.name])?;
        let are_dropped = has_others && is_large;
        if are_dropped {
            tx.execute_batch(&triggers::drop(plan))?;
        } else if has_others {
            tx.execute("UPDATE _tw_state SET applying = 1", [])?;
        }
        let indexes = if is_large { drop_indexes(tx, plan)? } else { Vec::new() };
        let silence = if has_others { None } else { Some(Silence::begin(tx)?) };
        Ok(Self { indexes, _silence: silence, are_dropped })
    }

    pub(super) fn end(
        self,
        tx: &Transaction<'_>,
        plan: &TablePlan,
        type_id: i64,
    ) -> rusqlite::Result<()> {
        for (_, sql) in &self.indexes {
            tx.execute_batch(sql)?;
        }
        if self.are_dropped {
            tx.execute_batch(&triggers::create(plan, type_id))?;
        }
        Ok(())
    }
}

/// Drops the indexes of a table without rows, and returns their names and SQL.
fn drop_indexes(tx: &Transaction<'_>, plan: &TablePlan) -> rusqlite::Result<Vec<(String, String)>> {
    let mut indexes = Vec::new();
    if tx.prepare(&format!("SELECT 1 FROM {}", quote(&plan.name)))?.exists([])? {
        return Ok(indexes);
    }
    // Those of constraints have no SQL, and stay.
    let mut select = tx.prepare(
        "SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' \
         AND tbl_name = ?1 COLLATE NOCASE AND sql IS NOT NULL",
    )?;
    for index in select.query_map([&plan.name], |row| Ok((row.get(0)?, row.get(1)?)))? {
        indexes.push(index?);
    }
    for (name, _) in &indexes {
        tx.execute_batch(&format!("DROP INDEX main.{}", quote(name)))?;
    }
    Ok(indexes)
}

/// The connection fires no trigger as long as this lives.
struct Silence<'a>(&'a Connection);

impl<'a> Silence<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        Ok(Self(connection))
    }
}

impl Drop for Silence<'_> {
    /// However the merge ended: what follows must not go on without triggers.
    fn drop(&mut self) {
        let fires = self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true);
        debug_assert!(fires.is_ok(), "SQLite knows this setting: it was changed before");
    }
}
