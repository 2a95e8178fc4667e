//! The guarantees of [`RecordStore`].

use bytes::Bytes;

use super::{bucket, generation, lookup, op, record, row};
use crate::{
    Batch, GenerationId, RecordConflict, RecordKey, RecordStore, RecordWrite, StorageError,
    Version, VersionedRecord,
};

/// Returns keys of each kind with similar texts.
fn keys() -> Vec<RecordKey> {
    let other = GenerationId(generation().0.next().unwrap());
    vec![
        RecordKey::Bucket(bucket(9, "[\"a\"]")),
        RecordKey::Lookup(lookup("[\"a\"]"), "[\"a\"]".into()),
        RecordKey::Lookup(lookup("[\"a\"]"), "[\"b\"]".into()),
        RecordKey::Lookup(lookup("[\"b\"]"), "[\"a\"]".into()),
        RecordKey::SourceRow(generation(), 1, "[\"a\"]".into()),
        RecordKey::SourceRow(generation(), 2, "[\"a\"]".into()),
        RecordKey::SourceRow(other, 1, "[\"a\"]".into()),
        RecordKey::SourceRow(generation(), 1, "[\"a\0\"]".into()),
        RecordKey::Copy(generation()),
        RecordKey::Copy(other),
    ]
}

fn write(key: &RecordKey, expected: Option<u64>, record: VersionedRecord) -> RecordWrite {
    RecordWrite { key: key.clone(), expected_newest: expected.map(op), record: record.into() }
}

async fn put(
    store: &impl RecordStore,
    writes: Vec<RecordWrite>,
) -> Result<Vec<RecordConflict>, StorageError> {
    store.write(Batch { records: writes, ..Batch::default() }.into()).await
}

pub async fn records_are_returned_in_the_order_of_the_keys([a, b]: [impl RecordStore; 2]) {
    let writes = (1..=3).map(|n| write(&row(&n.to_string()), None, record(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let found = b.records(&[row("3"), row("none"), row("1"), row("3")]).await.unwrap();
    assert_eq!(found, [Some(record(3)), None, Some(record(1)), Some(record(3))]);
    assert_eq!(b.records(&[]).await.unwrap(), []);
}

pub async fn records_of_different_kinds_are_distinct([a, b]: [impl RecordStore; 2]) {
    for (n, key) in (1..).zip(keys()) {
        assert_eq!(put(&a, vec![write(&key, None, record(n))]).await.unwrap(), [], "{key:?}");
    }

    let found = b.records(&keys()).await.unwrap();
    let expected: Vec<_> = (1..).zip(keys()).map(|(n, _)| Some(record(n))).collect();
    assert_eq!(found, expected);
}

pub async fn a_new_record_is_stored_if_none_is_expected([a, b]: [impl RecordStore; 2]) {
    let versions = vec![
        Version { op: op(9), value: None },
        Version { op: op(3), value: Some(Bytes::new()) },
        Version { op: op(2), value: Some(vec![7; 5_000].into()) },
    ];
    let stored = VersionedRecord { floor: op(1), versions };
    for key in keys() {
        assert_eq!(put(&a, vec![write(&key, None, stored.clone())]).await.unwrap(), []);
        assert_eq!(b.records(&[key]).await.unwrap(), [Some(stored.clone())]);
    }
}

pub async fn a_stored_record_is_a_conflict_if_none_is_expected([a, b]: [impl RecordStore; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        let conflict = RecordConflict { key: key.clone(), stored: Some(record(5)) };
        assert_eq!(put(&b, vec![write(&key, None, record(6))]).await.unwrap(), [conflict]);
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(5))]);
    }
}

pub async fn a_record_with_the_expected_newest_op_is_replaced([a, b]: [impl RecordStore; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        assert_eq!(put(&b, vec![write(&key, Some(5), record(6))]).await.unwrap(), []);
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(6))]);
    }
}

pub async fn a_record_with_another_newest_op_is_a_conflict([a, b]: [impl RecordStore; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        // Neither a lower nor a higher newest op id is accepted.
        for expected in [4, 6] {
            let conflict = RecordConflict { key: key.clone(), stored: Some(record(5)) };
            assert_eq!(
                put(&b, vec![write(&key, Some(expected), record(7))]).await.unwrap(),
                [conflict]
            );
        }
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(5))]);
    }
}

pub async fn an_absent_record_is_a_conflict_if_one_is_expected([a, b]: [impl RecordStore; 2]) {
    for key in keys() {
        let conflict = RecordConflict { key: key.clone(), stored: None };
        assert_eq!(put(&a, vec![write(&key, Some(5), record(6))]).await.unwrap(), [conflict]);
        assert_eq!(b.records(&[key]).await.unwrap(), [None]);
    }
}

pub async fn a_conflict_does_not_affect_the_rest_of_the_batch([a, b]: [impl RecordStore; 2]) {
    put(&a, vec![write(&row("2"), None, record(5))]).await.unwrap();
    let keys = ["1", "2", "3"].map(row);
    let writes = keys.iter().map(|key| write(key, None, record(6))).collect();
    let conflict = RecordConflict { key: row("2"), stored: Some(record(5)) };
    assert_eq!(put(&a, writes).await.unwrap(), [conflict]);
    assert_eq!(
        b.records(&keys).await.unwrap(),
        [Some(record(6)), Some(record(5)), Some(record(6))]
    );
}

pub async fn a_repeated_batch_succeeds([a, b]: [impl RecordStore; 2]) {
    for key in keys() {
        for _ in 0..2 {
            assert_eq!(put(&a, vec![write(&key, None, record(5))]).await.unwrap(), []);
        }
        for _ in 0..2 {
            assert_eq!(put(&b, vec![write(&key, Some(5), record(6))]).await.unwrap(), []);
        }
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(6))]);
    }
}

pub async fn exactly_one_concurrent_record_write_succeeds(
    [a, b]: [impl RecordStore + Clone + 'static; 2],
) {
    put(&a, vec![write(&row("1"), None, record(1))]).await.unwrap();
    let rivals = (2..10).map(|n| {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { put(&store, vec![write(&row("1"), Some(1), record(n))]).await })
    });

    let mut winners = 0;
    for rival in rivals.collect::<Vec<_>>() {
        if rival.await.unwrap().unwrap().is_empty() {
            winners += 1;
        }
    }
    assert_eq!(winners, 1);
}

pub async fn a_batch_of_thousands_of_records_is_stored([a, b]: [impl RecordStore; 2]) {
    let keys: Vec<_> = (1..=3_000).map(|n| row(&format!("[{n}]"))).collect();
    let writes = (1..).zip(&keys).map(|(n, key)| write(key, None, record(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let expected: Vec<_> = (1..=3_000).map(|n| Some(record(n))).collect();
    assert_eq!(b.records(&keys).await.unwrap(), expected);
}

pub async fn an_empty_batch_succeeds([a, _]: [impl RecordStore; 2]) {
    assert_eq!(a.write(Batch::default().into()).await.unwrap(), []);
}

pub async fn each_source_row_of_a_table_is_in_one_page([a, b]: [impl RecordStore; 2]) {
    let other = GenerationId(generation().0.next().unwrap());
    let mut names: Vec<String> = (0..200).map(|n| format!("[{n}]")).collect();
    // Names may be empty, and longer than a store's key.
    names.extend([String::new(), "x".repeat(3_000), format!("{}y", "x".repeat(2_999))]);
    let rows = names.iter().map(|name| RecordKey::SourceRow(generation(), 1, name.as_str().into()));
    let others = [
        RecordKey::SourceRow(generation(), 10, "[0]".into()),
        RecordKey::SourceRow(other, 1, "of another generation".into()),
    ];
    let writes = rows.chain(others).map(|key| write(&key, None, record(1))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);

    for limit in [1_000, 7] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = b.source_rows(generation(), 1, after.as_deref(), limit).await.unwrap();
            found.extend(page.names.iter().map(ToString::to_string));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        found.sort_unstable();
        names.sort_unstable();
        assert_eq!(found, names, "in pages of {limit}");
    }
    assert_eq!(b.source_rows(generation(), 9, None, 7).await.unwrap().names, []);
}
