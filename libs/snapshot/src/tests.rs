//! Tests of whole files: written, unpacked, verified and read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use tidewater_protocol::{Checksum, ErrorChain, OpId};

use crate::{
    ExpectedFile, IdColumn, Snapshot, SnapshotError, SnapshotHeader, SnapshotOptions, SnapshotRow,
    SnapshotWriter, WrittenFile, unpack_frame,
};

/// Rows by type, id and subkey: op id and text of each.
type Rows = BTreeMap<(String, String, String), (i64, String)>;

fn header() -> SnapshotHeader {
    let to = OpId::from_i64(99).unwrap();
    SnapshotHeader { bucket: "b".into(), to, checksum: Checksum(u32::MAX) }
}

fn rows(rows: &[(&str, &str, &str)]) -> Rows {
    let rows = (1..).zip(rows).map(|(op_id, (object_type, id, data))| {
        let key = ((*object_type).to_owned(), (*id).to_owned(), "k".to_owned());
        (key, (op_id, (*data).to_owned()))
    });
    rows.collect()
}

fn push(writer: &mut SnapshotWriter, rows: &Rows) -> Result<(), SnapshotError> {
    rows.iter().try_for_each(|((object_type, object_id, subkey), (op_id, data))| {
        let op_id = OpId::from_i64(*op_id).unwrap();
        let checksum = Checksum(u32::MAX - u32::try_from(data.len()).unwrap());
        writer.push(&SnapshotRow { object_type, object_id, subkey, op_id, checksum, data })
    })
}

fn write(dir: &Path, rows: &Rows, options: &SnapshotOptions) -> Vec<WrittenFile> {
    let mut writer = SnapshotWriter::create(dir, &header(), options).unwrap();
    push(&mut writer, rows).unwrap();
    writer.finish().unwrap()
}

fn unpack(file: &WrittenFile) -> PathBuf {
    let packed = fs::read(&file.path).unwrap();
    let mut raw = Vec::new();
    let mut at = 0;
    for frame in &file.frames {
        let end = at + usize::try_from(frame.bytes).unwrap();
        raw.extend(unpack_frame(&packed[at..end], frame).unwrap());
        at = end;
    }

    assert_eq!((at as u64, raw.len() as u64), (file.bytes, file.raw_bytes));
    // The frames together are a zstd stream as well.
    assert_eq!(zstd::stream::decode_all(packed.as_slice()).unwrap(), raw);
    let path = file.path.with_extension("raw");
    fs::write(&path, raw).unwrap();
    path
}

fn verify(path: &Path) -> Result<Snapshot, SnapshotError> {
    let header = header();
    let raw_bytes = fs::metadata(path).unwrap().len();
    let expected =
        ExpectedFile { bucket: "b", to: header.to, checksum: header.checksum, raw_bytes };
    let snapshot = Snapshot::open(path, &expected)?;
    for table in snapshot.tables() {
        snapshot.keys(table)?.for_each(|_| Ok::<_, SnapshotError>(()))?;
    }
    snapshot.for_each_text(|_| Ok::<_, SnapshotError>(()))?;
    Ok(snapshot)
}

fn read(snapshot: &Snapshot, into: &mut Rows) -> Result<(), SnapshotError> {
    snapshot.for_each_row(|row| {
        let key = (row.object_type.to_owned(), row.object_id.to_owned(), row.subkey.to_owned());
        let sum = u32::MAX - u32::try_from(row.data.len()).unwrap();
        assert_eq!(row.checksum, Checksum(sum));
        assert!(into.insert(key, (row.op_id.get(), row.data.to_owned())).is_none());
        Ok(())
    })
}

/// Writes rows, reads them back, and returns the file's tables with their numbers of rows. `*` marks a
/// table with an id column of its own.
fn tables(dir: &TempDir, rows: &Rows) -> Vec<String> {
    let files = write(dir.path(), rows, &SnapshotOptions::default());
    let snapshot = verify(&unpack(&files[0])).unwrap();
    let mut back = Rows::new();
    read(&snapshot, &mut back).unwrap();
    assert_eq!(&back, rows);
    let shown = snapshot.tables().iter().map(|table| {
        let own = if table.id_column == IdColumn::Own { "*" } else { "" };
        format!("{}{own}({}) {}", table.name, table.columns.join(","), table.rows)
    });
    shown.collect()
}

#[test]
fn each_shape_of_a_type_has_a_table_and_other_rows_stay_text() {
    let dir = TempDir::new().unwrap();
    let rows = rows(&[
        ("lists", "1", r#"{"id":1,"name":"a"}"#),
        ("lists", "2", r#"{"id":2,"name":null}"#),
        ("todos", "a", r#"{"id":"a","n":1}"#),
        ("todos", "b", r#"{"id":"b","n":1.0}"#),
        ("todos", "c", r#"{"n":1.0,"id":"c"}"#),
        ("todos", "d", r#"{"id":"d","n":true}"#),
        ("todos", "e", r#"{"id":"e","N":1,"n":2}"#),
        ("todos", "f", r#"{"id":"other","n":2}"#),
    ]);

    assert_eq!(
        tables(&dir, &rows),
        ["lists*(id,name) 2", "todos(id,n) 2", "todos_2(n,id) 1", "todos_3*(id,n) 1"]
    );
}

fn text(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn plain_sqlite_opens_the_file_and_finds_typed_values() {
    let dir = TempDir::new().unwrap();
    let rows = rows(&[
        ("t", "a", r#"{"id":"a","n":1,"r":2.5,"i":-9e999,"s":"x","z":null}"#),
        ("t", "b", r#"{"id":"b","n":2,"r":3.0,"i":9e999,"s":"1","z":null}"#),
    ]);
    let files = write(dir.path(), &rows, &SnapshotOptions::default());
    let db = Connection::open(unpack(&files[0])).unwrap();

    assert_eq!(text(&db, "PRAGMA integrity_check"), "ok");
    assert_eq!(text(&db, "PRAGMA journal_mode"), "delete");
    assert_eq!(
        text(&db, "SELECT typeof(n) || typeof(r) || typeof(i) || typeof(s) || typeof(z) FROM t"),
        "integerrealrealtextnull"
    );
    assert_eq!(text(&db, "SELECT group_concat(id, '') FROM t WHERE n + r > 3 AND i > 0"), "b");

    let free = "SELECT freelist_count FROM pragma_freelist_count";
    assert_eq!(db.query_row(free, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn an_empty_bucket_is_one_file() {
    let dir = TempDir::new().unwrap();
    assert!(tables(&dir, &Rows::new()).is_empty());
}

#[test]
fn the_file_tells_whether_ids_are_unique() {
    let dir = TempDir::new().unwrap();
    let mut rows = rows(&[("a", "1", r#"{"id":"1"}"#), ("b", "1", r#"{"id":"1"}"#)]);
    rows.insert(("b".into(), "1".into(), "l".into()), (9, "{}".into()));
    let files = write(dir.path(), &rows, &SnapshotOptions::default());
    let snapshot = verify(&unpack(&files[0])).unwrap();
    assert!(snapshot.ids_are_unique("a"));
    assert!(!snapshot.ids_are_unique("b") && !snapshot.ids_are_unique("none"));
    assert_eq!(snapshot.types().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn rows_out_of_order_are_refused() {
    let dir = TempDir::new().unwrap();
    let options = SnapshotOptions::default();
    let mut writer = SnapshotWriter::create(dir.path(), &header(), &options).unwrap();
    let rows = rows(&[("b", "2", "{}")]);
    push(&mut writer, &rows).unwrap();
    for (object_type, id) in [("b", "2"), ("b", "1"), ("a", "3")] {
        let earlier = [((object_type.into(), id.into(), "k".into()), (1, "{}".into()))];
        let error = push(&mut writer, &earlier.into()).unwrap_err();
        assert!(matches!(error, SnapshotError::Order { .. }), "{error}");
    }
}

#[test]
fn a_large_snapshot_is_split_and_no_file_exceeds_the_limit() {
    let dir = TempDir::new().unwrap();
    let mut all = Rows::new();
    for n in 0..3_000 {
        let id = format!("{:05}", n / 2);
        let long = "x".repeat(n % 700);
        let data = format!(r#"{{"id":"{id}","n{}":"{long}"}}"#, n % 3);
        all.insert(("t".into(), id, (n % 2).to_string()), (1, data));
    }

    let options = SnapshotOptions { raw_bytes_max: 300_000, frame_raw_bytes: 50_000, level: 1 };
    let files = write(dir.path(), &all, &options);
    assert!(files.len() > 3, "{}", files.len());

    let mut back = Rows::new();
    for file in &files {
        assert!(file.raw_bytes <= options.raw_bytes_max, "{}", file.raw_bytes);
        assert!(file.frames.len() as u64 == file.raw_bytes.div_ceil(50_000));

        let before = back.len();
        let snapshot = verify(&unpack(file)).unwrap();
        read(&snapshot, &mut back).unwrap();
        assert_eq!((back.len() - before) as u64, file.rows);

        // Both rows of an id are in one file, so the ids of no file are unique.
        assert!(!snapshot.ids_are_unique("t") && file.rows.is_multiple_of(2));
    }

    assert_eq!(back, all);
    // Every file but the last is at least half full.
    assert!(files[..files.len() - 1].iter().all(|file| file.raw_bytes >= 150_000));
}

#[test]
fn every_deviation_of_the_schema_or_the_counts_is_refused() {
    let good = rows(&[("t", "a", r#"{"id":"a","n":1}"#)]);
    for (sql, expected) in [
        ("CREATE VIEW v AS SELECT 1", "it has an unexpected view 'v'"),
        ("CREATE INDEX i ON t (n)", "it has an unexpected index 't'"),
        (
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
            "it has an unexpected trigger 't'",
        ),
        ("CREATE TABLE more (a)", "it has an unexpected table 'more'"),
        ("ALTER TABLE t ADD COLUMN g AS (n + 1)", "it has an unexpected table 't'"),
        ("ALTER TABLE t RENAME COLUMN n TO m", "it has an unexpected table 't'"),
        ("DROP TABLE _tw_texts", "its header is not a snapshot's"),
        ("CREATE VIRTUAL TABLE f USING fts5(x)", "it has an unexpected table 'f'"),
        ("DELETE FROM t", "table t has 0 rows instead of 1"),
        ("INSERT INTO t SELECT * FROM t", "its rows are out of order"),
        ("UPDATE t SET id = 5", "a text is missing"),
        ("UPDATE t SET _tw_op = -1", "an op id is negative"),
        ("UPDATE t SET _tw_checksum = 'x'", "Invalid column type Text"),
        ("INSERT INTO _tw_texts VALUES ('t', 'b', '', 1, 1, '{}')", "table _tw_texts has 1 rows"),
        ("UPDATE _tw_tables SET type = 'u'", "its counts contradict each other"),
        ("UPDATE _tw_tables SET rows = 2", "its counts contradict each other"),
        ("UPDATE _tw_snapshot SET bucket = 'c'", "it is of another bucket or position"),
        ("UPDATE _tw_snapshot SET \"to\" = 98", "it is of another bucket or position"),
        ("UPDATE _tw_snapshot SET rows = 2", "its counts contradict each other"),
        ("UPDATE _tw_tables SET columns = '[\"id\"]'", "it has an unexpected table 't'"),
        (
            "UPDATE _tw_tables SET columns = '[\"id\",\"n AS (1)\"]'",
            "it has an unexpected table 't'",
        ),
        ("UPDATE _tw_tables SET id_column = 7", "a table has no column for its ids"),
        ("PRAGMA application_id = 5", "it is not a snapshot"),
        ("PRAGMA journal_mode = WAL", "its header is not a snapshot's"),
        ("PRAGMA auto_vacuum = 1; VACUUM", "its header is not a snapshot's"),
    ] {
        let dir = TempDir::new().unwrap();
        let path = unpack(&write(dir.path(), &good, &SnapshotOptions::default())[0]);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();

        let error = verify(&path).expect_err(sql);
        let error = ErrorChain(&error).to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

/// The error about a value of another type names the column, whatever the file calls it.
#[test]
fn a_file_whose_columns_have_other_names_is_refused_before_a_value_is_read() {
    let good = rows(&[("t", "a", r#"{"id":"a"}"#)]);
    for (table, column, sql) in [
        ("_tw_snapshot", "\"checksum\", \"rows\"", "UPDATE _tw_snapshot SET checksum = 'x'"),
        ("_tw_types", "\"rows\", \"ids_are_unique\"", "UPDATE _tw_types SET rows = 'x'"),
        ("_tw_tables", "\"type\", \"columns\"", "UPDATE _tw_tables SET type = 5"),
        ("_tw_texts", "\"_tw_data\"", "INSERT INTO _tw_texts VALUES ('t', 'b', '', 1, 1, 5)"),
    ] {
        let dir = TempDir::new().unwrap();
        let path = unpack(&write(dir.path(), &good, &SnapshotOptions::default())[0]);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(column.len()).position(|part| part == column.as_bytes()).unwrap();
        bytes[at + 1] = 0xff;
        fs::write(&path, bytes).unwrap();

        let error = verify(&path).expect_err(table);
        assert!(error.to_string().contains(&format!("it lacks its table '{table}'")), "{error}");
    }
}

#[test]
fn a_later_format_is_reported_as_such() {
    let dir = TempDir::new().unwrap();
    let path = unpack(&write(dir.path(), &Rows::new(), &SnapshotOptions::default())[0]);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(matches!(verify(&path), Err(SnapshotError::NewerFormat(2))));
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        "[a-c\"\\\\\\x00é]{0,4}".prop_map(|text| serde_json::Value::from(text).to_string()),
        proptest::sample::select(
            &["null", "true", "[1]", "{}", "1.0", "9e999", "\"\\u0041\"", "\"a\"", "1e2"][..]
        )
        .prop_map(str::to_owned),
    ]
}

fn some_rows() -> impl Strategy<Value = Rows> {
    let names = &["id", "ID", "a", "b", "", "_tw_op", "rowid", "a\"b", "c'"][..];
    let member = (proptest::sample::select(names), value());
    let data = proptest::collection::vec(member, 0..5).prop_map(|members| {
        let members: Vec<_> = members
            .iter()
            .map(|(key, value)| format!("{}:{value}", serde_json::Value::from(*key)))
            .collect();
        format!("{{{}}}", members.join(","))
    });

    let key = (
        proptest::sample::select(&["t", "T", "u", "", "sqlite_x", "t_2", "n\0", "_tw_texts"][..]),
        proptest::sample::select(&["a", "b", "1", "", "é", "x\0"][..]),
        proptest::sample::select(&["", "k"][..]),
    );

    let key = key.prop_map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    proptest::collection::btree_map(key, (0..i64::MAX, data), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_rows_are_read_back_as_they_were_written(rows in some_rows()) {
        let dir = TempDir::new().unwrap();
        let options = SnapshotOptions { frame_raw_bytes: 5_000, ..SnapshotOptions::default() };
        let files = write(dir.path(), &rows, &options);
        let snapshot = verify(&unpack(&files[0])).unwrap();
        let mut back = Rows::new();
        read(&snapshot, &mut back).unwrap();
        prop_assert_eq!(&back, &rows);
        for object_type in snapshot.types() {
            let ids: Vec<_> = rows.keys().filter(|key| key.0 == object_type).map(|key| &key.1).collect();
            let is_unique = ids.windows(2).all(|pair| pair[0] != pair[1]);
            prop_assert_eq!(snapshot.ids_are_unique(object_type), is_unique);
        }
    }

    /// A damaged file is refused or read as some rows. It never ends the process and never takes long.
    #[test]
    fn a_damaged_file_never_panics(
        rows in some_rows(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        in_header: bool,
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let dir = TempDir::new().unwrap();
        let path = unpack(&write(dir.path(), &rows, &SnapshotOptions::default())[0]);
        let mut bytes = fs::read(&path).unwrap();

        for (at, byte) in changes {
            let reach = if in_header { 4_096 } else { bytes.len() };
            bytes[at.index(reach)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }

        fs::write(&path, &bytes).unwrap();
        if let Ok(snapshot) = verify(&path) {
            let mut count = 0;
            let read = snapshot.for_each_row(|_| { count += 1; Ok::<_, SnapshotError>(()) });
            prop_assert!(read.is_err() || count == snapshot.rows());
        }
    }
}
