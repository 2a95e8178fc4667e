use rusqlite::Connection;
use tempfile::TempDir;

use super::super::{head, queued, rejected};
use super::*;
use crate::db::database::Database;
use crate::schema::Schema;

fn database() -> (TempDir, Database, Connection) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("app.db");
    let schema = Schema::parse("CREATE TABLE t (id TEXT PRIMARY KEY, a)").unwrap();
    let database = Database::open(&path, &schema).unwrap();
    let other_process = Connection::open(path).unwrap();
    (dir, database, other_process)
}

fn write(database: &Database, ids: &[&str]) {
    let write = |tx: &Transaction<'_>| -> rusqlite::Result<()> {
        ids.iter().try_for_each(|id| tx.execute("INSERT INTO t VALUES (?1, 1)", [id]).map(|_| ()))
    };
    database.writers().write(write).unwrap();
}

/// Rejects the first transaction of the queue.
fn reject(database: &Database) -> Finished {
    let writers = &mut *database.writers();
    let first = head(&mut writers.sync).unwrap().unwrap();
    let rejection = Rejection { reason: "no".to_owned(), body: None };
    finish(&mut writers.sync, first.transaction_id, Some(&rejection)).unwrap()
}

fn named(transactions: Vec<LocalTransaction>) -> Vec<(i64, Vec<String>)> {
    let ids = |transaction: LocalTransaction| {
        let ids = transaction.operations.into_iter().map(|operation| operation.id).collect();
        (transaction.transaction_id, ids)
    };
    transactions.into_iter().map(ids).collect()
}

fn waiting(database: &Database) -> Vec<(i64, Vec<String>)> {
    named(queued(&database.writers().sync).unwrap())
}

fn parked(database: &Database) -> Vec<(i64, Vec<String>)> {
    let parked = rejected::all(&database.writers().sync).unwrap();
    named(parked.into_iter().map(|upload| upload.transaction).collect())
}

fn transaction(number: i64, ids: &[&str]) -> (i64, Vec<String>) {
    (number, ids.iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn a_rejected_transaction_of_the_app_is_parked_as_one_unit() {
    let (_dir, database, _) = database();
    write(&database, &["r1", "r2"]);
    write(&database, &["r3"]);

    assert_eq!(reject(&database), Finished::Removed);
    assert_eq!(parked(&database), [transaction(1, &["r1", "r2"])]);
    assert_eq!(waiting(&database), [transaction(2, &["r3"])]);
}

#[test]
fn rejected_writes_of_other_processes_are_sent_one_by_one_before_what_came_later() {
    let (_dir, database, other_process) = database();
    for id in ["o1", "o2", "o3"] {
        other_process.execute("INSERT INTO t VALUES (?1, 1)", [id]).unwrap();
    }
    write(&database, &["r1", "r2"]);
    other_process.execute("INSERT INTO t VALUES ('o4', 1)", []).unwrap();
    let before = [
        transaction(1, &["o1", "o2", "o3"]),
        transaction(2, &["r1", "r2"]),
        transaction(3, &["o4"]),
    ];
    assert_eq!(waiting(&database), before);

    // The numbers 1 to 3 are not used again.
    assert_eq!(reject(&database), Finished::Split);
    let after = [
        transaction(4, &["o1"]),
        transaction(5, &["o2"]),
        transaction(6, &["o3"]),
        transaction(7, &["r1", "r2"]),
        transaction(8, &["o4"]),
    ];
    assert_eq!(waiting(&database), after);
    assert_eq!(parked(&database), []);

    // Now only the change that is wrong is parked.
    let writers = &mut *database.writers();
    finish(&mut writers.sync, 4, None).unwrap();
    let rejection = Rejection { reason: "no".to_owned(), body: None };
    assert_eq!(finish(&mut writers.sync, 5, Some(&rejection)).unwrap(), Finished::Removed);
    let parked = rejected::all(&writers.sync).unwrap();
    assert_eq!(
        named(parked.into_iter().map(|upload| upload.transaction).collect()),
        [transaction(5, &["o2"])]
    );
    assert_eq!(named(queued(&writers.sync).unwrap()), after[2..]);
}

#[test]
fn a_transaction_after_a_split_has_a_number_of_its_own() {
    let (_dir, database, other_process) = database();
    other_process.execute_batch("INSERT INTO t VALUES ('o1', 1), ('o2', 1)").unwrap();
    assert_eq!(reject(&database), Finished::Split);
    write(&database, &["r1"]);
    other_process.execute("INSERT INTO t VALUES ('o3', 1)", []).unwrap();

    let expected = [
        transaction(2, &["o1"]),
        transaction(3, &["o2"]),
        transaction(4, &["r1"]),
        transaction(5, &["o3"]),
    ];
    assert_eq!(waiting(&database), expected);
}
