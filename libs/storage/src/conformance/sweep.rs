//! [`crate::Sweep`].

use tidewater_protocol::{Epoch, OpId};

use super::{bucket, record, segment, tag};
use crate::{
    Batch, CompactionTask, Generation, GenerationId, LookupKey, RecordKey, RecordWrite, Storage,
    Tag,
};

fn id(epoch: u32) -> GenerationId {
    GenerationId(Epoch::new(epoch).unwrap())
}

fn a_generation(epoch: u32) -> Generation {
    Generation {
        id: id(epoch),
        identity: "i".into(),
        sync_config: "streams: {}".into(),
        definitions: vec![tag(1)],
        lookups: vec![tag(9)],
        retired_at: None,
    }
}

async fn write(store: &impl Storage, batch: Batch) {
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

fn put(key: RecordKey) -> RecordWrite {
    RecordWrite { key, expected_newest: None, record: record(1).into() }
}

async fn is_there(store: &impl Storage, key: RecordKey) -> bool {
    store.records(&[key]).await.unwrap()[0].is_some()
}

pub async fn generations_are_listed([a, b]: [impl Storage; 2]) {
    assert_eq!(b.generations().await.unwrap(), []);
    for epoch in [12, 3] {
        a.put_generation(&a_generation(epoch)).await.unwrap();
    }
    assert_eq!(b.generations().await.unwrap(), [id(3), id(12)]);
}

pub async fn a_deleted_bucket_leaves_nothing([a, b]: [impl Storage; 2]) {
    let (gone, kept) = (bucket(1, "[1]"), bucket(1, "[2]"));
    for bucket in [&gone, &kept] {
        let batch = Batch {
            segments: (1..=40).map(|n| segment(bucket, n, n - 1)).collect(),
            records: vec![put(RecordKey::Bucket(bucket.clone()))],
            registry: vec![bucket.clone()],
            compaction_tasks: vec![CompactionTask::immediate(bucket.clone(), super::op(1))],
        };
        write(&a, batch).await;
    }
    for store in [&b, &a] {
        store.delete_bucket(&gone).await.unwrap();
        let items = store.buckets(&[gone.clone(), kept.clone()]).await.unwrap();
        assert!(items[0].is_none() && items[1].is_some());
        let log = async |bucket| {
            store.segments(bucket, OpId::ZERO, OpId::MAX, 1 << 20).await.unwrap().segments.len()
        };
        assert_eq!((log(&gone).await, log(&kept).await), (0, 40));
        assert_eq!(*store.registered_buckets(&tag(1), None, 9).await.unwrap(), [kept.clone()][..]);
        let due = store.due_tasks(0, 9).await.unwrap();
        assert_eq!(due.iter().map(|due| &due.bucket).collect::<Vec<_>>(), [&kept]);
    }
}

pub async fn a_deleted_lookup_leaves_others([a, b]: [impl Storage; 2]) {
    let key = |tag: &Tag, n: u32| {
        RecordKey::Lookup(LookupKey::new(tag, &format!("[{}]", n % 7)), format!("s{n}").into())
    };
    let (gone, kept) = (tag(9), tag(10));
    let records = (0..1_100).map(|n| put(key(&gone, n))).chain([put(key(&kept, 1))]).collect();
    write(&a, Batch { records, ..Batch::default() }).await;
    b.delete_lookup(&gone).await.unwrap();
    for n in [0, 1, 500, 1_099] {
        assert!(!is_there(&a, key(&gone, n)).await);
    }
    assert!(is_there(&a, key(&kept, 1)).await);
    b.delete_lookup(&gone).await.unwrap();
}

pub async fn a_deleted_generation_leaves_others([a, b]: [impl Storage; 2]) {
    let row = |epoch, n: u32| RecordKey::SourceRow(id(epoch), 3, format!("r{n}").into());
    for epoch in [1, 2] {
        a.put_generation(&a_generation(epoch)).await.unwrap();
        let rows = (0..1_100).map(|n| put(row(epoch, n)));
        let records = rows.chain([put(RecordKey::Copy(id(epoch)))]).collect();
        write(&a, Batch { records, ..Batch::default() }).await;
    }
    b.delete_generation(id(1)).await.unwrap();
    for key in [row(1, 0), row(1, 1_099), RecordKey::Copy(id(1))] {
        assert!(!is_there(&a, key).await);
    }
    for key in [row(2, 0), row(2, 1_099), RecordKey::Copy(id(2))] {
        assert!(is_there(&a, key).await);
    }
    assert_eq!(a.generations().await.unwrap(), [id(2)]);
    assert_eq!(a.generation(id(1)).await.unwrap(), None);
    b.delete_generation(id(1)).await.unwrap();
}
