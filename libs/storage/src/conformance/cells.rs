//! [`crate::CellStore`].

use bytes::Bytes;

use super::{bucket, cell, generation, lookup, op, row};
use crate::{
    Batch, Cell, CellKey, CellWrite, GenerationId, Refused, Storage, StorageError, Version,
};

/// One key of each kind, with texts that are alike.
fn keys() -> Vec<CellKey> {
    let other = GenerationId(generation().0.next().unwrap());
    vec![
        CellKey::Bucket(bucket(9, "[\"a\"]")),
        CellKey::Lookup(lookup("[\"a\"]"), "[\"a\"]".into()),
        CellKey::Lookup(lookup("[\"a\"]"), "[\"b\"]".into()),
        CellKey::Lookup(lookup("[\"b\"]"), "[\"a\"]".into()),
        CellKey::SourceRow(generation(), 1, "[\"a\"]".into()),
        CellKey::SourceRow(generation(), 2, "[\"a\"]".into()),
        CellKey::SourceRow(other, 1, "[\"a\"]".into()),
        CellKey::SourceRow(generation(), 1, "[\"a\0\"]".into()),
        CellKey::Copy(generation()),
        CellKey::Copy(other),
    ]
}

fn write(key: &CellKey, known: Option<u64>, cell: Cell) -> CellWrite {
    CellWrite { key: key.clone(), known_top: known.map(op), cell }
}

async fn put(store: &impl Storage, writes: Vec<CellWrite>) -> Result<Vec<Refused>, StorageError> {
    store.write(&Batch { cells: writes, ..Batch::default() }).await
}

pub async fn cells_come_in_the_order_of_the_keys([a, b]: [impl Storage; 2]) {
    let writes = (1..=3).map(|n| write(&row(&n.to_string()), None, cell(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let found = b.cells(&[row("3"), row("none"), row("1"), row("3")]).await.unwrap();
    assert_eq!(found, [Some(cell(3)), None, Some(cell(1)), Some(cell(3))]);
    assert_eq!(b.cells(&[]).await.unwrap(), []);
}

pub async fn kinds_of_cells_do_not_mix([a, b]: [impl Storage; 2]) {
    for (n, key) in (1..).zip(keys()) {
        assert_eq!(put(&a, vec![write(&key, None, cell(n))]).await.unwrap(), [], "{key:?}");
    }
    let found = b.cells(&keys()).await.unwrap();
    let expected: Vec<_> = (1..).zip(keys()).map(|(n, _)| Some(cell(n))).collect();
    assert_eq!(found, expected);
}

pub async fn an_absent_cell_is_written_when_none_is_known([a, b]: [impl Storage; 2]) {
    let versions = vec![
        Version { op: op(9), value: None },
        Version { op: op(3), value: Some(Bytes::new()) },
        Version { op: op(2), value: Some(vec![7; 5_000].into()) },
    ];
    let stored = Cell { floor: op(1), versions };
    for key in keys() {
        assert_eq!(put(&a, vec![write(&key, None, stored.clone())]).await.unwrap(), []);
        assert_eq!(b.cells(&[key]).await.unwrap(), [Some(stored.clone())]);
    }
}

pub async fn a_stored_cell_is_not_written_when_none_is_known([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, cell(5))]).await.unwrap();
        let refused = Refused { key: key.clone(), stored: Some(cell(5)) };
        assert_eq!(put(&b, vec![write(&key, None, cell(6))]).await.unwrap(), [refused]);
        assert_eq!(a.cells(&[key]).await.unwrap(), [Some(cell(5))]);
    }
}

pub async fn a_cell_is_written_over_the_known_top([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, cell(5))]).await.unwrap();
        assert_eq!(put(&b, vec![write(&key, Some(5), cell(6))]).await.unwrap(), []);
        assert_eq!(a.cells(&[key]).await.unwrap(), [Some(cell(6))]);
    }
}

pub async fn a_cell_is_not_written_over_another_top([a, b]: [impl Storage; 2]) {
    for key in keys() {
        put(&a, vec![write(&key, None, cell(5))]).await.unwrap();
        // Neither a lower nor a higher top will do.
        for known in [4, 6] {
            let refused = Refused { key: key.clone(), stored: Some(cell(5)) };
            assert_eq!(put(&b, vec![write(&key, Some(known), cell(7))]).await.unwrap(), [refused]);
        }
        assert_eq!(a.cells(&[key]).await.unwrap(), [Some(cell(5))]);
    }
}

pub async fn an_absent_cell_is_not_written_when_one_is_known([a, b]: [impl Storage; 2]) {
    for key in keys() {
        let refused = Refused { key: key.clone(), stored: None };
        assert_eq!(put(&a, vec![write(&key, Some(5), cell(6))]).await.unwrap(), [refused]);
        assert_eq!(b.cells(&[key]).await.unwrap(), [None]);
    }
}

pub async fn a_refusal_leaves_the_rest_of_the_batch([a, b]: [impl Storage; 2]) {
    put(&a, vec![write(&row("2"), None, cell(5))]).await.unwrap();
    let keys = ["1", "2", "3"].map(row);
    let writes = keys.iter().map(|key| write(key, None, cell(6))).collect();
    let refused = Refused { key: row("2"), stored: Some(cell(5)) };
    assert_eq!(put(&a, writes).await.unwrap(), [refused]);
    assert_eq!(b.cells(&keys).await.unwrap(), [Some(cell(6)), Some(cell(5)), Some(cell(6))]);
}

pub async fn a_batch_may_be_repeated([a, b]: [impl Storage; 2]) {
    for key in keys() {
        for _ in 0..2 {
            assert_eq!(put(&a, vec![write(&key, None, cell(5))]).await.unwrap(), []);
        }
        for _ in 0..2 {
            assert_eq!(put(&b, vec![write(&key, Some(5), cell(6))]).await.unwrap(), []);
        }
        assert_eq!(a.cells(&[key]).await.unwrap(), [Some(cell(6))]);
    }
}

pub async fn of_rival_writes_one_wins([a, b]: [impl Storage; 2]) {
    put(&a, vec![write(&row("1"), None, cell(1))]).await.unwrap();
    let rivals = (2..10).map(|n| {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { put(&store, vec![write(&row("1"), Some(1), cell(n))]).await })
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
    let writes = (1..).zip(&keys).map(|(n, key)| write(key, None, cell(n))).collect();
    assert_eq!(put(&a, writes).await.unwrap(), []);
    let expected: Vec<_> = (1..=3_000).map(|n| Some(cell(n))).collect();
    assert_eq!(b.cells(&keys).await.unwrap(), expected);
}

pub async fn an_empty_batch_is_nothing([a, _]: [impl Storage; 2]) {
    assert_eq!(a.write(&Batch::default()).await.unwrap(), []);
}
