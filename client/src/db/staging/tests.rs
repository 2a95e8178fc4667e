use tidewater_protocol::{Operation, RowKey};

use super::*;

#[test]
fn json_that_only_sqlite_accepts_is_made_strict() {
    let connection = Connection::open_in_memory().unwrap();
    for (data, strict) in [
        (r#"{"a": 1}"#, Some(r#"{"a": 1}"#)),
        (r#"{"a":Infinity,"b":-Infinity}"#, Some(r#"{"a":9e999,"b":-9e999}"#)),
        ("nonsense", None),
    ] {
        assert_eq!(strict_json(&connection, data).ok().as_deref(), strict);
    }
}

/// Returns a PUT, or a REMOVE if there is no data.
fn operation(id: i64, row: &'static str, data: Option<&'static str>) -> Operation<'static> {
    let row = RowKey::new("t", row, "");
    let body = match data {
        Some(data) => Body::Put { row, data: data.into() },
        None => Body::Remove { row },
    };
    Operation { op_id: OpId::from_i64(id).unwrap(), checksum: Checksum(1), body }
}

#[test]
fn compaction_keeps_the_last_operation_of_each_copy() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../internal.sql")).unwrap();
    let mut cache = StagingCache::default();

    let operations = vec![
        operation(1, "a", Some("1")),
        operation(2, "b", Some("2")),
        operation(3, "a", None),
        operation(4, "c", None),
        operation(5, "c", Some("5")),
    ];
    for bucket in ["x", "y"] {
        let line = DataLine { bucket: bucket.into(), operations: operations.clone() };
        stage(&connection, &mut cache, &line, LocalBucket::default()).unwrap();
    }

    delete_superseded(&connection).unwrap();
    let left = "SELECT group_concat(op_id, ' ') FROM _tw_staged";
    let left: String = connection.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, "2 3 5 2 3 5");

    // There are too few of them for another compaction.
    compact(&connection, &mut cache).unwrap();
    assert_eq!(cache.compacted_to, 0);
    connection.execute("UPDATE _tw_staged SET seq = seq + ?1", [COMPACT_AFTER]).unwrap();
    compact(&connection, &mut cache).unwrap();
    assert_eq!(cache.compacted_to, COMPACT_AFTER + 10);
}
