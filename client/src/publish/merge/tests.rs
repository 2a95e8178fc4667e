//! Snapshots against data lines: whichever way rows come, the state is the same.

use std::fmt::Write as _;
use std::fs;
use std::sync::MutexGuard;

use proptest::prelude::*;
use tempfile::TempDir;
use tidewater_protocol::{
    Body, BucketDescription, Checkpoint, Checksum, DataLine, OpId, Operation, Priority, RowKey,
    SnapshotFile,
};
use tidewater_snapshot::{SnapshotHeader, SnapshotOptions, SnapshotWriter, unpack_frame};

use super::*;
use crate::core::LocalBucket;
use crate::db::database::{Database, Writers};
use crate::publish::apply::Applied;
use crate::schema::Schema;

/// Type, id and subkey; op id; JSON text.
#[derive(Clone, Debug)]
pub(crate) struct TestRow {
    pub(crate) key: [String; 3],
    pub(crate) op_id: OpId,
    pub(crate) data: String,
}

impl TestRow {
    fn put(&self) -> Operation<'_> {
        let row = RowKey::new(&self.key[0], &self.key[1], &self.key[2]);
        let body = Body::Put { row, data: self.data.as_str().into() };
        Operation { op_id: self.op_id, checksum: body.checksum().unwrap(), body }
    }
}

/// Writes the files of a snapshot to where a fetch puts them.
fn write(files: &SnapshotFiles, bucket: &str, rows: &[TestRow], at: LocalBucket) -> SnapshotLine {
    let dir = TempDir::new().unwrap();
    let (to, checksum) = (at.position, at.sum);
    let header = SnapshotHeader { bucket: bucket.to_owned(), to, checksum };
    let options = SnapshotOptions { frame_raw_bytes: 10_000, ..SnapshotOptions::default() };
    let mut writer = SnapshotWriter::create(dir.path(), &header, &options).unwrap();
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|row| &row.key);
    for row in sorted {
        let [object_type, object_id, subkey] = row.key.each_ref().map(String::as_str);
        let (op_id, data) = (row.op_id, row.data.as_str());
        let checksum = row.put().checksum;
        writer
            .push(&SnapshotRow { object_type, object_id, subkey, op_id, checksum, data })
            .unwrap();
    }
    let written = writer.finish().unwrap();
    let file = |file: &tidewater_snapshot::WrittenFile| SnapshotFile {
        url: String::new(),
        raw_bytes: file.raw_bytes,
        frames: file.frames.clone(),
    };
    let line = SnapshotLine {
        bucket: bucket.to_owned(),
        id: format!("{}", to.get()),
        to,
        checksum,
        rows: rows.len() as u64,
        count: rows.len() as u64,
        files: written.iter().map(file).collect(),
    };
    for (number, file) in written.iter().enumerate() {
        let path = files.path(&line, number);
        files.prepare(&path, &line.files[number]).unwrap();
        let (packed, mut at, mut offset) = (fs::read(&file.path).unwrap(), 0, 0);
        for frame in &file.frames {
            let end = at + usize::try_from(frame.bytes).unwrap();
            let raw = unpack_frame(&packed[at..end], frame).unwrap();
            snapshot_files::write_frame(&path, offset, &raw).unwrap();
            (at, offset) = (end, offset + frame.raw_bytes);
        }
    }
    line
}

/// What a fetched snapshot leaves behind.
pub(crate) fn stage_snapshot(
    writers: &mut Writers,
    bucket: &str,
    rows: &[TestRow],
    at: LocalBucket,
    is_proven: bool,
) -> SnapshotLine {
    let line = write(&writers.merging.files, bucket, rows, at);
    let text = serde_json::to_string(&line).unwrap();
    let tx = writers.sync.transaction().unwrap();
    staging::stage_snapshot(&tx, bucket, &text, at).unwrap();
    tx.commit().unwrap();
    if is_proven {
        writers.merging.note_proven(text);
    }
    line
}

fn op(id: i64) -> OpId {
    OpId::from_i64(id).unwrap()
}

fn row(object_type: &str, id: &str, op_id: i64, data: &str) -> TestRow {
    let key = [object_type, id, ""].map(str::to_owned);
    TestRow { key, op_id: op(op_id), data: data.to_owned() }
}

fn open(dir: &TempDir, schema: &str) -> Database {
    Database::open(&dir.path().join("app.db"), &Schema::parse(schema).unwrap()).unwrap()
}

const AT: LocalBucket = LocalBucket {
    position: OpId::ZERO,
    sum: Checksum::ZERO,
    count_at_checkpoint: 0,
    count_since: 0,
};

fn checkpoint(buckets: &[&str]) -> Checkpoint {
    let described = |bucket: &&str| BucketDescription {
        bucket: (*bucket).to_owned(),
        checksum: Checksum::ZERO,
        count: 0,
        priority: Priority::default(),
        subscriptions: vec![],
    };
    Checkpoint {
        last_op_id: op(1 << 50),
        write_checkpoint: None,
        buckets: buckets.iter().map(described).collect(),
        streams: vec![],
    }
}

fn stage_lines(writers: &mut Writers, bucket: &str, rows: &[TestRow]) {
    let operations = rows.iter().map(TestRow::put).collect();
    let line = DataLine { bucket: bucket.to_owned(), operations };
    let tx = writers.sync.transaction().unwrap();
    staging::stage(&tx, &mut writers.staging, &line, AT).unwrap();
    tx.commit().unwrap();
}

/// All that was published: every value with its type, and every copy. What is kept of a copy that
/// is not visible may be its text or an equal row's: that shows when it becomes visible.
fn dump(database: &Database, tables: &[&str]) -> String {
    let mut out = String::new();
    let copies = "SELECT types.name, rows.id, buckets.name, subkey, op_id, \
         CASE types.name WHEN 'x' THEN payload END \
         FROM _tw_rows AS rows JOIN _tw_types AS types ON types.id = rows.type \
         JOIN _tw_buckets AS buckets ON buckets.id = rows.bucket ORDER BY 1, 2, 3, 4";
    let all = tables.iter().map(|name| format!("SELECT * FROM {name} ORDER BY id"));
    let mut writers = database.writers();
    // Rolled back: packs are opened only to be looked at.
    let tx = writers.sync.transaction().unwrap();
    tx.execute("UPDATE _tw_buckets SET is_cleared = 1", []).unwrap();
    packs::open_cleared(&tx).unwrap();
    for sql in all.chain([copies.to_owned()]) {
        let mut select = tx.prepare(&sql).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for at in 0..columns {
                write!(out, "{:?} ", row.get_ref(at).unwrap()).unwrap();
            }
            out.push('\n');
        }
    }
    out
}

const TABLES: &str =
    "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, b TEXT DEFAULT 'none', c REAL, d);
    CREATE INDEX t_a ON t (a);
    CREATE TABLE w (id TEXT PRIMARY KEY, a NOT NULL DEFAULT 7) WITHOUT ROWID;";

fn data() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-9..9_i32).prop_map(|n| format!("{:?}", f64::from(n) / 4.0)),
        proptest::sample::select(
            &["null", "true", "[1, 2]", "\"5\"", "\"a\"", "9e999", "1e2", "0.1", "\"\\u0000\""][..]
        )
        .prop_map(str::to_owned),
    ];
    let names = proptest::sample::select(&["a", "b", "c", "d", "more"][..]);
    proptest::collection::btree_map(names, value, 0..5).prop_map(|members| {
        let members: Vec<_> =
            members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Rows of two buckets, told apart by type, id and subkey within each, without `NOT NULL` trouble.
fn some_rows() -> impl Strategy<Value = [Vec<TestRow>; 2]> {
    let key = (
        proptest::sample::select(&["t", "w", "x"][..]),
        proptest::sample::select(&["1", "2", "3", "4", "é"][..]),
        prop_oneof![6 => Just(""), 1 => Just("k")],
    );
    let rows = || proptest::collection::btree_map(key.clone(), data(), 0..8);
    (rows(), rows()).prop_map(|(first, second)| {
        let mut op_id = 0;
        [first, second].map(|rows| {
            let row = |(key, data): ((&str, &str, &str), String)| {
                op_id += 1;
                let key = [key.0, key.1, key.2].map(str::to_owned);
                let data = data.replace("\"a\":null", "\"a\":0");
                TestRow { key, op_id: op(op_id), data }
            };
            rows.into_iter().map(row).collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_state_is_that_of_data_lines(
        rows in some_rows(), later in some_rows(), local: bool, bulk_rows in 0..5_u64,
    ) {
        let dumps = [false, true].map(|by_snapshot| {
            let dir = TempDir::new().unwrap();
            let database = open(&dir, TABLES);
            if local {
                let insert = "INSERT INTO t (id, a) VALUES ('1', 1), ('9', 9)";
                database.writers().write(|tx| tx.execute(insert, [])).unwrap();
                let sync = &mut database.writers().sync;
                sync.execute_batch("DELETE FROM _tw_queue; UPDATE _tw_state SET gate = 0").unwrap();
            }
            let mut writers = database.writers();
            writers.merging.bulk_rows = bulk_rows;
            for (bucket, rows) in ["x", "y"].iter().zip(&rows) {
                if by_snapshot {
                    stage_snapshot(&mut writers, bucket, rows, AT, false);
                } else {
                    stage_lines(&mut writers, bucket, rows);
                }
            }
            let later = later[0].iter().map(|row| {
                TestRow { op_id: op(row.op_id.get() + 100), ..row.clone() }
            });
            stage_lines(&mut writers, "y", &later.collect::<Vec<_>>());
            let show = |mut writers: MutexGuard<'_, Writers>, buckets: &[&str]| {
                writers.apply(&checkpoint(buckets)).unwrap();
                drop(writers);
                dump(&database, &["t", "w"])
            };
            let all = show(writers, &["x", "y"]);
            // With the other bucket gone its own copies come to light.
            [all, show(database.writers(), &["x"])]
        });
        prop_assert_eq!(&dumps[0], &dumps[1]);
    }
}

fn many(bucket: &str, count: i64) -> Vec<TestRow> {
    let row = |n: i64| {
        let id = format!("{bucket}{n:06}");
        let data = format!(r#"{{"id":"{id}","a":{},"b":"text {n}"}}"#, n % 10);
        row("t", &id, n + 1, &data)
    };
    (0..count).map(row).collect()
}

#[test]
fn a_large_table_has_its_indexes_and_triggers_afterwards() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    let schema = |database: &Database| {
        let sql = "SELECT group_concat(name || coalesce(sql, ''), char(10)) FROM \
                   (SELECT * FROM sqlite_schema ORDER BY name)";
        database.read(|db| db.query_row(sql, [], |row| row.get::<_, String>(0))).unwrap()
    };
    let before = schema(&database);
    stage_snapshot(&mut database.writers(), "x", &many("x", 6_000), AT, true);
    let applied = database.writers().apply(&checkpoint(&["x"])).unwrap();
    let expected = Applied::Published {
        tables: ["t".to_owned()].into(),
        rows: 6_000,
        snapshots: ["x".to_owned()].into(),
    };
    assert_eq!(applied, expected);
    assert_eq!(schema(&database), before);
    database.writers().write(|tx| tx.execute("UPDATE t SET a = 1 WHERE a = 3", [])).unwrap();
    let count =
        |sql: &str| database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap();
    assert_eq!(count("SELECT count(*) FROM t INDEXED BY t_a WHERE a = 1"), 1_200);
    assert_eq!(count("SELECT count(*) FROM _tw_queue"), 600);
    assert_eq!(count("SELECT count(*) FROM _tw_rows"), 0);
    assert_eq!(dump(&database, &[]).lines().count(), 6_000);
    assert_eq!(count("SELECT count(*) FROM _tw_snapshots"), 0);
    let check = "PRAGMA integrity_check";
    let check = database.read(|db| db.query_row(check, [], |row| row.get::<_, String>(0))).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn the_apps_own_triggers_see_the_rows_and_ours_capture_none() {
    for count in [20, 6_000] {
        let dir = TempDir::new().unwrap();
        let database = open(&dir, TABLES);
        let log = "CREATE TABLE log (id);
            CREATE TRIGGER mine AFTER INSERT ON t BEGIN INSERT INTO log VALUES (NEW.id); END";
        database.writers().write(|tx| tx.execute_batch(log)).unwrap();
        stage_snapshot(&mut database.writers(), "x", &many("x", count), AT, true);
        database.writers().apply(&checkpoint(&["x"])).unwrap();
        let read = |sql: &str| {
            database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        assert_eq!(read("SELECT count(*) FROM log"), count);
        assert_eq!(read("SELECT count(*) FROM _tw_queue"), 0);
        assert_eq!(read("SELECT applying FROM _tw_state"), 0);
    }
}

#[test]
fn triggers_fire_again_after_a_snapshot_that_was_refused_or_taken_in() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER CHECK (a < 9), b TEXT)";
    let database = open(&dir, schema);
    stage_snapshot(&mut database.writers(), "x", &many("x", 6_000), AT, true);
    database.writers().apply(&checkpoint(&["x"])).unwrap_err();
    let fires = || {
        let writers = database.writers();
        let sync = &writers.sync;
        // Not within an apply, a write of ours is captured as any other.
        sync.execute_batch("BEGIN; INSERT INTO t (id) VALUES ('mine')").unwrap();
        let queued = "SELECT count(*) FROM _tw_queue";
        let queued = sync.query_row(queued, [], |row| row.get::<_, i64>(0)).unwrap();
        sync.execute_batch("ROLLBACK").unwrap();
        queued == 1
    };
    assert!(fires());
    let good: Vec<_> =
        many("x", 6_000).into_iter().filter(|row| !row.data.contains(":9,")).collect();
    stage_snapshot(&mut database.writers(), "x", &good, AT, true);
    database.writers().apply(&checkpoint(&["x"])).unwrap();
    assert!(fires());
}

#[test]
fn more_snapshots_than_can_be_attached_come_as_well() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    let names: Vec<_> = (0..ATTACHED_MAX + 3).map(|n| format!("b{n:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for name in &names {
        stage_snapshot(&mut database.writers(), name, &many(name, 20), AT, false);
    }
    for _ in 0..2 {
        database.writers().apply(&checkpoint(&names)).unwrap();
        let count = "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM _tw_rows)";
        let count = database.read(|db| db.query_row(count, [], |row| row.get::<_, i64>(0)));
        assert_eq!(count.unwrap(), 2 * 20 * i64::try_from(names.len()).unwrap());
    }
}

#[test]
fn a_table_that_refuses_a_row_names_it_and_nothing_changes() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER CHECK (a < 9), b TEXT)";
    let database = open(&dir, schema);
    stage_snapshot(&mut database.writers(), "x", &many("x", 20), AT, true);
    let error = database.writers().apply(&checkpoint(&["x"])).unwrap_err();
    let message = "table t refuses row 'x000009': CHECK constraint failed: a < 9";
    assert_eq!(error.to_string(), message);
    assert_eq!(dump(&database, &["t"]), "");
}

#[test]
fn rows_may_take_over_unique_values_from_rows_that_go() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE ON CONFLICT REPLACE)";
    let database = open(&dir, schema);
    stage_lines(&mut database.writers(), "x", &[row("t", "old", 1, r#"{"a":1}"#)]);
    database.writers().apply(&checkpoint(&["x"])).unwrap();
    let rows = [row("t", "new", 2, r#"{"a":1}"#), row("t", "other", 3, r#"{"a":2}"#)];
    stage_snapshot(&mut database.writers(), "y", &rows, AT, true);
    let remove = Body::Remove { row: RowKey::new("t", "old", "") };
    let operations = vec![Operation { op_id: op(4), checksum: Checksum::ZERO, body: remove }];
    let line = DataLine { bucket: "x".into(), operations };
    let mut writers = database.writers();
    let writers = &mut *writers;
    staging::stage(&writers.sync, &mut writers.staging, &line, AT).unwrap();
    writers.apply(&checkpoint(&["x", "y"])).unwrap();
    let ids = "SELECT group_concat(id || a, ' ') FROM (SELECT * FROM t ORDER BY id)";
    let ids: String = writers.sync.query_row(ids, [], |row| row.get(0)).unwrap();
    assert_eq!(ids, "new1 other2");
}

#[test]
fn a_file_that_was_spoilt_after_the_fetch_is_found_and_named() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    let line = stage_snapshot(&mut database.writers(), "x", &many("x", 200), AT, false);
    let path = database.writers().merging.files.path(&line, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let refused = || {
        let error = database.writers().apply(&checkpoint(&["x"])).unwrap_err();
        assert!(matches!(&error, ApplyError::Snapshot { bucket, .. } if bucket == "x"), "{error}");
    };
    refused();
    fs::remove_file(&path).unwrap();
    refused();
    // Nothing stays attached, and the bucket can be had in another way.
    let mut writers = database.writers();
    staging::reset_named(&writers.sync, "x").unwrap();
    stage_lines(&mut writers, "x", &many("x", 3));
    writers.apply(&checkpoint(&["x"])).unwrap();
    drop(writers);
    assert_eq!(dump(&database, &["t"]).lines().count(), 6);
}

#[test]
fn a_snapshot_that_waits_survives_a_new_column_and_a_new_table() {
    let dir = TempDir::new().unwrap();
    let rows = [row("t", "1", 1, r#"{"id":"1","a":1,"z":"late"}"#), row("u", "1", 2, r#"{"v":3}"#)];
    stage_snapshot(
        &mut open(&dir, "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER)").writers(),
        "x",
        &rows,
        AT,
        true,
    );
    let later = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, z TEXT);
        CREATE TABLE u (id TEXT PRIMARY KEY, v INTEGER)";
    let database = open(&dir, later);
    database.writers().apply(&checkpoint(&["x"])).unwrap();
    let shown = "SELECT t.z || u.v FROM t JOIN u USING (id)";
    let shown = database.read(|db| db.query_row(shown, [], |row| row.get::<_, String>(0))).unwrap();
    assert_eq!(shown, "late3");
}

#[test]
fn later_operations_find_the_copies_in_packs() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    let count =
        |sql: &str| database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap();
    let packs = || count("SELECT count(*) FROM _tw_packs");
    let mut writers = database.writers();
    stage_snapshot(&mut writers, "x", &many("x", 6_000), AT, true);
    writers.apply(&checkpoint(&["x"])).unwrap();
    let all = packs();
    assert!(all > 5, "{all}");
    // Another bucket's copy of a row that is in a pack: the greater op id wins, whichever it is.
    let twice = [
        row("t", "x000010", 7_000, r#"{"id":"x000010","b":"newer"}"#),
        row("t", "x005000", 1, r#"{"id":"x005000","b":"older"}"#),
        row("t", "y", 2, r#"{"id":"y","b":"alone"}"#),
    ];
    stage_lines(&mut writers, "y", &twice);
    let remove = Body::Remove { row: RowKey::new("t", "x003000", "") };
    let operations = vec![Operation { op_id: op(7_001), checksum: Checksum::ZERO, body: remove }];
    let line = DataLine { bucket: "x".into(), operations };
    let parts = &mut *writers;
    staging::stage(&parts.sync, &mut parts.staging, &line, AT).unwrap();
    writers.apply(&checkpoint(&["x", "y"])).unwrap();
    drop(writers);
    assert_eq!(packs(), all - 3);
    let text = |id: &str| {
        let sql = "SELECT max(b) FROM t WHERE id = ?1";
        database.read(|db| db.query_row(sql, [id], |row| row.get::<_, Option<String>>(0))).unwrap()
    };
    assert_eq!(text("x000010").as_deref(), Some("newer"));
    assert_eq!(text("x005000").as_deref(), Some("text 5000"));
    assert_eq!(text("x003000"), None);
    // Without the other bucket the packed copy's value is there again.
    database.writers().apply(&checkpoint(&["x"])).unwrap();
    assert_eq!(text("x000010").as_deref(), Some("text 10"));
    assert_eq!(text("y"), None);
    // And without the bucket nothing is left.
    database.writers().apply(&checkpoint(&[])).unwrap();
    assert_eq!(
        (count("SELECT count(*) FROM t"), packs(), dump(&database, &[])),
        (0, 0, String::new())
    );
}

#[test]
fn a_second_snapshot_of_a_type_is_packed_only_behind_the_first() {
    for (second, is_packed) in [("y", true), ("w", false)] {
        let dir = TempDir::new().unwrap();
        let database = open(&dir, TABLES);
        let mut writers = database.writers();
        stage_snapshot(&mut writers, "x", &many("x", 6_000), AT, true);
        writers.apply(&checkpoint(&["x"])).unwrap();
        let mut rows = many(second, 5_500);
        // Some of the first bucket's rows, too.
        let common = if is_packed { 0 } else { 30 };
        rows.extend(many("x", common).into_iter().map(|row| TestRow { op_id: op(9_000), ..row }));
        stage_snapshot(&mut writers, "z", &rows, AT, true);
        writers.apply(&checkpoint(&["x", "z"])).unwrap();
        drop(writers);
        let count = |sql: &str| {
            database.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        assert_eq!(count("SELECT count(*) FROM t"), 11_500);
        let buckets = count("SELECT count(DISTINCT bucket) FROM _tw_packs");
        assert_eq!(buckets == 2, is_packed, "{second}");
        let copies = dump(&database, &[]).lines().count();
        assert_eq!(copies, 11_500 + usize::try_from(common).unwrap());
        database.writers().apply(&checkpoint(&["x"])).unwrap();
        assert_eq!(count("SELECT count(*) FROM t"), 6_000);
    }
}

#[test]
fn a_bucket_in_packs_is_replaced_by_its_next_snapshot() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    for count in [6_000, 5_200] {
        stage_snapshot(&mut database.writers(), "x", &many("x", count), AT, true);
        database.writers().apply(&checkpoint(&["x"])).unwrap();
        assert_eq!(dump(&database, &["t"]).lines().count(), 2 * usize::try_from(count).unwrap());
    }
}

#[test]
fn the_wal_is_written_back_after_a_snapshot_is_visible_and_before_the_file_is_closed() {
    let dir = TempDir::new().unwrap();
    let database = open(&dir, TABLES);
    let size = |end: &str| {
        let path = dir.path().join(format!("app.db{end}"));
        fs::metadata(path).map_or(0, |meta| meta.len())
    };
    let before = size("");
    stage_snapshot(&mut database.writers(), "x", &many("x", 90_000), AT, true);
    let mut writers = database.writers();
    writers.apply(&checkpoint(&["x"])).unwrap();
    let pages = "PRAGMA wal_autocheckpoint";
    let pages: i64 = writers.sync.query_row(pages, [], |row| row.get(0)).unwrap();
    drop(writers);
    assert_eq!(pages, AUTOCHECKPOINT_PAGES);
    // More than a commit leaves in the WAL by itself.
    assert!(size("-wal") > 4_096 * 1_000, "{}", size("-wal"));
    assert_eq!(size(""), before);
    let count = "SELECT count(*) FROM t";
    let count = |db: &Connection| db.query_row(count, [], |row| row.get::<_, i64>(0));
    assert_eq!(database.read(count).unwrap(), 90_000);
    database.write_back();
    drop(database);
    assert_eq!(size("-wal"), 0);
    let copy = dir.path().join("copy.db");
    fs::copy(dir.path().join("app.db"), &copy).unwrap();
    assert_eq!(count(&Connection::open(copy).unwrap()).unwrap(), 90_000);
}
