//! Local transactions that the backend rejected.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use serde_json::Value;

use super::{WRITE_CHECKPOINT_UNKNOWN, client_id};
use crate::connector::{LocalOp, LocalOperation, LocalTransaction};
use crate::db::migrate::stored_schema;
use crate::db::table_plan::quote;
use crate::db::types::type_id;
use crate::error::ClientError;
use crate::schema::Schema;

/// The columns of `_tw_rejected` in the order that [`upload`] reads.
const COLUMNS: &str = "tx_id, reason, body, operations, at_ms, user_id";

/// A local transaction that the backend rejected.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedUpload {
    /// The transaction.
    pub transaction: LocalTransaction,
    /// The reason, for people.
    pub reason: String,
    /// The body of the backend's answer, if it sent one.
    pub body: Option<String>,
    /// The time of the rejection, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Returns the rejected transactions, oldest first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<RejectedUpload>> {
    let client_id = client_id(connection)?;
    let sql = format!("SELECT {COLUMNS} FROM _tw_rejected ORDER BY tx_id");
    let mut select = connection.prepare(&sql)?;
    select.query_map([], |row| upload(row, &client_id))?.collect()
}

/// Reads a rejected transaction from a row of [`COLUMNS`].
fn upload(row: &Row<'_>, client_id: &str) -> rusqlite::Result<RejectedUpload> {
    let operations = serde_json::from_str(row.get_ref(3)?.as_str()?)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let transaction = LocalTransaction {
        client_id: client_id.to_owned(),
        user_id: row.get(5)?,
        transaction_id: row.get(0)?,
        operations,
    };

    Ok(RejectedUpload { transaction, reason: row.get(1)?, body: row.get(2)?, at_ms: row.get(4)? })
}

/// Deletes a rejected transaction. Returns whether it was there.
pub(crate) fn discard(connection: &Connection, transaction_id: i64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM _tw_rejected WHERE tx_id = ?1";
    Ok(connection.execute(sql, [transaction_id])? > 0)
}

/// Makes the changes of a rejected transaction again, as a new local transaction. Returns whether
/// there was one with this number.
pub(crate) fn retry(tx: &Transaction<'_>, transaction_id: i64) -> Result<bool, ClientError> {
    let client_id = client_id(tx)?;
    let sql = format!("SELECT {COLUMNS} FROM _tw_rejected WHERE tx_id = ?1");
    let found = tx.query_row(&sql, [transaction_id], |row| upload(row, &client_id)).optional()?;
    let Some(RejectedUpload { transaction, .. }) = found else { return Ok(false) };

    let refuse = |reason: String| Err(ClientError::Retry { transaction_id, reason });
    let sql = "SELECT user_id FROM _tw_state";
    let user_id: Option<String> = tx.query_row(sql, [], |row| row.get(0))?;
    if let (Some(author), Some(user)) = (&transaction.user_id, &user_id)
        && author != user
    {
        return refuse(format!("user '{author}' made it, and '{user}' is signed in"));
    }

    let schema = stored_schema(tx)?;
    for operation in &transaction.operations {
        if let Err(reason) = check_columns(&schema, operation) {
            return refuse(reason);
        }
        if !apply(tx, operation)? {
            let LocalOperation { table, id, .. } = operation;
            return refuse(format!("row '{id}' of '{table}' is not there any more"));
        }
    }

    queue_again(tx, &transaction.operations)?;
    Ok(discard(tx, transaction_id)?)
}

/// Puts operations into the queue, instead of what the triggers have captured. These see no change
/// where no checkpoint has reverted a row yet.
fn queue_again(tx: &Transaction<'_>, operations: &[LocalOperation]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM _tw_queue WHERE tx_id = (SELECT tx_id FROM _tw_state)", [])?;

    let mut insert = tx.prepare(
        "INSERT INTO _tw_queue (tx_id, op, type, id, data, is_unit) \
         SELECT tx_id, ?1, ?2, ?3, ?4, is_unit FROM _tw_state",
    )?;
    for operation in operations {
        let (op, has_data) = match operation.op {
            LocalOp::Put => ("PUT", true),
            LocalOp::Patch => ("PATCH", true),
            LocalOp::Delete => ("DELETE", false),
        };
        let data = has_data.then(|| Value::Object(operation.data.clone()).to_string());
        insert.execute(params![op, type_id(tx, &operation.table)?, operation.id, data])?;
    }

    tx.execute("UPDATE _tw_state SET gate = ?1", [WRITE_CHECKPOINT_UNKNOWN])?;
    Ok(())
}

/// Checks that the schema still has what an operation changes.
fn check_columns(schema: &Schema, operation: &LocalOperation) -> Result<(), String> {
    let table = &operation.table;
    let Some(found) = schema.tables.iter().find(|known| known.name == *table) else {
        return Err(format!("table '{table}' is not in the schema any more"));
    };
    match operation.data.keys().find(|name| found.columns.iter().all(|c| c.name != **name)) {
        Some(column) => Err(format!("'{table}' has no column '{column}' any more")),
        None => Ok(()),
    }
}

/// Makes a change of a row again. Returns false if it cannot be made, because the row is missing.
fn apply(tx: &Transaction<'_>, operation: &LocalOperation) -> rusqlite::Result<bool> {
    let table = quote(&operation.table);
    let names: Vec<_> = operation.data.keys().map(|name| quote(name)).collect();
    let sets = |value: &dyn Fn(usize, &str) -> String| {
        let sets =
            names.iter().enumerate().map(|(at, name)| format!("{name} = {}", value(at, name)));
        sets.collect::<Vec<_>>().join(", ")
    };

    let sql = match operation.op {
        LocalOp::Put => {
            let columns: String = names.iter().map(|name| format!(", {name}")).collect();
            let places: String = (0..names.len()).map(|at| format!(", ?{}", at + 2)).collect();
            let action = match sets(&|_, name| format!("excluded.{name}")) {
                sets if sets.is_empty() => "NOTHING".to_owned(),
                sets => format!("UPDATE SET {sets}"),
            };
            format!(
                "INSERT INTO {table} (id{columns}) VALUES (?1{places}) ON CONFLICT (id) DO {action}"
            )
        }
        LocalOp::Patch => {
            let sets = sets(&|at, _| format!("?{}", at + 2));
            format!("UPDATE {table} SET {sets} WHERE id = ?1")
        }
        LocalOp::Delete => format!("DELETE FROM {table} WHERE id = ?1"),
    };

    let id = std::iter::once(SqlValue::Text(operation.id.clone()));
    let values = id.chain(operation.data.values().map(sql_value));
    let changed = tx.execute(&sql, params_from_iter(values))?;
    Ok(changed > 0 || operation.op != LocalOp::Patch)
}

/// Converts a value that was captured as JSON.
fn sql_value(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Bool(value) => SqlValue::Integer((*value).into()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => SqlValue::Integer(integer),
            None => SqlValue::Real(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => SqlValue::Text(value.to_string()),
    }
}

#[cfg(test)]
mod tests;
