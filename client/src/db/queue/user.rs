//! The user that the file's local writes belong to.
//!
//! Local writes are sent with the token of the user who is signed in. If that is another user than
//! the one who made them, they would take effect under the wrong name. So the file remembers the user
//! of its tokens, and another one is admitted only once nothing waits.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::WRITE_CHECKPOINT_UNKNOWN;

/// The answer to a token of a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The user may sync this file.
    Admitted,
    /// Writes of another user wait.
    Refused {
        /// The user whose writes wait.
        owner: String,
        /// The number of local transactions that wait.
        waiting: u64,
    },
}

/// Makes a user the file's, unless writes of another one wait.
pub(crate) fn admit(connection: &mut Connection, user_id: &str) -> rusqlite::Result<Admission> {
    // The first check takes no write lock: the user rarely changes.
    let is_known = "SELECT user_id IS ?1 FROM _tw_state";
    if connection.query_row(is_known, [user_id], |row| row.get(0))? {
        return Ok(Admission::Admitted);
    }

    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let waiting = "SELECT user_id, (SELECT count(DISTINCT tx_id) FROM _tw_queue) FROM _tw_state \
                   WHERE user_id IS NOT NULL AND EXISTS (SELECT 1 FROM _tw_queue)";
    let refused = tx
        .query_row(waiting, [], |row| {
            Ok(Admission::Refused {
                owner: row.get(0)?,
                waiting: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
        .optional()?;
    if let Some(refused) = refused {
        return Ok(refused);
    }

    // A write checkpoint that was obtained for the former user is not announced to this one.
    tx.execute(
        "UPDATE _tw_state SET gate = CASE WHEN gate = 0 OR user_id IS NULL THEN gate ELSE ?2 END, \
         user_id = ?1",
        params![user_id, WRITE_CHECKPOINT_UNKNOWN],
    )?;
    tx.commit()?;
    Ok(Admission::Admitted)
}

#[cfg(test)]
mod tests;
