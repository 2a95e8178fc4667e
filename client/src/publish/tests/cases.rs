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
    let rows = device.database.read(|db| {
        let mut select = db.prepare("SELECT id, a FROM t ORDER BY id")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    });
    rows.unwrap()
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

        // The received operations are kept, and a later value of the row fits.
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
    let body = Body::Put { row: RowKey::new("c", "c1", ""), data: r#"{"t_id":"r1"}"#.into() };
    let child = Operation { op_id: op(1), checksum: body.checksum().unwrap(), body };

    // The child may come first, or without the row it refers to.
    publish(&device, &[child, put(2, "r1", 1)]).unwrap();
    publish(&device, &[put(3, "r1", 2)]).unwrap();
    publish(&device, &[operation(4, ("t", "r1", ""), None)]).unwrap();
    assert_eq!(device.query::<i64>("SELECT count(*) FROM c"), 1);

    // Foreign keys are enforced for the app's own writes.
    let insert = "INSERT INTO c VALUES ('c2', 'nobody')";
    let refused = device.writers().write(|tx| tx.execute(insert, [])).unwrap_err();
    assert_eq!(refused.to_string(), "FOREIGN KEY constraint failed");

    publish(&device, &[put(5, "r1", 1)]).unwrap();
    device.writers().write(|tx| tx.execute("DELETE FROM t", [])).unwrap();
    assert_eq!(device.query::<i64>("SELECT count(*) FROM c"), 0);

    let unit = queue::head(&mut device.writers().sync).unwrap().unwrap();
    let sent: Vec<_> = unit.operations.iter().map(|o| (o.op, o.table.as_str())).collect();
    assert_eq!(sent, [(LocalOp::Delete, "c"), (LocalOp::Delete, "t")]);
}

/// Limits the size of the database file, and returns the limit that SQLite has set.
fn set_page_limit(device: &Device, pages: i64) -> i64 {
    let writers = device.writers();
    let sql = format!("PRAGMA max_page_count = {pages}");
    writers.sync.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_full_disk_keeps_the_old_state_and_the_next_attempt_succeeds() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);
    publish(&device, &[put(1, "r1", 1)]).unwrap();
    let ids = (0..400).map(|n| -> &'static str { format!("row{n}").leak() });
    let line: Vec<_> = ids.zip(2..).map(|(id, at)| put(at, id, at)).collect();

    let all = set_page_limit(&device, 1_000_000_000);
    let mut refused = 0;
    for pages in 1.. {
        // SQLite never lowers the limit below the size of the file.
        let pages = set_page_limit(&device, 1) + pages;
        set_page_limit(&device, pages);

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

    set_page_limit(&device, all);
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

fn free_pages(device: &Device) -> i64 {
    device.query("SELECT freelist_count FROM pragma_freelist_count")
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
    assert!(free_pages(&device) > 4_000);
    device.writers().release_free_pages().unwrap();
    assert_eq!(free_pages(&device), 0);

    publish(&device, &[put(9_000, "r2", 2)]).unwrap();
    let kept = free_pages(&device);
    device.writers().release_free_pages().unwrap();
    assert_eq!(free_pages(&device), kept, "a few pages are kept");
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
