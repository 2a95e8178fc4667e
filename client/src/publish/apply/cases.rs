//! Single cases of the apply: constraints, foreign keys, a changed schema, a full disk.

use tempfile::TempDir;
use tidewater_protocol::{Body, BucketDescription, DataLine, Operation, Priority, RowKey};

use super::tests::{LATER_SCHEMA, SCHEMA, op, operation, receive};
use super::*;
use crate::connector::LocalOp;
use crate::db::database::Database;
use crate::db::queue;
use crate::schema::Schema;

/// Publishes these operations as one bucket; the error if there is one.
fn publish(database: &Database, operations: &[Operation<'static>]) -> Result<Applied, ApplyError> {
    let mut writers = database.writers();
    let writers = &mut *writers;
    let mut state = staging::load(&writers.sync).unwrap().remove("x").unwrap_or_default();
    let line = DataLine { bucket: "x".into(), operations: operations.to_vec() };
    receive(&mut state, &line);
    let tx = writers.sync.transaction()?;
    staging::stage(&tx, &mut writers.staging, &line, state)?;
    tx.commit()?;
    let bucket = BucketDescription {
        bucket: "x".into(),
        checksum: state.sum,
        count: 0,
        priority: Priority::default(),
        subscriptions: vec![],
    };
    let checkpoint = Checkpoint {
        last_op_id: state.position,
        write_checkpoint: None,
        buckets: vec![bucket],
        streams: vec![],
    };
    writers.apply(&checkpoint)
}

fn put(id: i64, row: &'static str, a: i64) -> Operation<'static> {
    operation(id, ("t", row, ""), Some(&(Some(a), None)))
}

fn open(dir: &TempDir, schema: &str) -> Database {
    Database::open(&dir.path().join("app.db"), &Schema::parse(schema).unwrap()).unwrap()
}

fn numbers(database: &Database) -> Vec<(String, Option<i64>)> {
    let read = |db: &Connection| {
        let mut select = db.prepare("SELECT id, a FROM t ORDER BY id")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    database.read(read).unwrap()
}

fn row(id: &str, a: i64) -> (String, Option<i64>) {
    (id.to_owned(), Some(a))
}

#[test]
fn rows_may_exchange_unique_values_within_a_checkpoint() {
    let dir = TempDir::new().unwrap();
    let database = open(
        &dir,
        "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE ON CONFLICT REPLACE, b TEXT)",
    );
    publish(&database, &[put(1, "r1", 1), put(2, "r2", 2), put(3, "r3", 3)]).unwrap();
    publish(&database, &[put(4, "r1", 2), put(5, "r2", 3), put(6, "r3", 1)]).unwrap();
    assert_eq!(numbers(&database), [row("r1", 2), row("r2", 3), row("r3", 1)]);
}

#[test]
fn a_row_that_the_table_refuses_is_named_and_nothing_changes() {
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE CHECK (a < 9), b TEXT)";
    for (refused, reason) in
        [(9, "CHECK constraint failed: a < 9"), (1, "UNIQUE constraint failed: t.a")]
    {
        let dir = TempDir::new().unwrap();
        let database = open(&dir, schema);
        publish(&database, &[put(1, "r1", 1)]).unwrap();
        let error = publish(&database, &[put(2, "r0", 2), put(3, "r2", refused)]).unwrap_err();
        assert_eq!(error.to_string(), format!("table t refuses row 'r2': {reason}"));
        assert_eq!(numbers(&database), [row("r1", 1)]);
        // What was received is kept, and a later value of the row mends it.
        publish(&database, &[put(4, "r2", 5)]).unwrap();
        assert_eq!(numbers(&database), [row("r0", 2), row("r1", 1), row("r2", 5)]);
    }
}

#[test]
fn what_refers_to_a_row_survives_its_update_and_its_loss() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, b TEXT);
        CREATE TABLE c (id TEXT PRIMARY KEY, t_id TEXT NOT NULL REFERENCES t ON DELETE CASCADE)";
    let database = open(&dir, schema);
    let child = |id: i64| {
        let body = Body::Put { row: RowKey::new("c", "c1", ""), data: r#"{"t_id":"r1"}"#.into() };
        Operation { op_id: op(id), checksum: body.checksum().unwrap(), body }
    };
    // The child may come first, or without what it refers to.
    publish(&database, &[child(1), put(2, "r1", 1)]).unwrap();
    publish(&database, &[put(3, "r1", 2)]).unwrap();
    publish(&database, &[operation(4, ("t", "r1", ""), None)]).unwrap();
    let children =
        |db: &Connection| db.query_row("SELECT count(*) FROM c", [], |r| r.get::<_, i64>(0));
    assert_eq!(database.read(children).unwrap(), 1);
    // The app's own writes keep to the rules.
    let insert = "INSERT INTO c VALUES ('c2', 'nobody')";
    let refused = database.writers().write(|tx| tx.execute(insert, [])).unwrap_err();
    assert_eq!(refused.to_string(), "FOREIGN KEY constraint failed");
    publish(&database, &[put(5, "r1", 1)]).unwrap();
    database.writers().write(|tx| tx.execute("DELETE FROM t", [])).unwrap();
    assert_eq!(database.read(children).unwrap(), 0);
    let unit = queue::head(&mut database.writers().sync).unwrap().unwrap();
    let sent: Vec<_> = unit.operations.iter().map(|o| (o.op, o.table.as_str())).collect();
    assert_eq!(sent, [(LocalOp::Delete, "c"), (LocalOp::Delete, "t")]);
}

#[test]
fn a_full_disk_leaves_the_old_state_and_passes() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, SCHEMA);
    publish(&database, &[put(1, "r1", 1)]).unwrap();
    let rows: Vec<_> = (0..400).map(|n| format!("row{n}")).collect();
    let many = |first: i64| -> Vec<_> {
        let rows = rows.iter().map(|id| -> &'static str { id.clone().leak() });
        rows.zip(first..).map(|(id, at)| put(at, id, at)).collect()
    };
    let limit = |pages: i64| {
        let writers = database.writers();
        let sql = format!("PRAGMA max_page_count = {pages}");
        writers.sync.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let all = limit(1_000_000_000);
    let mut refused = 0;
    for pages in 1.. {
        // SQLite never lowers the limit below what the file has.
        let pages = limit(1) + pages;
        limit(pages);
        let (line, before) = (many(2), numbers(&database));
        match publish(&database, &line) {
            Ok(Applied::Published { .. }) => break,
            Ok(Applied::Held) => panic!("held"),
            Err(error) => {
                assert_eq!(error.to_string(), "database or disk is full");
                refused += 1;
            }
        }
        assert_eq!(numbers(&database), before);
    }
    limit(all);
    assert!(refused > 1);
    assert_eq!(numbers(&database).len(), 401);
}

#[test]
fn a_schema_changed_by_another_process_stops_the_apply() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, SCHEMA);
    let other = open(&dir, LATER_SCHEMA);
    let error = publish(&database, &[put(1, "r1", 1)]).unwrap_err();
    assert!(matches!(error, ApplyError::SchemaChanged), "{error}");
    publish(&other, &[]).unwrap();
    assert_eq!(numbers(&other), [row("r1", 1)]);
}

#[test]
fn the_space_of_staged_operations_is_given_back() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, SCHEMA);
    let long = "x".repeat(4_000);
    let operations: Vec<_> = (0..5_000_i64)
        .map(|id| operation(id + 1, ("t", "r1", ""), Some(&(Some(id), Some(long.clone())))))
        .collect();
    publish(&database, &operations).unwrap();
    let free = || {
        let sql = "SELECT freelist_count FROM pragma_freelist_count";
        database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    assert!(free() > 4_000);
    database.writers().shrink().unwrap();
    assert_eq!(free(), 0);
    publish(&database, &[put(9_000, "r2", 2)]).unwrap();
    let kept = free();
    database.writers().shrink().unwrap();
    assert_eq!(free(), kept, "a few pages are not worth the work");
}

#[test]
fn a_bucket_that_the_checkpoint_does_not_name_is_gone_with_its_rows() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, SCHEMA);
    publish(&database, &[put(1, "r1", 1)]).unwrap();
    let writers = &mut *database.writers();
    let empty =
        Checkpoint { last_op_id: op(2), write_checkpoint: None, buckets: vec![], streams: vec![] };
    writers.apply(&empty).unwrap();
    assert!(numbers(&database).is_empty());
    assert!(staging::load(&writers.sync).unwrap().is_empty());
}
