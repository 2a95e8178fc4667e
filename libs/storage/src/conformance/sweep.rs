//! The guarantees of [`Sweep`].

use tidewater_protocol::{Epoch, OpId};

use super::{bucket, empty_generation, record, segment, tag};
use crate::{
    Batch, BucketStore, CompactionQueue, CompactionTask, ControlStore, Generation, GenerationId,
    LookupKey, OpLog, RecordKey, RecordStore, RecordWrite, Registry, Sweep, Tag,
};

fn id(epoch: u32) -> GenerationId {
    GenerationId(Epoch::new(epoch).unwrap())
}

fn a_generation(epoch: u32) -> Generation {
    Generation {
        identity: "i".into(),
        sync_config: "streams: {}".into(),
        definitions: vec![tag(1)],
        lookups: vec![tag(9)],
        ..empty_generation(id(epoch))
    }
}

async fn write(store: &impl RecordStore, batch: Batch) {
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

fn put(key: RecordKey) -> RecordWrite {
    RecordWrite { key, expected_newest: None, record: record(1).into() }
}

async fn is_there(store: &impl RecordStore, key: RecordKey) -> bool {
    store.records(&[key]).await.unwrap()[0].is_some()
}

fn answer(tag: &Tag, n: u32) -> RecordKey {
    RecordKey::Lookup(LookupKey::new(tag, &format!("[{}]", n % 7)), format!("s{n}").into())
}

fn row(epoch: u32, n: u32) -> RecordKey {
    RecordKey::SourceRow(id(epoch), 3, format!("r{n}").into())
}

pub async fn generations_are_listed_in_ascending_order([a, b]: [impl ControlStore + Sweep; 2]) {
    assert_eq!(b.generations().await.unwrap(), []);
    for epoch in [12, 3] {
        a.put_generation(&a_generation(epoch)).await.unwrap();
    }
    assert_eq!(b.generations().await.unwrap(), [id(3), id(12)]);
}

pub async fn a_deleted_bucket_has_no_records(
    [a, b]: [impl BucketStore + CompactionQueue + OpLog + RecordStore + Registry + Sweep; 2],
) {
    let deleted = bucket(1, "[1]");
    let kept = bucket(1, "[2]");
    for bucket in [&deleted, &kept] {
        let batch = Batch {
            segments: (1..=40).map(|n| segment(bucket, n, n - 1)).collect(),
            records: vec![put(RecordKey::Bucket(bucket.clone()))],
            registry: vec![bucket.clone()],
            compaction_tasks: vec![CompactionTask::immediate(bucket.clone(), super::op(1))],
        };
        write(&a, batch).await;
    }

    for store in [&b, &a] {
        store.delete_bucket(&deleted).await.unwrap();

        let items = store.buckets(&[deleted.clone(), kept.clone()]).await.unwrap();
        assert!(items[0].is_none() && items[1].is_some());
        for (bucket, segments) in [(&deleted, 0), (&kept, 40)] {
            let page = store.segments(bucket, OpId::ZERO, OpId::MAX, 1 << 20).await.unwrap();
            assert_eq!(page.segments.len(), segments);
        }
        assert_eq!(*store.registered_buckets(&tag(1), None, 9).await.unwrap(), [kept.clone()][..]);
        let due = store.due_tasks(0, 9).await.unwrap();
        assert_eq!(due.iter().map(|due| &due.bucket).collect::<Vec<_>>(), [&kept]);
    }
}

pub async fn deleting_a_lookup_keeps_other_lookups([a, b]: [impl RecordStore + Sweep; 2]) {
    let deleted = tag(9);
    let kept = tag(10);
    let records =
        (0..1_100).map(|n| put(answer(&deleted, n))).chain([put(answer(&kept, 1))]).collect();
    write(&a, Batch { records, ..Batch::default() }).await;

    b.delete_lookup(&deleted).await.unwrap();
    for n in [0, 1, 500, 1_099] {
        assert!(!is_there(&a, answer(&deleted, n)).await);
    }
    assert!(is_there(&a, answer(&kept, 1)).await);
    b.delete_lookup(&deleted).await.unwrap();
}

pub async fn deleting_a_generation_keeps_other_generations(
    [a, b]: [impl ControlStore + RecordStore + Sweep; 2],
) {
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
