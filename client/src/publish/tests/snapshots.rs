//! Snapshots compared with data lines: whichever way rows come, the state is the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use rusqlite::Connection;

use super::snapshot_merger::ATTACHED_MAX;
use super::*;
use crate::db::wal_checkpointer::AUTOCHECKPOINT_PAGES;

fn row(object_type: &str, id: &str, op_id: i64, data: &str) -> TestRow {
    let key = [object_type, id, ""].map(str::to_owned);
    TestRow { key, op_id: op(op_id), data: data.to_owned() }
}

const AT: LocalBucket = LocalBucket {
    position: OpId::ZERO,
    sum: Checksum::ZERO,
    count_at_checkpoint: 0,
    count_since: 0,
};

fn checkpoint(buckets: &[&str]) -> Checkpoint {
    let buckets = buckets.iter().map(|name| describe(name, Checksum::ZERO)).collect();
    checkpoint_at(op(1 << 50), buckets)
}

fn stage_lines(device: &Device, bucket: &str, rows: &[TestRow]) {
    let operations = rows.iter().map(TestRow::put).collect();
    device.stage(&DataLine { bucket: bucket.to_owned(), operations }, AT).unwrap();
}

/// Stages the removal of a row of `t`.
fn stage_removal(device: &Device, bucket: &str, id: &str, op_id: i64) {
    let body = Body::Remove { row: RowKey::new("t", id, "") };
    let operations = vec![Operation { op_id: op(op_id), checksum: Checksum::ZERO, body }];
    device.stage(&DataLine { bucket: bucket.to_owned(), operations }, AT).unwrap();
}

/// Returns everything published: every value with its type, and every copy. A copy that is not
/// visible may store its own text or that of an equal row, so payloads are compared only for the
/// type without a table.
fn dump(device: &Device, tables: &[&str]) -> String {
    let mut out = String::new();
    let copies = "SELECT types.name, rows.id, buckets.name, subkey, op_id, \
         CASE types.name WHEN 'x' THEN payload END \
         FROM _tw_rows AS rows JOIN _tw_types AS types ON types.id = rows.type \
         JOIN _tw_buckets AS buckets ON buckets.id = rows.bucket ORDER BY 1, 2, 3, 4";
    let all = tables.iter().map(|name| format!("SELECT * FROM {name} ORDER BY id"));
    let mut writers = device.writers();

    // Rolled back: packs are unpacked only to be read.
    let tx = writers.sync.transaction().unwrap();
    tx.execute("UPDATE _tw_buckets SET is_cleared = 1", []).unwrap();
    packs::unpack_cleared(&tx).unwrap();
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

/// Generates the data of a bucket's rows by type, id and subkey.
fn data_by_key()
-> impl Strategy<Value = BTreeMap<(&'static str, &'static str, &'static str), String>> {
    let key = (
        proptest::sample::select(&["t", "w", "x"][..]),
        proptest::sample::select(&["1", "2", "3", "4", "é"][..]),
        prop_oneof![6 => Just(""), 1 => Just("k")],
    );

    proptest::collection::btree_map(key, data(), 0..8)
}

/// Generates rows of two buckets with distinct keys, none of which violates `NOT NULL`.
fn some_rows() -> impl Strategy<Value = [Vec<TestRow>; 2]> {
    (data_by_key(), data_by_key()).prop_map(|(first, second)| {
        let mut op_id = 0;
        [first, second].map(|rows| {
            let rows = rows.into_iter().map(|((object_type, id, subkey), data)| {
                op_id += 1;
                let key = [object_type, id, subkey].map(str::to_owned);
                let data = data.replace("\"a\":null", "\"a\":0");
                TestRow { key, op_id: op(op_id), data }
            });
            rows.collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_state_equals_that_of_data_lines(
        rows in some_rows(), later in some_rows(), local: bool, bulk_rows in 0..5_u64,
    ) {
        let dumps = [false, true].map(|by_snapshot| {
            let dir = TempDir::new().unwrap();
            let device = Device::open(&dir, TABLES);
            if local {
                device.write("INSERT INTO t (id, a) VALUES ('1', 1), ('9', 9)").unwrap();
                device.acknowledge_local_writes();
            }

            device.publisher().snapshots.bulk_rows = bulk_rows;
            for (bucket, rows) in ["x", "y"].iter().zip(&rows) {
                if by_snapshot {
                    device.stage_snapshot(bucket, rows, AT, false);
                } else {
                    stage_lines(&device, bucket, rows);
                }
            }
            let later = later[0].iter().map(|row| {
                TestRow { op_id: op(row.op_id.get() + 100), ..row.clone() }
            });
            stage_lines(&device, "y", &later.collect::<Vec<_>>());

            // Once the other bucket is gone, the copies that did not win become visible.
            [&["x", "y"][..], &["x"]].map(|buckets| {
                device.publish(&checkpoint(buckets)).unwrap();
                dump(&device, &["t", "w"])
            })
        });
        prop_assert_eq!(&dumps[0], &dumps[1]);
    }
}

fn many(bucket: &str, count: i64) -> Vec<TestRow> {
    let rows = (0..count).map(|n| {
        let id = format!("{bucket}{n:06}");
        let data = format!(r#"{{"id":"{id}","a":{},"b":"text {n}"}}"#, n % 10);
        row("t", &id, n + 1, &data)
    });
    rows.collect()
}

/// Returns the names and definitions of all tables, indexes and triggers.
fn schema_text(device: &Device) -> String {
    device.query(
        "SELECT group_concat(name || coalesce(sql, ''), char(10)) FROM \
         (SELECT * FROM sqlite_schema ORDER BY name)",
    )
}

fn pack_count(device: &Device) -> i64 {
    device.query("SELECT count(*) FROM _tw_packs")
}

#[test]
fn a_large_load_restores_indexes_and_triggers() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    let before = schema_text(&device);

    device.stage_snapshot("x", &many("x", 6_000), AT, true);
    let published = device.publish(&checkpoint(&["x"])).unwrap();
    let expected = Publication::Published {
        tables: ["t".to_owned()].into(),
        rows: 6_000,
        snapshot_buckets: ["x".to_owned()].into(),
    };
    assert_eq!(published, expected);
    assert_eq!(schema_text(&device), before);

    device.write("UPDATE t SET a = 1 WHERE a = 3").unwrap();
    for (sql, count) in [
        ("SELECT count(*) FROM t INDEXED BY t_a WHERE a = 1", 1_200),
        ("SELECT count(*) FROM _tw_queue", 600),
        ("SELECT count(*) FROM _tw_rows", 0),
        ("SELECT count(*) FROM _tw_snapshots", 0),
    ] {
        assert_eq!(device.query::<i64>(sql), count, "{sql}");
    }
    assert_eq!(dump(&device, &[]).lines().count(), 6_000);
    assert_eq!(device.query::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn the_apps_own_triggers_fire_for_loaded_rows_and_ours_capture_none() {
    for count in [20, 6_000] {
        let dir = TempDir::new().unwrap();
        let device = Device::open(&dir, TABLES);
        let log = "CREATE TABLE log (id);
            CREATE TRIGGER mine AFTER INSERT ON t BEGIN INSERT INTO log VALUES (NEW.id); END";
        device.write(log).unwrap();

        device.stage_snapshot("x", &many("x", count), AT, true);
        device.publish(&checkpoint(&["x"])).unwrap();
        assert_eq!(device.query::<i64>("SELECT count(*) FROM log"), count);
        assert_eq!(device.query::<i64>("SELECT count(*) FROM _tw_queue"), 0);
        assert_eq!(device.query::<i64>("SELECT applying FROM _tw_state"), 0);
    }
}

/// Returns whether the triggers capture a write. The publisher's own connection makes it, which they
/// ignore only during a publication.
fn is_captured(device: &Device) -> bool {
    let writers = device.writers();
    writers.sync.execute_batch("BEGIN; INSERT INTO t (id) VALUES ('mine')").unwrap();
    let queued = "SELECT count(*) FROM _tw_queue";
    let queued: i64 = writers.sync.query_row(queued, [], |row| row.get(0)).unwrap();
    writers.sync.execute_batch("ROLLBACK").unwrap();
    queued == 1
}

#[test]
fn triggers_fire_again_after_a_refused_and_after_a_merged_snapshot() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER CHECK (a < 9), b TEXT)";
    let device = Device::open(&dir, schema);
    device.stage_snapshot("x", &many("x", 6_000), AT, true);
    device.publish(&checkpoint(&["x"])).unwrap_err();
    assert!(is_captured(&device));

    let good: Vec<_> =
        many("x", 6_000).into_iter().filter(|row| !row.data.contains(":9,")).collect();
    device.stage_snapshot("x", &good, AT, true);
    device.publish(&checkpoint(&["x"])).unwrap();
    assert!(is_captured(&device));
}

#[test]
fn more_snapshots_than_can_be_attached_are_merged() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    let names: Vec<_> = (0..ATTACHED_MAX + 3).map(|n| format!("b{n:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();

    for name in &names {
        device.stage_snapshot(name, &many(name, 20), AT, false);
    }

    for _ in 0..2 {
        device.publish(&checkpoint(&names)).unwrap();
        let count = "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM _tw_rows)";
        assert_eq!(device.query::<i64>(count), 2 * 20 * i64::try_from(names.len()).unwrap());
    }
}

#[test]
fn a_refused_row_of_a_snapshot_is_named_and_nothing_changes() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER CHECK (a < 9), b TEXT)";
    let device = Device::open(&dir, schema);
    device.stage_snapshot("x", &many("x", 20), AT, true);
    let error = device.publish(&checkpoint(&["x"])).unwrap_err();
    let message = "table t refuses row 'x000009': CHECK constraint failed: a < 9";
    assert_eq!(error.to_string(), message);
    assert_eq!(dump(&device, &["t"]), "");
}

#[test]
fn a_snapshots_row_may_take_a_unique_value_of_a_removed_row() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER UNIQUE ON CONFLICT REPLACE)";
    let device = Device::open(&dir, schema);
    stage_lines(&device, "x", &[row("t", "old", 1, r#"{"a":1}"#)]);
    device.publish(&checkpoint(&["x"])).unwrap();
    let rows = [row("t", "new", 2, r#"{"a":1}"#), row("t", "other", 3, r#"{"a":2}"#)];
    device.stage_snapshot("y", &rows, AT, true);
    stage_removal(&device, "x", "old", 4);
    device.publish(&checkpoint(&["x", "y"])).unwrap();
    let ids = "SELECT group_concat(id || a, ' ') FROM (SELECT * FROM t ORDER BY id)";
    assert_eq!(device.query::<String>(ids), "new1 other2");
}

/// Checks that publishing fails because of the snapshot of the bucket `x`.
fn check_snapshot_refused(device: &Device) {
    let error = device.publish(&checkpoint(&["x"])).unwrap_err();
    assert!(matches!(&error, PublishError::Snapshot { bucket, .. } if bucket == "x"), "{error}");
}

#[test]
fn a_file_damaged_after_the_fetch_is_detected_and_its_bucket_named() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    let line = device.stage_snapshot("x", &many("x", 200), AT, false);
    let path = device.publisher().snapshots.files.path(&line, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    check_snapshot_refused(&device);

    fs::remove_file(&path).unwrap();
    check_snapshot_refused(&device);

    // Nothing stays attached, and the bucket can come as lines.
    staging::reset_named(&device.writers().sync, "x").unwrap();
    stage_lines(&device, "x", &many("x", 3));
    device.publish(&checkpoint(&["x"])).unwrap();
    assert_eq!(dump(&device, &["t"]).lines().count(), 6);
}

#[test]
fn a_waiting_snapshot_survives_a_new_column_and_a_new_table() {
    let dir = TempDir::new().unwrap();
    let rows = [row("t", "1", 1, r#"{"id":"1","a":1,"z":"late"}"#), row("u", "1", 2, r#"{"v":3}"#)];
    let device = Device::open(&dir, "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER)");
    device.stage_snapshot("x", &rows, AT, true);
    drop(device);

    let later = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, z TEXT);
        CREATE TABLE u (id TEXT PRIMARY KEY, v INTEGER)";
    let device = Device::open(&dir, later);
    device.publish(&checkpoint(&["x"])).unwrap();
    assert_eq!(device.query::<String>("SELECT t.z || u.v FROM t JOIN u USING (id)"), "late3");
}

/// Returns the visible text of a row, if it exists.
fn text_of(device: &Device, id: &str) -> Option<String> {
    device.query(&format!("SELECT max(b) FROM t WHERE id = '{id}'"))
}

#[test]
fn later_operations_find_packed_copies() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    device.stage_snapshot("x", &many("x", 6_000), AT, true);
    device.publish(&checkpoint(&["x"])).unwrap();
    let all = pack_count(&device);
    assert!(all > 5, "{all}");

    // Another bucket's copy of a row that is in a pack: the greater op id wins, whichever it is.
    let twice = [
        row("t", "x000010", 7_000, r#"{"id":"x000010","b":"newer"}"#),
        row("t", "x005000", 1, r#"{"id":"x005000","b":"older"}"#),
        row("t", "y", 2, r#"{"id":"y","b":"alone"}"#),
    ];
    stage_lines(&device, "y", &twice);
    stage_removal(&device, "x", "x003000", 7_001);
    device.publish(&checkpoint(&["x", "y"])).unwrap();
    assert_eq!(pack_count(&device), all - 3);
    assert_eq!(text_of(&device, "x000010").as_deref(), Some("newer"));
    assert_eq!(text_of(&device, "x005000").as_deref(), Some("text 5000"));
    assert_eq!(text_of(&device, "x003000"), None);

    // Without the other bucket the packed copy's value is visible again.
    device.publish(&checkpoint(&["x"])).unwrap();
    assert_eq!(text_of(&device, "x000010").as_deref(), Some("text 10"));
    assert_eq!(text_of(&device, "y"), None);

    // Without its own bucket nothing is left.
    device.publish(&checkpoint(&[])).unwrap();
    assert_eq!(device.query::<i64>("SELECT count(*) FROM t"), 0);
    assert_eq!((pack_count(&device), dump(&device, &[])), (0, String::new()));
}

#[test]
fn a_second_snapshot_of_a_type_is_packed_only_after_the_first() {
    for (second, is_packed) in [("y", true), ("w", false)] {
        let dir = TempDir::new().unwrap();
        let device = Device::open(&dir, TABLES);
        device.stage_snapshot("x", &many("x", 6_000), AT, true);
        device.publish(&checkpoint(&["x"])).unwrap();

        // The second bucket has some of the first bucket's rows, or none.
        let mut rows = many(second, 5_500);
        let common = if is_packed { 0 } else { 30 };
        rows.extend(many("x", common).into_iter().map(|row| TestRow { op_id: op(9_000), ..row }));
        device.stage_snapshot("z", &rows, AT, true);
        device.publish(&checkpoint(&["x", "z"])).unwrap();
        assert_eq!(device.query::<i64>("SELECT count(*) FROM t"), 11_500);
        let buckets: i64 = device.query("SELECT count(DISTINCT bucket) FROM _tw_packs");
        assert_eq!(buckets == 2, is_packed, "{second}");
        let copies = dump(&device, &[]).lines().count();
        assert_eq!(copies, 11_500 + usize::try_from(common).unwrap());

        device.publish(&checkpoint(&["x"])).unwrap();
        assert_eq!(device.query::<i64>("SELECT count(*) FROM t"), 6_000);
    }
}

#[test]
fn a_packed_bucket_is_replaced_by_its_next_snapshot() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    for count in [6_000, 5_200] {
        device.stage_snapshot("x", &many("x", count), AT, true);
        device.publish(&checkpoint(&["x"])).unwrap();
        assert_eq!(dump(&device, &["t"]).lines().count(), 2 * usize::try_from(count).unwrap());
    }
}

fn file_size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

#[test]
fn the_wal_is_checkpointed_after_a_snapshot_is_visible_and_before_the_file_is_closed() {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, TABLES);
    let file = dir.path().join("app.db");
    let wal = dir.path().join("app.db-wal");
    let before = file_size(&file);

    device.stage_snapshot("x", &many("x", 90_000), AT, true);
    device.publish(&checkpoint(&["x"])).unwrap();
    let pages = "PRAGMA wal_autocheckpoint";
    let pages: i64 = device.writers().sync.query_row(pages, [], |row| row.get(0)).unwrap();
    assert_eq!(pages, AUTOCHECKPOINT_PAGES);

    // The WAL is larger than after a commit with automatic checkpoints.
    assert!(file_size(&wal) > 4_096 * 1_000, "{}", file_size(&wal));
    assert_eq!(file_size(&file), before);
    assert_eq!(device.query::<i64>("SELECT count(*) FROM t"), 90_000);

    device.database.start_wal_checkpoint();
    drop(device);
    assert_eq!(file_size(&wal), 0);

    // The file alone is complete.
    let copy = dir.path().join("copy.db");
    fs::copy(&file, &copy).unwrap();
    let copy = Connection::open(copy).unwrap();
    let count = "SELECT count(*) FROM t";
    assert_eq!(copy.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 90_000);
}
