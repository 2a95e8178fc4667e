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

/// Removes the head of the queue, and returns its number and the ids of its rows.
fn take_head(database: &Database) -> Option<(i64, Vec<String>)> {
    let writers = &mut *database.writers();
    let head = head(&mut writers.sync).unwrap()?;
    verdict::finish(&mut writers.sync, head.transaction_id, None).unwrap();
    Some((head.transaction_id, head.operations.into_iter().map(|o| o.id).collect()))
}

fn pending(database: &Database) -> (PendingUploads, i64) {
    pending_uploads(&database.writers().sync).unwrap()
}

/// Stores a write checkpoint for a version of the queue, and returns whether it was accepted.
fn is_stored(database: &Database, version: i64, number: i64) -> bool {
    let number = OpId::from_i64(number).unwrap();
    store_write_checkpoint(&database.writers().sync, version, number).unwrap()
}

#[test]
fn a_write_checkpoint_is_not_stored_after_a_later_local_write() {
    let (_dir, database) = database();
    write(&database, "r1");
    take_head(&database).unwrap();
    let (before, version) = pending(&database);
    assert_eq!(before, PendingUploads::Unknown);

    // The second write is still in the queue.
    write(&database, "r2");
    assert!(!is_stored(&database, version, 5));
    // It was sent in the meantime, but after the number was requested.
    take_head(&database).unwrap();
    assert!(!is_stored(&database, version, 5));

    let (still, version) = pending(&database);
    assert_eq!(still, PendingUploads::Unknown);
    assert!(is_stored(&database, version, 5));
    assert_eq!(pending(&database).0, PendingUploads::Until(OpId::from_i64(5).unwrap()));
}

/// Runs a local write and returns the data of its operation, as it is sent.
fn sent_data(database: &Database, sql: &str) -> String {
    database.writers().write(|tx| tx.execute(sql, [])).unwrap();
    let writers = &mut *database.writers();
    let unit = head(&mut writers.sync).unwrap().unwrap();
    verdict::finish(&mut writers.sync, unit.transaction_id, None).unwrap();
    serde_json::to_string(&unit.operations[0].data).unwrap()
}

#[test]
fn numbers_are_sent_exactly_and_infinite_ones_by_name() {
    let (_dir, database) = database();
    let infinite = sent_data(&database, "INSERT INTO t VALUES ('r', 9e999)");
    assert_eq!(infinite, r#"{"a":"Infinity"}"#);
    let infinite = sent_data(&database, "UPDATE t SET a = -9e999");
    assert_eq!(infinite, r#"{"a":"-Infinity"}"#);

    for exact in ["2.0", "122.416294033786585", "9007199254740993", "5e-324"] {
        let value: f64 = exact.parse().unwrap();
        let update = format!("UPDATE t SET a = {exact}");
        let expected = if exact.contains(['.', 'e']) { format!("{value:?}") } else { exact.into() };
        assert_eq!(sent_data(&database, &update), format!(r#"{{"a":{expected}}}"#));
    }
}

#[test]
fn an_insert_leaves_nulls_out_unless_it_replaces_a_row() {
    let dir = TempDir::new().unwrap();
    let schema = Schema::parse("CREATE TABLE t (id TEXT PRIMARY KEY, a, b)").unwrap();
    let path = dir.path().join("app.db");
    let database = Database::open(&path, &schema).unwrap();
    let sent = |sql: &str| -> Vec<String> {
        database.writers().write(|tx| tx.execute_batch(sql)).unwrap();
        let writers = &mut *database.writers();
        let unit = head(&mut writers.sync).unwrap().unwrap();
        verdict::finish(&mut writers.sync, unit.transaction_id, None).unwrap();
        let operations = unit.operations.iter();
        operations.map(|o| format!("{:?} {}", o.op, serde_json::json!(o.data))).collect()
    };

    assert_eq!(sent("INSERT INTO t (id, b) VALUES ('r1', 1)"), [r#"Put {"b":1}"#]);
    assert_eq!(sent("INSERT INTO t (id) VALUES ('r2')"), ["Put {}"]);

    let replaced = [r#"Delete {}"#, r#"Put {"a":2,"b":null}"#];
    assert_eq!(sent("REPLACE INTO t (id, a) VALUES ('r1', 2)"), replaced);
    let upsert = "INSERT INTO t VALUES ('r1', 3, NULL) ON CONFLICT (id) DO UPDATE SET a = 3";
    assert_eq!(sent(upsert), [r#"Patch {"a":3}"#]);

    // What these left behind concerns no later row with the id.
    let ignored = "INSERT OR IGNORE INTO t VALUES ('r1', 4, 4); DELETE FROM t WHERE id = 'r1';
                   INSERT INTO t (id, a) VALUES ('r1', 5)";
    assert_eq!(sent(ignored), ["Delete {}", r#"Put {"a":5}"#]);

    // A connection of another program fires no trigger for the row that REPLACE deletes.
    let other = Connection::open(&path).unwrap();
    other.execute("REPLACE INTO t (id, b) VALUES ('r1', 6)", []).unwrap();
    let unit = head(&mut database.writers().sync).unwrap().unwrap();
    let data = serde_json::to_string(&unit.operations[0].data).unwrap();
    assert_eq!(data, r#"{"a":null,"b":6}"#);
}

#[test]
fn a_transaction_never_grows_once_read_and_its_number_is_never_reused() {
    let (dir, database) = database();
    let other = Connection::open(dir.path().join("app.db")).unwrap();
    other.execute("INSERT INTO t VALUES ('o1', 1)", []).unwrap();
    other.execute("INSERT INTO t VALUES ('o2', 1)", []).unwrap();

    let first = head(&mut database.writers().sync).unwrap().unwrap();
    other.execute("INSERT INTO t VALUES ('o3', 1)", []).unwrap();
    write(&database, "r1");
    let again = head(&mut database.writers().sync).unwrap().unwrap();
    assert_eq!(first, again);

    assert_eq!(take_head(&database), Some((1, vec!["o1".to_owned(), "o2".to_owned()])));
    assert_eq!(take_head(&database), Some((2, vec!["o3".to_owned()])));
    assert_eq!(take_head(&database), Some((3, vec!["r1".to_owned()])));
    assert_eq!(take_head(&database), None);

    database.writers().clear(&["t".to_owned()].into()).unwrap();
    write(&database, "r2");
    assert_eq!(take_head(&database), Some((4, vec!["r2".to_owned()])));
}
