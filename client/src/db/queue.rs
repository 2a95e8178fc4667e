//! The upload queue and the pending upload check, as stored.
//!
//! `verdict` ends a transaction, `rejected` keeps those that the backend rejected, and `user` guards
//! to whom the queue belongs.

pub(crate) mod rejected;
pub(crate) mod user;
pub(crate) mod verdict;

use std::ops::ControlFlow;

use rusqlite::{Connection, Row, TransactionBehavior, params};
use serde_json::Map;
use tidewater_protocol::OpId;

use crate::connector::{LocalOp, LocalOperation, LocalTransaction};
use crate::core::PendingUploads;

/// The stored write checkpoint of local writes that none has been obtained for. It is greater than
/// any checkpoint's, so nothing is published.
pub(super) const WRITE_CHECKPOINT_UNKNOWN: i64 = i64::MAX;

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

/// Begins a local transaction of this library: what it captures is one unit. Captured writes of other
/// processes stay a transaction of their own.
pub(super) fn begin_unit(connection: &Connection) -> rusqlite::Result<()> {
    end_transaction(connection)?;
    connection.prepare_cached("UPDATE _tw_state SET is_unit = 1")?.execute([]).map(|_| ())
}

/// Ends a local transaction of this library.
pub(super) fn end_unit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE _tw_state SET is_unit = 0")?.execute([])?;
    end_transaction(connection)
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
    let mut head = None;
    read(connection, |transaction| {
        head = Some(transaction);
        ControlFlow::Break(())
    })?;
    Ok(head)
}

/// Reads transactions, oldest first, until `take` breaks.
fn read(
    connection: &Connection,
    mut take: impl FnMut(LocalTransaction) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT client_id, user_id FROM _tw_state";
    let (client_id, user_id): (String, Option<String>) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut select = connection.prepare_cached(
        "SELECT tx_id, op, name, queue.id, data FROM _tw_queue AS queue \
         JOIN _tw_types AS types ON types.id = queue.type ORDER BY seq",
    )?;

    let mut rows = select.query([])?;
    let mut current: Option<LocalTransaction> = None;
    while let Some(row) = rows.next()? {
        let transaction_id: i64 = row.get(0)?;
        if let Some(complete) = current.take_if(|current| current.transaction_id != transaction_id)
            && take(complete).is_break()
        {
            return Ok(());
        }

        let current = current.get_or_insert_with(|| LocalTransaction {
            client_id: client_id.clone(),
            user_id: user_id.clone(),
            transaction_id,
            operations: Vec::new(),
        });
        current.operations.push(operation(row)?);
    }

    if let Some(last) = current {
        let _ = take(last);
    }
    Ok(())
}

/// Reads a captured change from a row of `tx_id, op, name, id, data`.
fn operation(row: &Row<'_>) -> rusqlite::Result<LocalOperation> {
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

    Ok(LocalOperation { op, table: row.get(2)?, id: row.get(3)?, data })
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

/// Returns the local transactions that wait, oldest first.
pub(crate) fn queued(connection: &Connection) -> rusqlite::Result<Vec<LocalTransaction>> {
    let mut transactions = Vec::new();
    read(connection, |transaction| {
        transactions.push(transaction);
        ControlFlow::Continue(())
    })?;
    Ok(transactions)
}

/// Deletes a local transaction that waits. Returns whether it was there.
pub(crate) fn discard(connection: &Connection, transaction_id: i64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM _tw_queue WHERE tx_id = ?1";
    Ok(connection.execute(sql, [transaction_id])? > 0)
}

#[cfg(test)]
mod tests;
