//! The upload queue and the gate, as stored.

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::Map;
use tidewater_protocol::OpId;

use crate::connector::{LocalOp, LocalOperation, LocalTransaction};
use crate::core::{Gate, Rejection};
use crate::db::triggers::GATE_UNKNOWN;

/// A local transaction that the backend refused.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedUpload {
    /// The transaction.
    pub transaction: LocalTransaction,
    /// Why, for people.
    pub reason: String,
    /// What the backend said.
    pub body: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Ends the local transaction that is being captured, if it captured anything: what comes next is
/// one of its own. To be called within a transaction.
pub(crate) fn seal(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE _tw_state SET tx_id = tx_id + 1 \
               WHERE tx_id IN (SELECT tx_id FROM _tw_queue ORDER BY seq DESC LIMIT 1)";
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// The oldest local transaction. It does not grow any more.
pub(crate) fn head(connection: &mut Connection) -> rusqlite::Result<Option<LocalTransaction>> {
    let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM _tw_queue)";
    if connection.query_row(is_empty, [], |row| row.get(0))? {
        return Ok(None);
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    seal(&tx)?;
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

/// The gate, and a mark that changes with each local transaction.
pub(crate) fn gate(connection: &Connection) -> rusqlite::Result<(Gate, i64)> {
    let (gate, mark): (i64, i64) =
        connection.query_row("SELECT gate, tx_id FROM _tw_state", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let gate = match gate {
        0 => Gate::Open,
        GATE_UNKNOWN => Gate::Unknown,
        number => Gate::At(OpId::from_i64(number).unwrap_or_default()),
    };
    Ok((gate, mark))
}

pub(crate) fn gate_is_open(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(gate(connection)?.0 == Gate::Open)
}

/// Records the verdict on a local transaction and takes it out of the queue.
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

/// Sets the gate to a write checkpoint that was asked for when the queue was empty. False, and
/// nothing done, if a local write came since.
pub(crate) fn set_gate(
    connection: &Connection,
    mark: i64,
    write_checkpoint: OpId,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE _tw_state SET gate = ?2 \
               WHERE tx_id = ?1 AND NOT EXISTS (SELECT 1 FROM _tw_queue)";
    Ok(connection.execute(sql, params![mark, write_checkpoint.get()])? > 0)
}

/// Local transactions that wait, and those that were rejected.
pub(crate) fn lengths(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let mut select = connection.prepare_cached(
        "SELECT (SELECT count(DISTINCT tx_id) FROM _tw_queue), \
         (SELECT count(*) FROM _tw_rejected)",
    )?;
    select.query_row([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    })
}

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

pub(crate) fn discard_rejected(
    connection: &Connection,
    transaction_id: i64,
) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM _tw_rejected WHERE tx_id = ?1";
    Ok(connection.execute(sql, [transaction_id])? > 0)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::db::database::Database;
    use crate::schema::Schema;

    fn database() -> (TempDir, Database) {
        let dir = TempDir::new().unwrap();
        let schema = Schema::parse("CREATE TABLE t (id TEXT PRIMARY KEY, a)").unwrap();
        let database = Database::open(&dir.path().join("app.db"), &schema).unwrap();
        (dir, database)
    }

    fn write(database: &Database, id: &str) {
        let sql = "INSERT INTO t VALUES (?1, 1)";
        database.writers().write(|tx| tx.execute(sql, [id])).unwrap();
    }

    /// The rows of the head, which is then done.
    fn take(database: &Database) -> Option<(i64, Vec<String>)> {
        let writers = &mut *database.writers();
        let head = head(&mut writers.sync).unwrap()?;
        finish(&mut writers.sync, head.transaction_id, None).unwrap();
        Some((head.transaction_id, head.operations.into_iter().map(|o| o.id).collect()))
    }

    #[test]
    fn a_write_between_the_question_and_the_answer_keeps_the_gate_shut() {
        let (_dir, database) = database();
        let number = OpId::from_i64(5).unwrap();
        write(&database, "r1");
        take(&database).unwrap();
        let (before, mark) = gate(&database.writers().sync).unwrap();
        assert_eq!(before, Gate::Unknown);
        write(&database, "r2");
        assert!(!set_gate(&database.writers().sync, mark, number).unwrap());
        take(&database).unwrap();
        // Sent meanwhile, but after the question.
        assert!(!set_gate(&database.writers().sync, mark, number).unwrap());
        let (still, mark) = gate(&database.writers().sync).unwrap();
        assert_eq!(still, Gate::Unknown);
        assert!(set_gate(&database.writers().sync, mark, number).unwrap());
        assert_eq!(gate(&database.writers().sync).unwrap().0, Gate::At(number));
    }

    #[test]
    fn numbers_are_sent_exactly_and_infinite_ones_by_name() {
        let (_dir, database) = database();
        let sent = |sql: &str| {
            database.writers().write(|tx| tx.execute(sql, [])).unwrap();
            let writers = &mut *database.writers();
            let unit = head(&mut writers.sync).unwrap().unwrap();
            finish(&mut writers.sync, unit.transaction_id, None).unwrap();
            serde_json::to_string(&unit.operations[0].data).unwrap()
        };
        assert_eq!(sent("INSERT INTO t VALUES ('r', 9e999)"), r#"{"a":"Infinity"}"#);
        assert_eq!(sent("UPDATE t SET a = -9e999"), r#"{"a":"-Infinity"}"#);
        for exact in ["2.0", "122.416294033786585", "9007199254740993", "5e-324"] {
            let value: f64 = exact.parse().unwrap();
            let update = format!("UPDATE t SET a = {exact}");
            let expected =
                if exact.contains(['.', 'e']) { format!("{value:?}") } else { exact.into() };
            assert_eq!(sent(&update), format!(r#"{{"a":{expected}}}"#));
        }
    }

    #[test]
    fn units_never_grow_once_read_and_numbers_are_never_used_again() {
        let (dir, database) = database();
        let other = Connection::open(dir.path().join("app.db")).unwrap();
        other.execute("INSERT INTO t VALUES ('o1', 1)", []).unwrap();
        other.execute("INSERT INTO t VALUES ('o2', 1)", []).unwrap();
        let first = head(&mut database.writers().sync).unwrap().unwrap();
        other.execute("INSERT INTO t VALUES ('o3', 1)", []).unwrap();
        write(&database, "r1");
        let again = head(&mut database.writers().sync).unwrap().unwrap();
        assert_eq!(first, again);
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        assert_eq!(take(&database), Some((1, ids(&["o1", "o2"]))));
        assert_eq!(take(&database), Some((2, ids(&["o3"]))));
        assert_eq!(take(&database), Some((3, ids(&["r1"]))));
        assert_eq!(take(&database), None);
        database.writers().clear().unwrap();
        write(&database, "r2");
        assert_eq!(take(&database), Some((4, ids(&["r2"]))));
    }
}
