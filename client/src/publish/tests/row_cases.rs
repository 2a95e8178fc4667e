//! Each case of the table in `row_state.rs`.

use super::*;

const SCHEMA: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT)";

/// The origin of the winning copy's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Winner {
    /// It arrives with this checkpoint.
    New,
    /// It was visible before.
    Visible,
}

/// The copy of the bucket that does not win, before the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    None,
    /// It has the value of the visible row.
    SameAsVisible,
    /// It stores a value of its own.
    Own,
}

#[derive(Debug)]
struct Case {
    winner: Winner,
    other: Other,
    /// The app wrote to the row.
    touched: bool,
}

/// The stored state of the row after the checkpoint.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    visible: Option<String>,
    /// The stored payload of the other bucket's copy.
    other_payload: Option<String>,
    /// The visible row once the winning bucket is gone.
    visible_without_winner: Option<String>,
}

fn put(device: &Device, bucket: &str, id: i64, value: &str) {
    let row = RowKey::new("t", "r", "");
    let body = Body::Put { row, data: format!(r#"{{"a":"{value}"}}"#).into() };
    let operation = Operation { op_id: op(id), checksum: Checksum::ZERO, body };
    let line = DataLine { bucket: bucket.to_owned(), operations: vec![operation] };
    device.stage(&line, LocalBucket::default()).unwrap();
}

fn publish(device: &Device, buckets: &[&str]) {
    let buckets = buckets.iter().map(|name| describe(name, Checksum::ZERO)).collect();
    let published = device.publish(&checkpoint_at(op(1_000), buckets)).unwrap();
    assert!(matches!(published, Publication::Published { .. }));
}

fn visible(device: &Device) -> Option<String> {
    device.query("SELECT max(a) FROM t WHERE id = 'r'")
}

/// Runs a case: the bucket `winner` contains the row with op id 10 and `other` with op id 5. Then a
/// checkpoint comes.
fn run(case: &Case) -> Stored {
    let dir = TempDir::new().unwrap();
    let device = Device::open(&dir, SCHEMA);

    put(&device, "winner", 10, "old");
    match case.other {
        Other::None => {}
        Other::SameAsVisible => put(&device, "other", 5, "old"),
        Other::Own => put(&device, "other", 5, "own"),
    }
    publish(&device, &["winner", "other"]);
    assert_eq!(visible(&device).as_deref(), Some("old"));

    if case.touched {
        device.write("UPDATE t SET a = 'local' WHERE id = 'r'").unwrap();
        device.acknowledge_local_writes();
    }
    if case.winner == Winner::New {
        put(&device, "winner", 20, "new");
    }
    publish(&device, &["winner", "other"]);

    let payload = "SELECT max(payload) FROM _tw_rows JOIN _tw_buckets \
                   ON _tw_buckets.id = bucket WHERE name = 'other'";
    let winner_payload = "SELECT count(*) FROM _tw_rows JOIN _tw_buckets \
                          ON _tw_buckets.id = bucket WHERE name = 'winner' AND payload IS NOT NULL";
    assert_eq!(device.query::<i64>(winner_payload), 0, "the winner's value is the visible row");
    let visible_now = visible(&device);
    let other_payload = device.query(payload);

    publish(&device, &["other"]);
    Stored { visible: visible_now, other_payload, visible_without_winner: visible(&device) }
}

#[test]
fn every_case_shows_the_winner_and_keeps_the_other_copy() {
    let old = Some(r#"{"a":"old"}"#);
    let own = Some(r#"{"a":"own"}"#);

    for (winner, other, shown, payload, later) in [
        (Winner::New, Other::None, "new", None, None),
        (Winner::New, Other::SameAsVisible, "new", old, Some("old")),
        (Winner::New, Other::Own, "new", own, Some("own")),
        (Winner::Visible, Other::None, "old", None, None),
        (Winner::Visible, Other::SameAsVisible, "old", None, Some("old")),
        (Winner::Visible, Other::Own, "old", own, Some("own")),
    ] {
        for touched in [false, true] {
            let case = Case { winner, other, touched };
            let expected = Stored {
                visible: Some(shown.to_owned()),
                other_payload: payload.map(str::to_owned),
                visible_without_winner: later.map(str::to_owned),
            };
            assert_eq!(run(&case), expected, "{case:?}");
        }
    }
}

#[test]
fn a_new_value_equal_to_the_visible_row_is_not_stored_twice() {
    for touched in [false, true] {
        let dir = TempDir::new().unwrap();
        let device = Device::open(&dir, SCHEMA);
        put(&device, "winner", 10, "old");
        put(&device, "other", 5, "own");
        publish(&device, &["winner", "other"]);

        if touched {
            device.write("UPDATE t SET a = 'local' WHERE id = 'r'").unwrap();
            device.acknowledge_local_writes();
        }
        put(&device, "other", 6, "old");
        publish(&device, &["winner", "other"]);
        assert_eq!(visible(&device).as_deref(), Some("old"), "touched: {touched}");
        assert_eq!(device.query::<i64>("SELECT count(payload) FROM _tw_rows"), 0);

        publish(&device, &["other"]);
        assert_eq!(visible(&device).as_deref(), Some("old"), "touched: {touched}");
    }
}

#[test]
fn a_row_without_copies_is_deleted_also_if_only_the_app_wrote_it() {
    for (is_synced, touched) in [(true, false), (true, true), (false, true)] {
        let dir = TempDir::new().unwrap();
        let device = Device::open(&dir, SCHEMA);
        if is_synced {
            put(&device, "winner", 10, "old");
        }
        publish(&device, &["winner"]);

        if touched {
            let sql = "INSERT INTO t VALUES ('r', 'local') \
                       ON CONFLICT (id) DO UPDATE SET a = excluded.a";
            device.write(sql).unwrap();
            device.acknowledge_local_writes();
        }
        publish(&device, &[]);

        assert_eq!(visible(&device), None, "synced: {is_synced}, touched: {touched}");
        assert_eq!(device.query::<i64>("SELECT count(*) FROM _tw_rows"), 0);
    }
}
