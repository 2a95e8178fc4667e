//! [`crate::RecordStore`].

use bytes::Bytes;

use super::{bucket, generation, lookup, op, record, row};
use crate::{
    Batch, GenerationId, RecordConflict, RecordKey, RecordWrite, Storage, StorageError, Version,
    VersionedRecord,
};

/// One key of each kind, with texts that are alike.
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

fn write(key: &RecordKey, known: Option<u64>, record: VersionedRecord) -> RecordWrite {
    RecordWrite { key: key.clone(), expected_newest: known.map(op), record: record.into() }
}

async fn put(
    store: &impl Storage,
    writes: Vec<RecordWrite>,
) -> Result<Vec<RecordConflict>, StorageError> {
    store.write(Batch { records: writes, ..Batch::default() }.into()).await
}

pub async fn cells_come_in_the_order_of_the_keys([a, b]: [impl Storage; 2]) {
    let writes = (1..=3).map(|n| write(&row(&n.to_string()), None, record(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let found = b.records(&[row("3"), row("none"), row("1"), row("3")]).await.unwrap();
    assert_eq!(found, [Some(record(3)), None, Some(record(1)), Some(record(3))]);
    assert_eq!(b.records(&[]).await.unwrap(), []);
}

pub async fn kinds_of_cells_do_not_mix([a, b]: [impl Storage; 2]) {
    for (n, key) in (1..).zip(keys()) {
        assert_eq!(put(&a, vec![write(&key, None, record(n))]).await.unwrap(), [], "{key:?}");
    }
    let found = b.records(&keys()).await.unwrap();
    let expected: Vec<_> = (1..).zip(keys()).map(|(n, _)| Some(record(n))).collect();
    assert_eq!(found, expected);
}

pub async fn an_absent_cell_is_written_when_none_is_known([a, b]: [impl Storage; 2]) {
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

pub async fn a_stored_cell_is_not_written_when_none_is_known([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        let refused = RecordConflict { key: key.clone(), stored: Some(record(5)) };
        assert_eq!(put(&b, vec![write(&key, None, record(6))]).await.unwrap(), [refused]);
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(5))]);
    }
}

pub async fn a_cell_is_written_over_the_known_top([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        assert_eq!(put(&b, vec![write(&key, Some(5), record(6))]).await.unwrap(), []);
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(6))]);
    }
}

pub async fn a_cell_is_not_written_over_another_top([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, record(5))]).await.unwrap();
        // Neither a lower nor a higher top will do.
        for known in [4, 6] {
            let refused = RecordConflict { key: key.clone(), stored: Some(record(5)) };
            assert_eq!(
                put(&b, vec![write(&key, Some(known), record(7))]).await.unwrap(),
                [refused]
            );
        }
        assert_eq!(a.records(&[key]).await.unwrap(), [Some(record(5))]);
    }
}

pub async fn an_absent_cell_is_not_written_when_one_is_known([a, b]: [impl Storage; 2]) {
    for key in keys() {
        let refused = RecordConflict { key: key.clone(), stored: None };
        assert_eq!(put(&a, vec![write(&key, Some(5), record(6))]).await.unwrap(), [refused]);
        assert_eq!(b.records(&[key]).await.unwrap(), [None]);
    }
}

pub async fn a_refusal_leaves_the_rest_of_the_batch([a, b]: [impl Storage; 2]) {
    put(&a, vec![write(&row("2"), None, record(5))]).await.unwrap();
    let keys = ["1", "2", "3"].map(row);
    let writes = keys.iter().map(|key| write(key, None, record(6))).collect();
    let refused = RecordConflict { key: row("2"), stored: Some(record(5)) };
    assert_eq!(put(&a, writes).await.unwrap(), [refused]);
    assert_eq!(
        b.records(&keys).await.unwrap(),
        [Some(record(6)), Some(record(5)), Some(record(6))]
    );
}

pub async fn a_batch_may_be_repeated([a, b]: [impl Storage; 2]) {
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

pub async fn of_rival_writes_one_wins([a, b]: [impl Storage; 2]) {
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

pub async fn a_large_batch_is_stored([a, b]: [impl Storage; 2]) {
    let keys: Vec<_> = (1..=3_000).map(|n| row(&format!("[{n}]"))).collect();
    let writes = (1..).zip(&keys).map(|(n, key)| write(key, None, record(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let expected: Vec<_> = (1..=3_000).map(|n| Some(record(n))).collect();
    assert_eq!(b.records(&keys).await.unwrap(), expected);
}

pub async fn an_empty_batch_is_nothing([a, _]: [impl Storage; 2]) {
    assert_eq!(a.write(Batch::default().into()).await.unwrap(), []);
}
