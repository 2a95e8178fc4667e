//! Prepares a table for a large insert: without triggers, and if it is empty, without indexes.
//!
//! If a page already in the WAL is modified again before the commit, SQLite rewrites that frame in
//! place and must compute the checksums of every later frame again. For large snapshots this costs
//! about 10 %, so small writes before the rows are avoided where possible.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction};

use crate::db::table_plan::{TablePlan, quote};
use crate::db::{create_triggers, drop_triggers};

/// A table that is being filled.
pub(super) struct BulkLoad<'a> {
    /// The indexes that were dropped, to be created again.
    indexes: Vec<DroppedIndex>,
    /// Set if the table has no triggers but ours: no trigger fires until this is dropped.
    _triggers_disabled: Option<TriggersDisabled<'a>>,
    /// The table has triggers of the app's own, and ours were dropped.
    triggers_are_dropped: bool,
}

struct DroppedIndex {
    name: String,
    sql: String,
}

impl<'a> BulkLoad<'a> {
    /// Prepares the table. Drops indexes only if the load `is_large`.
    pub(super) fn begin(
        tx: &'a Transaction<'_>,
        plan: &TablePlan,
        is_large: bool,
    ) -> rusqlite::Result<Self> {
        let app_triggers = "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' \
             AND tbl_name = ?1 COLLATE NOCASE AND name NOT LIKE '\\_tw\\_%' ESCAPE '\\'";
        let has_app_triggers = tx.prepare(app_triggers)?.exists([&plan.name])?;

        // Our triggers must not capture these rows. The cheapest way is a switch of the connection,
        // but it would silence the app's triggers as well. If the app has some, a large load drops
        // ours, and a small one sets the flag that keeps ours silent.
        let triggers_are_dropped = has_app_triggers && is_large;
        if triggers_are_dropped {
            tx.execute_batch(&drop_triggers(plan))?;
        } else if has_app_triggers {
            tx.execute("UPDATE _tw_state SET applying = 1", [])?;
        }

        let indexes = if is_large { drop_indexes(tx, plan)? } else { Vec::new() };
        let triggers_disabled =
            if has_app_triggers { None } else { Some(TriggersDisabled::begin(tx)?) };
        Ok(Self { indexes, _triggers_disabled: triggers_disabled, triggers_are_dropped })
    }

    /// Restores what was dropped. If the load failed instead, the rollback does.
    pub(super) fn end(
        self,
        tx: &Transaction<'_>,
        plan: &TablePlan,
        type_id: i64,
    ) -> rusqlite::Result<()> {
        for index in &self.indexes {
            tx.execute_batch(&index.sql)?;
        }
        if self.triggers_are_dropped {
            tx.execute_batch(&create_triggers(plan, type_id))?;
        }
        Ok(())
    }
}

/// Drops the indexes of an empty table. Building an index from all rows is faster than updating it
/// with each.
fn drop_indexes(tx: &Transaction<'_>, plan: &TablePlan) -> rusqlite::Result<Vec<DroppedIndex>> {
    let mut indexes = Vec::new();
    if tx.prepare(&format!("SELECT 1 FROM {}", quote(&plan.name)))?.exists([])? {
        return Ok(indexes);
    }

    // Indexes of constraints have no SQL. They cannot be dropped.
    let mut select = tx.prepare(
        "SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' \
         AND tbl_name = ?1 COLLATE NOCASE AND sql IS NOT NULL",
    )?;
    let found = select
        .query_map([&plan.name], |row| Ok(DroppedIndex { name: row.get(0)?, sql: row.get(1)? }))?;
    for index in found {
        indexes.push(index?);
    }

    for index in &indexes {
        tx.execute_batch(&format!("DROP INDEX main.{}", quote(&index.name)))?;
    }
    Ok(indexes)
}

/// While this lives, no trigger fires on the connection.
struct TriggersDisabled<'a>(&'a Connection);

impl<'a> TriggersDisabled<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        Ok(Self(connection))
    }
}

impl Drop for TriggersDisabled<'_> {
    /// Enables triggers again, however the load ended: they are not part of the transaction, so a
    /// rollback does not do it.
    fn drop(&mut self) {
        let enabled = self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true);
        debug_assert!(enabled.is_ok(), "SQLite knows this setting: it was changed before");
    }
}
