//! The end of a local transaction: it was applied, or rejected.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{end_transaction, read_head};
use crate::connector::LocalTransaction;
use crate::core::Rejection;

/// The effect of a verdict on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The transaction left the queue.
    Removed,
    /// The changes of a rejected transaction wait again, each by itself.
    Split,
}

/// Records the verdict on a local transaction, and removes it from the queue.
///
/// Triggers do not see where the transactions of other processes begin and end, so writes that those
/// made between two uploads are one transaction. If it is rejected, its changes are sent again one
/// by one: only those that are wrong by themselves are rejected then.
pub(crate) fn finish(
    connection: &mut Connection,
    transaction_id: i64,
    rejected: Option<&Rejection>,
) -> rusqlite::Result<Finished> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;

    let mut finished = Finished::Removed;
    if let Some(rejection) = rejected
        && let Some(head) = read_head(&tx)?
        && head.transaction_id == transaction_id
    {
        if has_unknown_bounds(&tx, &head)? {
            split(&tx)?;
            finished = Finished::Split;
        } else {
            park(&tx, &head, rejection)?;
        }
    }
    tx.execute("DELETE FROM _tw_queue WHERE tx_id = ?1", [transaction_id])?;

    tx.commit()?;
    Ok(finished)
}

/// Returns whether a transaction has changes that may belong to different ones.
fn has_unknown_bounds(
    tx: &Transaction<'_>,
    transaction: &LocalTransaction,
) -> rusqlite::Result<bool> {
    let sql = "SELECT max(is_unit) FROM _tw_queue WHERE tx_id = ?1";
    let is_unit: bool = tx.query_row(sql, [transaction.transaction_id], |row| row.get(0))?;
    Ok(!is_unit && transaction.operations.len() > 1)
}

/// Makes each change of the first transaction a transaction of its own.
///
/// All get new numbers, and so do the later transactions: numbers increase in the order in which
/// transactions are sent, and one that the backend has seen is never used again.
fn split(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    end_transaction(tx)?;
    let mut next: i64 = tx.query_row("SELECT tx_id FROM _tw_state", [], |row| row.get(0))?;

    let mut select = tx.prepare("SELECT seq, tx_id FROM _tw_queue ORDER BY seq")?;
    let queue: Vec<(i64, i64)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut renumber = tx.prepare("UPDATE _tw_queue SET tx_id = ?2 WHERE seq = ?1")?;

    let first = queue.first().map(|(_, transaction)| *transaction);
    let mut former = None;
    for (seq, transaction) in queue {
        let is_next = former.is_some_and(|former| former != transaction || Some(former) == first);
        if is_next {
            next += 1;
        }
        renumber.execute([seq, next])?;
        former = Some(transaction);
    }

    tx.execute("UPDATE _tw_state SET tx_id = ?1", [next + 1])?;
    Ok(())
}

/// Keeps a rejected transaction for the app.
fn park(
    tx: &Transaction<'_>,
    transaction: &LocalTransaction,
    rejection: &Rejection,
) -> rusqlite::Result<()> {
    let operations = serde_json::to_string(&transaction.operations)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    tx.execute(
        "INSERT OR REPLACE INTO _tw_rejected (tx_id, reason, body, operations, at_ms, user_id) \
         VALUES (?1, ?2, ?3, ?4, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?5)",
        params![
            transaction.transaction_id,
            rejection.reason,
            rejection.body,
            operations,
            transaction.user_id
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
