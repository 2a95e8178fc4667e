//! Single cases of a publication: constraints, foreign keys, a changed schema, a full disk.

use super::model::{LATER_SCHEMA, SCHEMA, operation};
use super::*;
use crate::connector::LocalOp;
use crate::db::queue;

/// Publishes these operations as the only bucket.
fn publish(
    device: &Device,
    operations: &[Operation<'static>],
) -> Result<Publication, PublishError> {
    let mut state = device.bucket("x");
    let line = DataLine { bucket: "x".into(), operations: operations.to_vec() };
    add_line(&mut state, &line);
    device.stage(&line, state)?;

    device.publish(&checkpoint_at(state.position, vec![describe("x", state.sum)]))
}

fn put(id: i64, row: &'static str, a: i64) -> Operation<'static> {
    operation(id, ("t", row, ""), Some(&(Some(a), None)))
}

fn numbers(device: &Device) -> Vec<(String, Option<i64>)> {
    let read = |db: &Connection| {
        let mut select = db.prepare("SELECT id, a FROM t ORDER BY id")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    device.database.read(read).unwrap()
}

fn row(id: &str, a: i64) -> (String, Option<i64>) {
    (id.to_owned(), Some(a))
}

#[test]
fn rows_may_swap_unique_values_within_a_checkpoint() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(
        &dir,
        "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE ON CONFLICT REPLACE, b TEXT)",
    );
    publish(&device, &[put(1, "r1", 1), put(2, "r2", 2), put(3, "r3", 3)]).unwrap();
    publish(&device, &[put(4, "r1", 2), put(5, "r2", 3), put(6, "r3", 1)]).unwrap();
    assert_eq!(numbers(&device), [row("r1", 2), row("r2", 3), row("r3", 1)]);
}

#[test]
fn a_refused_row_is_named_and_nothing_changes() {
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE CHECK (a < 9), b TEXT)";
    for (refused, reason) in
        [(9, "CHECK constraint failed: a < 9"), (1, "UNIQUE constraint failed: t.a")]
    {
        let dir = TempDir::new().unwrap();
        let device = Device::open(&dir, schema);
        publish(&device, &[put(1, "r1", 1)]).unwrap();
        let error = publish(&device, &[put(2, "r0", 2), put(3, "r2", refused)]).unwrap_err();
        assert_eq!(error.to_string(), format!("table t refuses row 'r2': {reason}"));
        assert_eq!(numbers(&device), [row("r1", 1)]);
        // What was received is kept, and a later value of the row fits.
        publish(&device, &[put(4, "r2", 5)]).unwrap();
        assert_eq!(numbers(&device), [row("r0", 2), row("r1", 1), row("r2", 5)]);
    }
}

#[test]
fn a_referring_row_survives_the_update_and_the_removal_of_its_target() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, b TEXT);
        CREATE TABLE c (id TEXT PRIMARY KEY, t_id TEXT NOT NULL REFERENCES t ON DELETE CASCADE)";
    let device = Device::open(&dir, schema);
    let child = |id: i64| {
        let body = Body::Put { row: RowKey::new("c", "c1", ""), data: r#"{"t_id":"r1"}"#.into() };
        Operation { op_id: op(id), checksum: body.checksum().unwrap(), body }
    };

    // The child may come first, or without the row it refers to.
    publish(&device, &[child(1), put(2, "r1", 1)]).unwrap();
    publish(&device, &[put(3, "r1", 2)]).unwrap();
    publish(&device, &[operation(4, ("t", "r1", ""), None)]).unwrap();
    let children =
        |db: &Connection| db.query_row("SELECT count(*) FROM c", [], |r| r.get::<_, i64>(0));

    assert_eq!(device.database.read(children).unwrap(), 1);

    // Foreign keys are enforced for the app's own writes.
    let insert = "INSERT INTO c VALUES ('c2', 'nobody')";
    let refused = device.writers().write(|tx| tx.execute(insert, [])).unwrap_err();
    assert_eq!(refused.to_string(), "FOREIGN KEY constraint failed");
    publish(&device, &[put(5, "r1", 1)]).unwrap();
    device.writers().write(|tx| tx.execute("DELETE FROM t", [])).unwrap();

    assert_eq!(device.database.read(children).unwrap(), 0);
    let unit = queue::head(&mut device.writers().sync).unwrap().unwrap();
    let sent: Vec<_> = unit.operations.iter().map(|o| (o.op, o.table.as_str())).collect();
    assert_eq!(sent, [(LocalOp::Delete, "c"), (LocalOp::Delete, "t")]);
}

#[test]
fn a_full_disk_keeps_the_old_state_and_the_next_attempt_succeeds() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);
    publish(&device, &[put(1, "r1", 1)]).unwrap();
    let rows: Vec<_> = (0..400).map(|n| format!("row{n}")).collect();
    let many = |first: i64| -> Vec<_> {
        let rows = rows.iter().map(|id| -> &'static str { id.clone().leak() });
        rows.zip(first..).map(|(id, at)| put(at, id, at)).collect()
    };

    let limit = |pages: i64| {
        let writers = device.writers();
        let sql = format!("PRAGMA max_page_count = {pages}");
        writers.sync.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };

    let all = limit(1_000_000_000);
    let mut refused = 0;
    for pages in 1.. {
        // SQLite never lowers the limit below what the file has.
        let pages = limit(1) + pages;
        limit(pages);
        let line = many(2);
        let before = numbers(&device);
        match publish(&device, &line) {
            Ok(Publication::Published { .. }) => break,
            Ok(Publication::Deferred) => panic!("deferred"),
            Err(error) => {
                assert_eq!(error.to_string(), "database or disk is full");
                refused += 1;
            }
        }
        assert_eq!(numbers(&device), before);
    }

    limit(all);
    assert!(refused > 1);
    assert_eq!(numbers(&device).len(), 401);
}

#[test]
fn a_schema_changed_by_another_process_stops_the_publication() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);
    let other = Device::open(&dir, LATER_SCHEMA);
    let error = publish(&device, &[put(1, "r1", 1)]).unwrap_err();
    assert!(matches!(error, PublishError::SchemaChanged), "{error}");
    publish(&other, &[]).unwrap();
    assert_eq!(numbers(&other), [row("r1", 1)]);
}

#[test]
fn the_space_of_staged_operations_is_released() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);
    let long = "x".repeat(4_000);
    let operations: Vec<_> = (0..5_000_i64)
        .map(|id| operation(id + 1, ("t", "r1", ""), Some(&(Some(id), Some(long.clone())))))
        .collect();
    publish(&device, &operations).unwrap();
    let free = || {
        let sql = "SELECT freelist_count FROM pragma_freelist_count";
        device.database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
    };

    assert!(free() > 4_000);
    device.writers().release_free_pages().unwrap();
    assert_eq!(free(), 0);
    publish(&device, &[put(9_000, "r2", 2)]).unwrap();
    let kept = free();
    device.writers().release_free_pages().unwrap();

    assert_eq!(free(), kept, "a few pages are kept");
}

#[test]
fn an_unlisted_bucket_is_removed_with_its_rows() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);
    publish(&device, &[put(1, "r1", 1)]).unwrap();
    device.publish(&checkpoint_at(op(2), vec![])).unwrap();
    assert!(numbers(&device).is_empty());
    assert!(staging::load(&device.writers().sync).unwrap().is_empty());
}
