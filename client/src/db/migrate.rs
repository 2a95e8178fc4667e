//! Migrates a database file to the app's schema.

use std::path::Path;

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::table_plan::{TablePlan, quote};
use super::types::type_id;
use super::{staging, triggers};
use crate::error::ClientError;
use crate::schema::{Index, Schema, Table};

/// The format of our own tables. 2 added `_tw_snapshots` and 3 `_tw_packs`: a version that does not
/// know them would leave their rows out of the next checkpoint. 4 added the user that local writes
/// belong to: an earlier version would send them as another one.
const FORMAT: i64 = 4;

/// The columns that format 4 added to tables of earlier formats.
const ADDED_IN_FORMAT_4: &str = "
    ALTER TABLE _tw_state ADD COLUMN user_id TEXT;
    ALTER TABLE _tw_state ADD COLUMN is_unit INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE _tw_queue ADD COLUMN is_unit INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE _tw_rejected ADD COLUMN user_id TEXT;
";

/// Creates our tables and the app's, in one transaction. Returns the generation of the schema,
/// which grows with each change.
pub(super) fn migrate(connection: &mut Connection, schema: &Schema) -> Result<i64, ClientError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(include_str!("internal.sql"))?;

    let format: Option<i64> =
        tx.query_row("SELECT format FROM _tw_state", [], |row| row.get(0)).optional()?;
    match format {
        Some(FORMAT) => {}
        // The script above has created the tables that these versions lack.
        Some(1..=3) => {
            tx.execute_batch(ADDED_IN_FORMAT_4)?;
            tx.execute("UPDATE _tw_state SET format = ?1", [FORMAT])?;
        }
        Some(other) => return Err(ClientError::NewerFormat(other)),
        None => {
            let sql = "INSERT INTO _tw_state (one, format, client_id) VALUES (1, ?1, ?2)";
            tx.execute(sql, params![FORMAT, new_client_id()])?;
        }
    }

    let stored = stored_schema(&tx)?;
    let has_new_tables = change_tables(&tx, &stored, schema)?;
    let has_new_indexes = change_indexes(&tx, &stored, schema)?;
    for table in &schema.tables {
        create_triggers(&tx, table)?;
    }

    if has_new_tables || has_new_indexes {
        tx.execute("UPDATE _tw_state SET schema_generation = schema_generation + 1", [])?;
    }
    let generation = tx.query_row("SELECT schema_generation FROM _tw_state", [], |r| r.get(0))?;
    tx.commit()?;
    Ok(generation)
}

/// Returns the schema that a file was last migrated to.
pub(crate) fn schema_of_file(path: &Path) -> Result<Schema, ClientError> {
    let missing = || ClientError::NoDatabase(path.display().to_string());
    // Does not create the file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(path, flags).map_err(|_| missing())?;

    let ours = "SELECT 1 FROM sqlite_schema WHERE name = '_tw_schema'";
    let is_ours = connection.prepare(ours).and_then(|mut select| select.exists([]));
    match is_ours {
        Ok(true) => stored_schema(&connection),
        Ok(false) | Err(_) => Err(missing()),
    }
}

/// Creates a table's triggers, unless the file has them exactly as this version makes them.
fn create_triggers(tx: &Transaction<'_>, table: &Table) -> Result<(), ClientError> {
    let sql = triggers::create(&TablePlan::new(table), type_id(tx, &table.name)?);
    let name = format!("triggers of {}", table.name);
    let stored = "SELECT 1 FROM _tw_schema WHERE name = ?1 AND sql = ?2";

    if !tx.prepare_cached(stored)?.exists([&name, &sql])? {
        tx.execute_batch(&sql)?;
        record(tx, &name, "triggers", &sql)?;
    }
    Ok(())
}

/// Returns a random (version 4) UUID.
fn new_client_id() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;

    [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]]
        .map(hex::encode)
        .join("-")
}

/// Returns the schema that the file was last migrated to.
pub(crate) fn stored_schema(tx: &Connection) -> Result<Schema, ClientError> {
    // `kind DESC` puts tables before indexes.
    let mut select = tx.prepare(
        "SELECT sql FROM _tw_schema WHERE kind IN ('table', 'index') ORDER BY kind DESC, name",
    )?;
    let statements: Vec<String> =
        select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;

    Ok(Schema::parse(&statements.join(";\n"))?)
}

/// Creates and extends tables. Returns whether anything changed.
fn change_tables(
    tx: &Transaction<'_>,
    stored: &Schema,
    schema: &Schema,
) -> Result<bool, ClientError> {
    for old in &stored.tables {
        if !schema.tables.iter().any(|table| table.name == old.name) {
            let message = format!("table '{}' is missing", old.name);
            return Err(ClientError::SchemaChange(message));
        }
    }

    let mut is_changed = false;
    for table in &schema.tables {
        let changed = match stored.tables.iter().find(|old| old.name == table.name) {
            Some(old) => extend_table(tx, old, table)?,
            None => create_table(tx, table).map(|()| true)?,
        };
        if changed {
            record(tx, &table.name, "table", &table.sql)?;
        }
        is_changed |= changed;
    }
    Ok(is_changed)
}

/// Creates a table and fills it with the rows of its type that arrived while the schema lacked it.
fn create_table(tx: &Transaction<'_>, table: &Table) -> Result<(), ClientError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    if tx.prepare(sql)?.exists([&table.name])? {
        let message = format!("'{}' exists already and is not a synced table", table.name);
        return Err(ClientError::SchemaChange(message));
    }
    tx.execute_batch(&table.sql)?;

    let type_id = type_id(tx, &table.name)?;
    let plan = TablePlan::new(table);
    let mut select = tx.prepare(
        "SELECT id, bucket, subkey, payload FROM _tw_rows AS row WHERE type = ?1 AND op_id = \
         (SELECT max(op_id) FROM _tw_rows WHERE type = row.type AND id = row.id)",
    )?;
    let mut rows = select.query([type_id])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let payload: String = row.get(3)?;
        let values = plan.read(&payload).map_err(|error| {
            ClientError::SchemaChange(format!("row '{id}' of '{}': {error}", table.name))
        })?;
        plan.upsert(tx, &id, &values)?;
    }

    // The visible row now stores the payload of the greatest op id. Other copies keep theirs.
    tx.execute(
        "UPDATE _tw_rows AS row SET payload = NULL WHERE type = ?1 AND op_id = \
         (SELECT max(op_id) FROM _tw_rows WHERE type = row.type AND id = row.id)",
        [type_id],
    )?;
    Ok(())
}

/// Adds the columns that are new. Returns whether there are any.
fn extend_table(tx: &Transaction<'_>, old: &Table, new: &Table) -> Result<bool, ClientError> {
    let refuse =
        |what: String| Err(ClientError::SchemaChange(format!("in table '{}', {what}", old.name)));

    if old.suffix != new.suffix {
        return refuse(format!("the end is '{}' instead of '{}'", new.suffix, old.suffix));
    }
    for element in &old.elements {
        if !new.elements.iter().any(|kept| kept.normal == element.normal) {
            return refuse(format!("'{}' was changed or removed", element.sql));
        }
    }

    let mut is_extended = false;
    for element in &new.elements {
        if old.elements.iter().any(|known| known.normal == element.normal) {
            continue;
        }
        if element.column.is_none() {
            return refuse(format!("the constraint '{}' cannot be added", element.sql));
        }

        let sql = format!("ALTER TABLE {} ADD COLUMN {}", quote(&old.name), element.sql);
        if let Err(error) = tx.execute_batch(&sql) {
            return refuse(format!("the column '{}' cannot be added ({error})", element.sql));
        }
        is_extended = true;
    }

    if is_extended {
        reset_buckets_of(tx, &old.name)?;
    }
    Ok(is_extended)
}

/// Resets the buckets that contain rows of a table, so that they are downloaded again. The server
/// may have sent the new column before, and this client ignored it. The rows stay visible until
/// then.
fn reset_buckets_of(tx: &Transaction<'_>, table: &str) -> Result<(), ClientError> {
    let buckets = "SELECT DISTINCT bucket FROM _tw_rows WHERE type = ?1 \
                   UNION SELECT bucket FROM _tw_packs WHERE type = ?1 \
                   UNION SELECT DISTINCT bucket FROM _tw_staged WHERE type = ?1";
    let type_id = type_id(tx, table)?;
    let mut select = tx.prepare(buckets)?;
    let ids: Vec<i64> =
        select.query_map([type_id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;

    for id in ids {
        staging::reset(tx, id)?;
    }
    Ok(())
}

/// Drops and creates indexes. Returns whether anything changed.
fn change_indexes(
    tx: &Transaction<'_>,
    stored: &Schema,
    schema: &Schema,
) -> Result<bool, ClientError> {
    let mut is_changed = false;

    for old in &stored.indexes {
        if !schema.indexes.iter().any(|index| is_same_index(index, old)) {
            tx.execute_batch(&format!("DROP INDEX {}", quote(&old.name)))?;
            tx.execute("DELETE FROM _tw_schema WHERE name = ?1", [&old.name])?;
            is_changed = true;
        }
    }
    for index in &schema.indexes {
        if !stored.indexes.iter().any(|old| is_same_index(index, old)) {
            tx.execute_batch(&index.sql)?;
            record(tx, &index.name, "index", &index.sql)?;
            is_changed = true;
        }
    }

    Ok(is_changed)
}

fn is_same_index(a: &Index, b: &Index) -> bool {
    a.name == b.name && a.normal == b.normal
}

/// Records a statement in `_tw_schema`, which the next start compares with.
fn record(tx: &Transaction<'_>, name: &str, kind: &str, sql: &str) -> Result<(), ClientError> {
    let upsert = "INSERT OR REPLACE INTO _tw_schema (name, kind, sql) VALUES (?1, ?2, ?3)";
    tx.execute(upsert, [name, kind, sql])?;
    Ok(())
}

#[cfg(test)]
mod tests;
