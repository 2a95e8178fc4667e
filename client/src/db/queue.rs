//! The upload queue and the pending upload check, as stored.

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::Map;
use tidewater_protocol::OpId;

use crate::connector::{LocalOp, LocalOperation, LocalTransaction};
use crate::core::{PendingUploads, Rejection};

/// The stored write checkpoint of local writes that none has been obtained for. It is greater than
/// any checkpoint's, so nothing is published.
pub(super) const WRITE_CHECKPOINT_UNKNOWN: i64 = i64::MAX;

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

/// The lengths of the two lists of local transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLengths {
    pub(crate) queued: u64,
    pub(crate) rejected: u64,
}

/// Ends the local transaction that is being captured, if it captured anything: the next captured
/// change belongs to another one. Must be called within a transaction.
pub(crate) fn end_transaction(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE _tw_state SET tx_id = tx_id + 1 \
               WHERE tx_id IN (SELECT tx_id FROM _tw_queue ORDER BY seq DESC LIMIT 1)";
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Returns the oldest local transaction, and ends it, so that it does not grow after it was read.
pub(crate) fn head(connection: &mut Connection) -> rusqlite::Result<Option<LocalTransaction>> {
    // The first check takes no write lock, because the queue is empty most of the time.
    let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM _tw_queue)";
    if connection.query_row(is_empty, [], |row| row.get(0))? {
        return Ok(None);
    }

    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    end_transaction(&tx)?;
    let head = read_head(&tx)?;
    tx.commit()?;
    Ok(head)
}

fn read_head(connection: &Connection) -> rusqlite::Result<Option<LocalTransaction>> {
    let client_id = client_id(connection)?;
    let mut select = connection.prepare_cached(
        "SELECT tx_id, op, name, queue.id, data FROM _tw_queue AS queue \
         JOIN _tw_types AS types ON types.id = queue.type ORDER BY seq",
    )?;
    let mut rows = select.query([])?;
    let mut head: Option<LocalTransaction> = None;

    while let Some(row) = rows.next()? {
        let transaction_id: i64 = row.get(0)?;
        let head = head.get_or_insert_with(|| LocalTransaction {
            client_id: client_id.clone(),
            transaction_id,
            operations: Vec::new(),
        });
        if head.transaction_id != transaction_id {
            break;
        }

        let op = match row.get_ref(1)?.as_str()? {
            "PUT" => LocalOp::Put,
            "PATCH" => LocalOp::Patch,
            _ => LocalOp::Delete,
        };
        let data = match row.get_ref(4)?.as_str_or_null()? {
            Some(data) => serde_json::from_str(data).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    4,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?,
            None => Map::new(),
        };
        head.operations.push(LocalOperation { op, table: row.get(2)?, id: row.get(3)?, data });
    }

    Ok(head)
}

pub(crate) fn client_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT client_id FROM _tw_state", [], |row| row.get(0))
}

/// Returns the pending uploads, and the version of the queue: a number that changes with each local
/// transaction.
pub(crate) fn pending_uploads(connection: &Connection) -> rusqlite::Result<(PendingUploads, i64)> {
    let (stored, queue_version): (i64, i64) =
        connection.query_row("SELECT gate, tx_id FROM _tw_state", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;

    let pending = match stored {
        0 => PendingUploads::None,
        WRITE_CHECKPOINT_UNKNOWN => PendingUploads::Unknown,
        number => PendingUploads::Until(OpId::from_i64(number).unwrap_or_default()),
    };
    Ok((pending, queue_version))
}

pub(crate) fn has_pending_uploads(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(pending_uploads(connection)?.0 != PendingUploads::None)
}

/// Records the verdict on a local transaction and removes it from the queue.
pub(crate) fn finish(
    connection: &mut Connection,
    transaction_id: i64,
    rejected: Option<&Rejection>,
) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;

    if let Some(rejection) = rejected
        && let Some(head) = read_head(&tx)?
        && head.transaction_id == transaction_id
    {
        let operations = serde_json::to_string(&head.operations).map_err(to_sqlite)?;
        tx.execute(
            "INSERT OR REPLACE INTO _tw_rejected (tx_id, reason, body, operations, at_ms) \
             VALUES (?1, ?2, ?3, ?4, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            params![transaction_id, rejection.reason, rejection.body, operations],
        )?;
    }
    tx.execute("DELETE FROM _tw_queue WHERE tx_id = ?1", [transaction_id])?;

    tx.commit()
}

fn to_sqlite(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Stores the write checkpoint that was requested at `queue_version`. Returns false and changes
/// nothing if a local write came since: the number does not cover that one.
pub(crate) fn store_write_checkpoint(
    connection: &Connection,
    queue_version: i64,
    write_checkpoint: OpId,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE _tw_state SET gate = ?2 \
               WHERE tx_id = ?1 AND NOT EXISTS (SELECT 1 FROM _tw_queue)";
    Ok(connection.execute(sql, params![queue_version, write_checkpoint.get()])? > 0)
}

/// Returns the number of local transactions that wait, and of those that were rejected.
pub(crate) fn lengths(connection: &Connection) -> rusqlite::Result<QueueLengths> {
    let mut select = connection.prepare_cached(
        "SELECT (SELECT count(DISTINCT tx_id) FROM _tw_queue), \
         (SELECT count(*) FROM _tw_rejected)",
    )?;
    select.query_row([], |row| {
        Ok(QueueLengths {
            queued: row.get::<_, i64>(0)?.cast_unsigned(),
            rejected: row.get::<_, i64>(1)?.cast_unsigned(),
        })
    })
}

/// Returns the rejected transactions, oldest first.
pub(crate) fn rejected(connection: &Connection) -> rusqlite::Result<Vec<RejectedUpload>> {
    let client_id = client_id(connection)?;
    let mut select = connection.prepare(
        "SELECT tx_id, reason, body, operations, at_ms FROM _tw_rejected ORDER BY tx_id",
    )?;

    let rows = select.query_map([], |row| {
        let operations = row.get_ref(3)?.as_str()?;
        let operations = serde_json::from_str(operations).map_err(to_sqlite)?;
        let transaction = LocalTransaction {
            client_id: client_id.clone(),
            transaction_id: row.get(0)?,
            operations,
        };

        Ok(RejectedUpload {
            transaction,
            reason: row.get(1)?,
            body: row.get(2)?,
            at_ms: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// Deletes a rejected transaction. Returns whether it was there.
pub(crate) fn discard_rejected(
    connection: &Connection,
    transaction_id: i64,
) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM _tw_rejected WHERE tx_id = ?1";
    Ok(connection.execute(sql, [transaction_id])? > 0)
}

#[cfg(test)]
mod tests;
