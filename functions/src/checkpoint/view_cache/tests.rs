use bytes::Bytes;
use tidewater_protocol::Checksum;
use tidewater_storage::{
    Base, Batch, BucketHead, BucketKey, BucketStore, Catalog, Committed, ControlStore, Embedded,
    FaultPlan, Faulty, Nonce, PortMethod, RecordKey, RecordStore, RecordWrite, SwapOutcome,
    Version, VersionedRecord,
};

use super::super::view::{BucketState, CATALOG_AGE_MAX};
use super::*;
use crate::test_store::store;

fn op(epoch: u32, sequence: u64) -> OpId {
    OpId::new(Epoch::new(epoch).unwrap(), sequence)
}

/// Stores a bucket that was written after the visible checkpoint.
async fn bucket(storage: &Embedded) -> BucketKey {
    let bucket = BucketKey::from_stored("aaaaaa[]");
    let head = BucketHead { last: op(1, 1), ..BucketHead::default() };
    let version = Version { op: head.last, value: Some(head.encode()) };
    let record = VersionedRecord { floor: OpId::ZERO, versions: vec![version] };
    let write = RecordWrite {
        key: RecordKey::Bucket(bucket.clone()),
        expected_newest: None,
        record: record.into(),
    };
    let batch = Batch { records: vec![write], ..Batch::default() };
    assert_eq!(storage.write(batch.into()).await.unwrap(), []);
    bucket
}

/// Commits up to an op id of the current epoch.
async fn commit(storage: &Embedded, op: OpId) {
    let control = storage.control().await.unwrap().unwrap();
    let next = control.after_commit(Committed { op, ..control.committed }, Vec::new(), None);
    let swapped = storage.swap_control(Some(control.revision), &next).await.unwrap();
    assert_eq!(swapped, SwapOutcome::Swapped);
}

/// Begins another run of the worker.
async fn take_over(storage: &Embedded) -> Epoch {
    let control = storage.control().await.unwrap().unwrap();
    let (next, archived) = control.after_takeover(Nonce("next".to_owned())).unwrap();
    storage.archive_epochs(&archived).await.unwrap();
    let swapped = storage.swap_control(Some(control.revision), &next).await.unwrap();
    assert_eq!(swapped, SwapOutcome::Swapped);
    next.epoch
}

async fn state(
    storage: &Embedded,
    views: &ViewCache<Embedded>,
    bucket: &BucketKey,
) -> Result<BucketState, CheckpointError> {
    let view = views.latest().await.unwrap();
    Ok(view.buckets(storage, std::slice::from_ref(bucket)).await?.remove(0))
}

#[tokio::test(start_paused = true)]
async fn a_catalog_published_between_checkpoints_is_seen_within_seconds() {
    let storage = store().await;
    let bucket = bucket(&storage).await;
    let views = ViewCache::new(storage.clone());
    let first = state(&storage, &views, &bucket).await.unwrap();
    assert_eq!(first.catalog.floor, OpId::ZERO);

    let published = op(1, 1);
    let catalog: Bytes = Catalog { floor: published, ..Catalog::default() }.encode();
    assert!(storage.swap_catalog(&bucket, 0, &catalog).await.unwrap());

    // Readers of a checkpoint share the catalog for a while.
    let shared = state(&storage, &views, &bucket).await.unwrap();
    assert_eq!(shared.catalog.floor, OpId::ZERO);

    // A client that needs it later has it read again, although there is no newer checkpoint.
    tokio::time::advance(CATALOG_AGE_MAX).await;
    assert!(views.latest().await.unwrap().has_old_catalogs());
    let young = views.with_young_catalogs().await.unwrap();
    assert!(!young.has_old_catalogs());
    let later = young.buckets(&storage, std::slice::from_ref(&bucket)).await.unwrap().remove(0);
    assert_eq!(later.catalog.floor, published);
}

/// Returns how often buckets were read.
async fn reads_of_buckets(views: &ViewCache<Counted>, storage: &Counted, key: &BucketKey) -> u64 {
    let before = storage.calls(PortMethod::Buckets);
    let view = views.latest().await.unwrap();
    view.buckets(storage, std::slice::from_ref(key)).await.unwrap();
    storage.calls(PortMethod::Buckets) - before
}

type Counted = Faulty<Embedded>;

#[tokio::test(start_paused = true)]
async fn what_was_read_at_a_checkpoint_is_known_until_the_next_one() {
    let embedded = store().await;
    let bucket = bucket(&embedded).await;
    commit(&embedded, op(1, 1)).await;
    let storage = Faulty::new(embedded.clone(), FaultPlan::default());
    let views = ViewCache::new(storage.clone());
    assert_eq!(reads_of_buckets(&views, &storage, &bucket).await, 1);

    // Neither time nor commits that leave the checkpoint change anything of it.
    for _ in 0..3 {
        tokio::time::advance(CATALOG_AGE_MAX).await;
        commit(&embedded, op(1, 1)).await;
        assert_eq!(reads_of_buckets(&views, &storage, &bucket).await, 0);
    }

    commit(&embedded, op(1, 2)).await;
    assert_eq!(reads_of_buckets(&views, &storage, &bucket).await, 1);
    // The store may have been restored between two runs.
    take_over(&embedded).await;
    assert_eq!(reads_of_buckets(&views, &storage, &bucket).await, 1);
}

#[tokio::test]
async fn operations_of_archived_epochs_stay_committed() {
    let storage = store().await;
    let bucket = bucket(&storage).await;
    commit(&storage, op(1, 1)).await;
    let views = ViewCache::new(storage.clone());
    for _ in 0..20 {
        let head = state(&storage, &views, &bucket).await.unwrap().head;
        assert_eq!(head.last, op(1, 1));
        let epoch = take_over(&storage).await;
        commit(&storage, OpId::new(epoch, 1)).await;
    }
    assert!(!storage.archived_epochs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_base_ahead_of_the_checkpoint_makes_it_too_old() {
    let storage = store().await;
    let bucket = bucket(&storage).await;
    commit(&storage, op(1, 1)).await;

    for (revision, to, is_served) in [(0, op(1, 1), true), (1, op(1, 2), false)] {
        let base = Base {
            to,
            checksum: Checksum::ZERO,
            remainder: Checksum::ZERO,
            rows: 0,
            count: 0,
            name: "base".to_owned(),
            marker: 0,
            files: 0,
            frames: 1,
        };
        let catalog = Catalog { base: Some(base), ..Catalog::default() };
        assert!(storage.swap_catalog(&bucket, revision, &catalog.encode()).await.unwrap());
        let state = state(&storage, &ViewCache::new(storage.clone()), &bucket).await;

        assert_eq!(state.is_ok(), is_served, "{to}");
        assert!(is_served || matches!(state, Err(CheckpointError::TooOld)));
    }
}
