use serde_json::json;
use tempfile::TempDir;

use super::super::{head, queued, user, verdict};
use super::*;
use crate::core::Rejection;
use crate::db::database::Database;

const SCHEMA: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, a, b REAL)";

/// Opens a file with the row `r0`, which no transaction has made.
fn database() -> (TempDir, Database) {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, SCHEMA);
    let writers = database.writers();
    let insert = "UPDATE _tw_state SET applying = 1; INSERT INTO t VALUES ('r0', 'old', 0);
                  UPDATE _tw_state SET applying = 0;";
    writers.sync.execute_batch(insert).unwrap();
    drop(writers);
    (dir, database)
}

fn open(dir: &TempDir, schema: &str) -> Database {
    Database::open(&dir.path().join("app.db"), &Schema::parse(schema).unwrap()).unwrap()
}

/// Makes a local transaction, which the backend rejects. Returns its number.
fn rejected(database: &Database, sql: &str) -> i64 {
    let writers = &mut *database.writers();
    writers.write(|tx| tx.execute_batch(sql)).unwrap();
    let first = head(&mut writers.sync).unwrap().unwrap();
    let rejection = Rejection { reason: "no".to_owned(), body: None };
    verdict::finish(&mut writers.sync, first.transaction_id, Some(&rejection)).unwrap();
    first.transaction_id
}

fn retried(database: &Database, number: i64) -> Result<bool, String> {
    let retried = database.writers().write(|tx| retry(tx, number));
    retried.map(|(is_found, _)| is_found).map_err(|error: ClientError| error.to_string())
}

const MIXED: &str = "INSERT INTO t VALUES ('r1', 'new', 2.5), ('r2', NULL, NULL);
                     UPDATE t SET a = NULL WHERE id = 'r0'; DELETE FROM t WHERE id = 'r2'";

#[test]
fn a_retried_transaction_is_queued_with_the_same_changes() {
    for is_reverted in [false, true] {
        let (_dir, database) = database();
        let number = rejected(&database, MIXED);
        if is_reverted {
            let writers = database.writers();
            let revert = "UPDATE _tw_state SET applying = 1; DELETE FROM t WHERE id <> 'r0';
                          UPDATE t SET a = 'old'; UPDATE _tw_state SET applying = 0, gate = 0;
                          DELETE FROM _tw_touched;";
            writers.sync.execute_batch(revert).unwrap();
        }

        assert_eq!(retried(&database, number), Ok(true));
        let waiting = queued(&database.writers().sync).unwrap();
        let [again] = &waiting[..] else { panic!("{waiting:?}") };
        assert!(again.transaction_id > number);
        let sent: Vec<_> =
            again.operations.iter().map(|o| (o.op, o.id.as_str(), json!(o.data))).collect();
        let expected = [
            (LocalOp::Put, "r1", json!({"a": "new", "b": 2.5})),
            (LocalOp::Put, "r2", json!({})),
            (LocalOp::Patch, "r0", json!({"a": null})),
            (LocalOp::Delete, "r2", json!({})),
        ];
        assert_eq!(sent, expected, "reverted: {is_reverted}");

        let rows = "SELECT group_concat(id || coalesce(a, '-') || b, ' ') FROM t ORDER BY id";
        let rows: String = database.writers().sync.query_row(rows, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, "r0-0.0 r1new2.5");
        assert_eq!(all(&database.writers().sync).unwrap(), []);
        assert_eq!(retried(&database, number), Ok(false));
        let sql = "SELECT gate FROM _tw_state";
        let gate: i64 = database.writers().sync.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(gate, WRITE_CHECKPOINT_UNKNOWN, "no checkpoint without it becomes visible");
    }
}

#[test]
fn a_transaction_that_cannot_be_made_again_stays_as_it_is() {
    let (dir, database) = database();
    let sql = "INSERT INTO t VALUES ('r1', 1, 1); UPDATE t SET a = 'mine' WHERE id = 'r0'";
    let number = rejected(&database, sql);
    let delete =
        "UPDATE _tw_state SET applying = 1; DELETE FROM t; UPDATE _tw_state SET applying = 0;";
    database.writers().sync.execute_batch(delete).unwrap();

    let gone = "transaction 1 cannot be retried: row 'r0' of 't' is not there any more";
    assert_eq!(retried(&database, number).unwrap_err(), gone);
    assert_eq!(queued(&database.writers().sync).unwrap(), []);
    assert_eq!(all(&database.writers().sync).unwrap().len(), 1);
    let count = "SELECT count(*) FROM t";
    let rows: i64 = database.writers().sync.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0, "the first of its changes is undone");

    // The app's new version has a schema without the column.
    let writers = database.writers();
    let change = "UPDATE _tw_rejected SET operations = replace(operations, '\"a\"', '\"z\"')";
    writers.sync.execute(change, []).unwrap();
    drop(writers);
    let unknown = "transaction 1 cannot be retried: 't' has no column 'z' any more";
    assert_eq!(retried(&database, number).unwrap_err(), unknown);
    drop(database);
    drop(dir);
}

#[test]
fn a_transaction_of_another_user_is_not_retried() {
    let (_dir, database) = database();
    user::admit(&mut database.writers().sync, "u1").unwrap();
    let number = rejected(&database, "UPDATE t SET a = 'mine'");
    user::admit(&mut database.writers().sync, "u2").unwrap();

    let refusal = "transaction 1 cannot be retried: user 'u1' made it, and 'u2' is signed in";
    assert_eq!(retried(&database, number).unwrap_err(), refusal);
    user::admit(&mut database.writers().sync, "u1").unwrap();
    assert_eq!(retried(&database, number), Ok(true));
}
