use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{Checksum, Epoch, OpId};

use super::*;
use crate::storage_conformance;
use crate::{
    Batch, BucketKey, Control, ControlStore, GenerationId, Lsn, Nonce, ObjectStore, OpLog,
    RecordKey, RecordStore, RecordWrite, Segment, SourceIdentity, Ticket, Version, VersionedRecord,
    WriteCheckpointStore,
};

mod two_clones {
    use super::storage_conformance;
    storage_conformance!(async {
        let store = crate::Embedded::temporary().unwrap();
        [store.clone(), store]
    });
}

mod opened_twice {
    use super::storage_conformance;
    // What two processes would have: connections, caches and notifications of their own.
    storage_conformance!(async {
        let store = crate::Embedded::temporary().unwrap();
        let other = crate::Embedded::open(store.path()).unwrap();
        [store, other]
    });
}

fn row(key: &str) -> RecordKey {
    RecordKey::SourceRow(GenerationId(Epoch::ZERO), 0, key.into())
}

fn batch(key: RecordKey, value: Bytes) -> Arc<Batch> {
    let versions = vec![Version { op: OpId::MAX, value: Some(value) }];
    let record = VersionedRecord { floor: OpId::ZERO, versions };
    Batch {
        records: vec![RecordWrite { key, expected_newest: None, record: record.into() }],
        ..Batch::default()
    }
    .into()
}

fn control() -> Control {
    let source = SourceIdentity {
        system_id: "1".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    };
    Control::first(Epoch::ZERO.next().unwrap(), Nonce("a".into()), source, Lsn(1))
}

/// Changes the file behind the store's back.
fn meddle(dir: &Path, sql: &str) {
    Connection::open(dir.join(schema::FILE_NAME)).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_reopened_store_has_everything_that_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/yet/there");
    let store = Embedded::open(&path).unwrap();
    store.swap_control(None, &control()).await.unwrap();
    store.write(batch(row("a"), "value".into())).await.unwrap();
    store.put_object("o", "content".into()).await.unwrap();
    drop(store);

    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.path(), path);
    assert_eq!(store.control().await.unwrap(), Some(control()));
    assert!(store.records(&[row("a")]).await.unwrap()[0].is_some());
    assert_eq!(store.object_range("o", 0..9).await.unwrap(), Some("content".into()));
}

#[tokio::test]
async fn a_temporary_store_is_removed_with_its_last_clone() {
    let store = Embedded::temporary().unwrap();
    let path = store.path().to_path_buf();
    let clone = store.clone();
    store.take_ticket().await.unwrap();
    store.wait_for_ticket(Ticket(1), Duration::from_millis(1)).await.unwrap();
    drop(store);
    assert_eq!(clone.last_ticket().await.unwrap(), Ticket(1));
    drop(clone);
    assert!(!path.exists());
}

#[test]
fn a_store_of_a_newer_version_is_rejected_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path()).unwrap());
    meddle(dir.path(), "PRAGMA user_version = 99");
    let error = Embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::TooNew { found: 99, known: 3 }), "{error:?}");
    meddle(dir.path(), "PRAGMA user_version = 3");
    Embedded::open(dir.path()).unwrap();
}

#[test]
fn a_file_of_another_program_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    meddle(dir.path(), "CREATE TABLE t (x); PRAGMA user_version = 1");
    let error = Embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged("database", _)), "{error:?}");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(schema::FILE_NAME), "no database at all, only text").unwrap();
    let error = Embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged("database", _)), "{error:?}");
}

#[test]
fn a_directory_that_cannot_be_created_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Embedded::open(&file.join("below")).unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
}

#[test]
fn several_threads_open_a_new_store_at_once() {
    // Without the lock about one round in a hundred fails.
    for _ in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    Embedded::open(dir.path()).unwrap();
                });
            }
        });
    }
}

async fn limit_pages(store: &Embedded, pages: u32) {
    store
        .writing(Durability::Process, move |transaction| {
            transaction.pragma_update(None, "max_page_count", pages).map_err(failure::of_sqlite)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_write_to_a_full_disk_fails_as_full_and_changes_nothing() {
    let store = Embedded::temporary().unwrap();
    store.write(batch(row("a"), "before".into())).await.unwrap();
    limit_pages(&store, 60).await;

    let large = Bytes::from(vec![7; 1_000_000]);
    let error = store.write(batch(row("b"), large.clone())).await.unwrap_err();
    assert!(matches!(error, StorageError::Full(_)), "{error:?}");
    assert_eq!(store.records(&[row("b")]).await.unwrap(), [None]);
    store.swap_control(None, &control()).await.unwrap();

    limit_pages(&store, 1_000_000).await;
    store.write(batch(row("b"), large)).await.unwrap();
    assert!(store.records(&[row("b")]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_store_that_another_process_keeps_locked_is_unavailable() {
    let store = Embedded::temporary().unwrap();
    store
        .writing(Durability::Process, |transaction| {
            transaction.busy_timeout(Duration::from_millis(20)).map_err(failure::of_sqlite)
        })
        .await
        .unwrap();

    let other = Connection::open(store.path().join(schema::FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.take_ticket().await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    // Reads do not need the write lock.
    assert_eq!(store.last_ticket().await.unwrap(), Ticket(0));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.take_ticket().await.unwrap(), Ticket(1));
}

#[tokio::test]
async fn a_damaged_record_is_an_error_that_names_its_kind() {
    let store = Embedded::temporary().unwrap();
    store.swap_control(None, &control()).await.unwrap();
    store.write(batch(row("a"), "value".into())).await.unwrap();
    meddle(store.path(), "UPDATE control SET record = '{}'; UPDATE source_row SET cell = x'00'");
    let error = store.control().await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged("control record", _)), "{error:?}");
    let error = store.records(&[row("a")]).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged("versioned record", _)), "{error:?}");
    meddle(store.path(), "DROP TABLE source_row");
    let error = store.records(&[row("a")]).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged("database", _)), "{error:?}");
}

fn segment(payload: Vec<u8>) -> Segment {
    Segment {
        bucket: BucketKey::from_stored("k7m2qa[]"),
        last: OpId::MAX,
        prev: OpId::ZERO,
        sum_before: Checksum::ZERO,
        sum: Checksum(1),
        count: 1,
        payload: payload.into(),
    }
}

async fn segments(store: &Embedded) -> Result<Vec<Segment>, StorageError> {
    let bucket = BucketKey::from_stored("k7m2qa[]");
    Ok(store.segments(&bucket, OpId::ZERO, OpId::MAX, usize::MAX).await?.segments)
}

#[tokio::test]
async fn payloads_are_compressed_and_those_of_an_earlier_version_are_read_as_they_are() {
    let store = Embedded::temporary().unwrap();
    let similar = segment(vec![0xA5; 100_000]);
    let batch = Batch { segments: vec![similar.clone()], ..Batch::default() };
    store.write(batch.into()).await.unwrap();
    assert_eq!(segments(&store).await.unwrap(), [similar]);

    let connection = Connection::open(store.path().join(schema::FILE_NAME)).unwrap();
    let stored: i64 =
        connection.query_row("SELECT length(payload) FROM segment", (), |row| row.get(0)).unwrap();
    assert!(stored < 1_000, "{stored} bytes");

    meddle(
        store.path(),
        "UPDATE segment SET payload = unhex(replace(hex(zeroblob(5000)), '00', 'a5'))",
    );
    assert_eq!(segments(&store).await.unwrap(), [segment(vec![0xA5; 5_000])]);
}

#[tokio::test]
async fn a_damaged_payload_is_an_error_that_names_it() {
    let store = Embedded::temporary().unwrap();
    let batch = Batch { segments: vec![segment(vec![0xA5; 100_000])], ..Batch::default() };
    store.write(batch.into()).await.unwrap();
    meddle(store.path(), "UPDATE segment SET payload = substr(payload, 1, length(payload) - 1)");
    let error = segments(&store).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged("payload of a segment", _)), "{error:?}");
}

#[tokio::test]
async fn an_object_name_that_is_no_plain_path_is_rejected() {
    let store = Embedded::temporary().unwrap();
    // If this name were accepted, the file would still be inside the temporary directory.
    let absolute = store.path().join("x");
    for name in [
        "",
        "/",
        absolute.to_str().unwrap(),
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "a//b",
        "a/",
        ".",
        "a/./b",
        "a\0b",
    ] {
        assert!(store.put_object(name, "x".into()).await.is_err(), "{name:?}");
        assert!(store.object_range(name, 0..1).await.is_err(), "{name:?}");
        assert!(store.delete_object(name).await.is_err(), "{name:?}");
    }

    for name in ["...", "a..b", "..a/b.", "a b", "\u{e9}"] {
        store.put_object(name, "x".into()).await.unwrap();
    }
    assert!(!store.path().join("x").exists());
}

#[tokio::test]
async fn an_unfinished_object_of_a_killed_process_is_removed() {
    let store = Embedded::temporary().unwrap();
    let unfinished = store.path().join("unfinished");
    fs::write(unfinished.join("left"), "half").unwrap();
    let at_work = File::create(unfinished.join("at work")).unwrap();
    at_work.lock().unwrap();
    Embedded::open(store.path()).unwrap();
    assert!(!unfinished.join("left").exists());
    assert!(unfinished.join("at work").exists(), "its writer is alive");
}

#[tokio::test]
async fn disk_usage_counts_records_and_objects() {
    let store = Embedded::temporary().unwrap();
    let before = store.disk_usage().await.unwrap();
    assert_eq!(before.object_bytes, 0);
    store.put_object("a/b", vec![1; 1_000].into()).await.unwrap();
    store.put_object("c", vec![1; 500].into()).await.unwrap();
    store.write(batch(row("a"), vec![1; 100_000].into())).await.unwrap();

    let after = store.disk_usage().await.unwrap();
    assert_eq!(after.object_bytes, 1_500);
    let [records_before, records_after] =
        [before, after].map(|usage| usage.database_bytes + usage.log_bytes);
    assert!(records_after >= records_before + 100_000, "{before:?} {after:?}");
}

#[tokio::test]
async fn the_wal_stays_below_its_limit() {
    let store = Embedded::temporary().unwrap();
    let value = Bytes::from(vec![7; 500_000]);
    // 100 MB in all.
    for n in 0..200 {
        store.write(batch(row(&n.to_string()), value.clone())).await.unwrap();
    }
    let usage = store.disk_usage().await.unwrap();
    assert!(usage.log_bytes < 80 << 20, "{usage:?}");
}

/// Values of the pragma `synchronous`.
const NORMAL: i64 = 1;
const FULL: i64 = 2;

#[tokio::test]
async fn a_durable_write_is_synced_with_its_commit() {
    let store = Embedded::temporary().unwrap();
    for durability in [Durability::Process, Durability::Machine, Durability::Process] {
        let level = store
            .writing(durability, |transaction| {
                transaction
                    .pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))
                    .map_err(failure::of_sqlite)
            })
            .await
            .unwrap();
        assert_eq!(level, if durability == Durability::Machine { FULL } else { NORMAL });
    }
}

#[test]
fn the_tables_keep_their_names_and_columns() {
    let store = Embedded::temporary().unwrap();
    let connection = Connection::open(store.path().join(schema::FILE_NAME)).unwrap();
    let columns = "SELECT m.name || ': ' || group_concat(c.name || ' ' || c.type, ', ')
        FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name) m,
            pragma_table_info(m.name) c
        GROUP BY m.name ORDER BY m.name";
    expect_test::expect![[r#"
        bell: id INTEGER, ticket INTEGER
        bucket: bucket TEXT, cell BLOB, catalog BLOB, catalog_revision INTEGER
        closed_epoch: epoch INTEGER, last INTEGER
        control: id INTEGER, revision INTEGER, record TEXT
        copy: generation INTEGER, cell BLOB
        due: bucket TEXT, at INTEGER, not_before INTEGER
        generation: id INTEGER, record TEXT
        lookup: lookup TEXT, source TEXT, cell BLOB
        registry: bucket TEXT
        segment: bucket TEXT, last INTEGER, prev INTEGER, sum_before INTEGER, sum INTEGER, count INTEGER, payload BLOB
        source_row: generation INTEGER, source_table INTEGER, row_key TEXT, cell BLOB
        write_request: user_id TEXT, client_id TEXT, revision INTEGER, record TEXT"#]].assert_eq(&texts(&connection, columns));

    let identity = "SELECT application_id || ' ' || user_version
        FROM pragma_application_id, pragma_user_version";
    expect_test::expect!["1952741236 3"].assert_eq(&texts(&connection, identity));
}

/// Returns the texts that a query yields, one a line.
fn texts(connection: &Connection, sql: &str) -> String {
    let mut select = connection.prepare(sql).unwrap();
    let rows = select.query_map((), |row| row.get::<_, String>(0)).unwrap();
    rows.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
}
