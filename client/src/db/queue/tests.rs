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
    finish(&mut writers.sync, head.transaction_id, None).unwrap();
    Some((head.transaction_id, head.operations.into_iter().map(|o| o.id).collect()))
}

#[test]
fn a_write_checkpoint_is_not_stored_if_a_local_write_came_since_it_was_asked_for() {
    let (_dir, database) = database();
    let number = OpId::from_i64(5).unwrap();
    let pending = || pending_uploads(&database.writers().sync).unwrap();
    let store = |version| store_write_checkpoint(&database.writers().sync, version, number);

    write(&database, "r1");
    take_head(&database).unwrap();
    let (before, version) = pending();
    assert_eq!(before, PendingUploads::Unknown);

    // Still in the queue.
    write(&database, "r2");
    assert!(!store(version).unwrap());
    // Sent in the meantime, but after the number was asked for.
    take_head(&database).unwrap();
    assert!(!store(version).unwrap());

    let (still, version) = pending();
    assert_eq!(still, PendingUploads::Unknown);
    assert!(store(version).unwrap());
    assert_eq!(pending().0, PendingUploads::Until(number));
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
        let expected = if exact.contains(['.', 'e']) { format!("{value:?}") } else { exact.into() };
        assert_eq!(sent(&update), format!(r#"{{"a":{expected}}}"#));
    }
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

    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(take_head(&database), Some((1, ids(&["o1", "o2"]))));
    assert_eq!(take_head(&database), Some((2, ids(&["o3"]))));
    assert_eq!(take_head(&database), Some((3, ids(&["r1"]))));
    assert_eq!(take_head(&database), None);

    database.writers().clear(&["t".to_owned()].into()).unwrap();
    write(&database, "r2");
    assert_eq!(take_head(&database), Some((4, ids(&["r2"]))));
}
