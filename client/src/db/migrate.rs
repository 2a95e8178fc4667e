//! Takes a database file to the app's schema.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::db::table_plan::{TablePlan, quote};
use crate::db::triggers;
use crate::error::ClientError;
use crate::schema::{Index, Schema, Table};

/// Format of our own tables. 2 added `_tw_snapshots` and 3 `_tw_packs`: a version that does not know
/// them would leave what they hold out of the next checkpoint.
const FORMAT: i64 = 3;

/// Makes our tables and the app's, in one transaction. Returns the generation of the schema, which
/// grows with each change.
pub(crate) fn migrate(connection: &mut Connection, schema: &Schema) -> Result<i64, ClientError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(include_str!("internal.sql"))?;
    let format: Option<i64> =
        tx.query_row("SELECT format FROM _tw_state", [], |row| row.get(0)).optional()?;
    match format {
        Some(FORMAT) => {}
        Some(1 | 2) => drop(tx.execute("UPDATE _tw_state SET format = ?1", [FORMAT])?),
        Some(other) => return Err(ClientError::NewerFormat(other)),
        None => {
            let sql = "INSERT INTO _tw_state (one, format, client_id) VALUES (1, ?1, ?2)";
            tx.execute(sql, params![FORMAT, new_client_id()])?;
        }
    }
    let stored = stored_schema(&tx)?;
    let is_changed = change_tables(&tx, &stored, schema)? | change_indexes(&tx, &stored, schema)?;
    for table in &schema.tables {
        capture(&tx, table)?;
    }
    if is_changed {
        tx.execute("UPDATE _tw_state SET schema_generation = schema_generation + 1", [])?;
    }
    let generation = tx.query_row("SELECT schema_generation FROM _tw_state", [], |r| r.get(0))?;
    tx.commit()?;
    Ok(generation)
}

/// Makes a table's triggers, unless they are there as this version makes them.
fn capture(tx: &Transaction<'_>, table: &Table) -> Result<(), ClientError> {
    let sql = triggers::create(&TablePlan::new(table), type_id(tx, &table.name)?);
    let name = format!("triggers of {}", table.name);
    let stored = "SELECT 1 FROM _tw_schema WHERE name = ?1 AND sql = ?2";
    if !tx.prepare_cached(stored)?.exists([&name, &sql])? {
        tx.execute_batch(&sql)?;
        remember(tx, &name, "triggers", &sql)?;
    }
    Ok(())
}

/// A random (version 4) UUID.
fn new_client_id() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    parts.map(hex).join("-")
}

/// Number of a row type, given when it is first seen.
pub(crate) fn type_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let select = "SELECT id FROM _tw_types WHERE name = ?1";
    let known =
        connection.prepare_cached(select)?.query_row([name], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO _tw_types (name) VALUES (?1)")?.insert([name])
}

fn stored_schema(tx: &Transaction<'_>) -> Result<Schema, ClientError> {
    // Tables before indexes.
    let mut select = tx.prepare(
        "SELECT sql FROM _tw_schema WHERE kind IN ('table', 'index') ORDER BY kind DESC, name",
    )?;
    let statements: Vec<String> =
        select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Schema::parse(&statements.join(";\n"))?)
}

fn change_tables(
    tx: &Transaction<'_>,
    stored: &Schema,
    schema: &Schema,
) -> Result<bool, ClientError> {
    let mut is_changed = false;
    for old in &stored.tables {
        if !schema.tables.iter().any(|table| table.name == old.name) {
            let message = format!("table '{}' is no longer in it", old.name);
            return Err(ClientError::SchemaChange(message));
        }
    }
    for table in &schema.tables {
        let changed = match stored.tables.iter().find(|old| old.name == table.name) {
            Some(old) => extend_table(tx, old, table)?,
            None => create_table(tx, table).map(|()| true)?,
        };
        if changed {
            remember(tx, &table.name, "table", &table.sql)?;
        }
        is_changed |= changed;
    }
    Ok(is_changed)
}

fn create_table(tx: &Transaction<'_>, table: &Table) -> Result<(), ClientError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    if tx.prepare(sql)?.exists([&table.name])? {
        let message = format!("'{}' exists already and is not a synced table", table.name);
        return Err(ClientError::SchemaChange(message));
    }
    tx.execute_batch(&table.sql)?;
    // Rows of this type that came while the schema lacked it have been kept aside.
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
        let slots = plan.read(&payload).map_err(|error| {
            ClientError::SchemaChange(format!("row '{id}' of '{}': {error}", table.name))
        })?;
        plan.upsert(tx, &id, &slots)?;
    }
    // The visible row stands for the payload of the greatest op id; the others keep theirs.
    tx.execute(
        "UPDATE _tw_rows AS row SET payload = NULL WHERE type = ?1 AND op_id = \
         (SELECT max(op_id) FROM _tw_rows WHERE type = row.type AND id = row.id)",
        [type_id],
    )?;
    Ok(())
}

/// Adds the columns that are new.
fn extend_table(tx: &Transaction<'_>, old: &Table, new: &Table) -> Result<bool, ClientError> {
    let refuse =
        |what: String| Err(ClientError::SchemaChange(format!("in table '{}', {what}", old.name)));
    if old.suffix != new.suffix {
        return refuse(format!("'{}' stands at the end instead of '{}'", new.suffix, old.suffix));
    }
    for element in &old.elements {
        if !new.elements.iter().any(|kept| kept.normal == element.normal) {
            return refuse(format!("'{}' was changed or taken out", element.sql));
        }
    }
    let mut is_extended = false;
    for element in &new.elements {
        if old.elements.iter().any(|known| known.normal == element.normal) {
            continue;
        }
        if element.column.is_none() {
            return refuse(format!(
                "the constraint '{}' is new: that cannot be added",
                element.sql
            ));
        }
        let sql = format!("ALTER TABLE {} ADD COLUMN {}", quote(&old.name), element.sql);
        if let Err(error) = tx.execute_batch(&sql) {
            return refuse(format!("the column '{}' cannot be added ({error})", element.sql));
        }
        is_extended = true;
    }
    if is_extended {
        download_again(tx, &old.name)?;
    }
    Ok(is_extended)
}

/// A column which is new here may have been sent for long and left out: the buckets that hold rows
/// of the table are downloaded again. Until then their rows stay as they are.
fn download_again(tx: &Transaction<'_>, table: &str) -> Result<(), ClientError> {
    let buckets = "SELECT DISTINCT bucket FROM _tw_rows WHERE type = ?1 \
                   UNION SELECT bucket FROM _tw_packs WHERE type = ?1 \
                   UNION SELECT DISTINCT bucket FROM _tw_staged WHERE type = ?1";
    let type_id = type_id(tx, table)?;
    let mut select = tx.prepare(buckets)?;
    let ids: Vec<i64> =
        select.query_map([type_id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids {
        crate::db::staging::reset(tx, id)?;
    }
    Ok(())
}

fn change_indexes(
    tx: &Transaction<'_>,
    stored: &Schema,
    schema: &Schema,
) -> Result<bool, ClientError> {
    let same = |a: &Index, b: &Index| a.name == b.name && a.normal == b.normal;
    let mut is_changed = false;
    for old in &stored.indexes {
        if !schema.indexes.iter().any(|index| same(index, old)) {
            tx.execute_batch(&format!("DROP INDEX {}", quote(&old.name)))?;
            tx.execute("DELETE FROM _tw_schema WHERE name = ?1", [&old.name])?;
            is_changed = true;
        }
    }
    for index in &schema.indexes {
        if !stored.indexes.iter().any(|old| same(index, old)) {
            tx.execute_batch(&index.sql)?;
            remember(tx, &index.name, "index", &index.sql)?;
            is_changed = true;
        }
    }
    Ok(is_changed)
}

fn remember(tx: &Transaction<'_>, name: &str, kind: &str, sql: &str) -> Result<(), ClientError> {
    let upsert = "INSERT OR REPLACE INTO _tw_schema (name, kind, sql) VALUES (?1, ?2, ?3)";
    tx.execute(upsert, [name, kind, sql])?;
    Ok(())
}

#[cfg(test)]
mod tests;
