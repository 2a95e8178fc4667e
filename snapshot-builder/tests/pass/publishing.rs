//! Publication of bases, and deletion of what they replace, under faults.

use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::OpId;
use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{
    Base, BucketKey, BucketStore, CallScheduler, Catalog, CompactionQueue, Embedded, Faulty,
    ObjectStore, OpLog, PortMethod,
};

use crate::NOW;
use crate::worker::{Writer, begun, commit, put};

const ROWS: u64 = 20;
const HORIZON: u64 = 1_000_000;
const GRACE: u64 = 10_000;
/// Seconds until a bucket that failed is examined again.
const PAUSE: u64 = 60;

fn options() -> Options {
    Options {
        threshold: ROWS,
        horizon: Duration::from_secs(HORIZON),
        grace: Duration::from_secs(GRACE),
        ..Options::default()
    }
}

fn bucket() -> BucketKey {
    BucketKey::from_stored("aaaaaa[]")
}

/// Returns a store with a bucket that is due, and the run that has filled it.
async fn store() -> (Embedded, Writer) {
    let store = Embedded::temporary().unwrap();
    let mut writer = begun(&store, Some(&[])).await;
    put(&mut writer, &bucket(), ROWS);
    commit(&mut writer).await;
    (store, writer)
}

/// Runs a pass that publishes one base.
async fn publish(store: &Embedded, now: u64) -> Base {
    let report = run_pass(store, &options(), now, None).await.unwrap();
    assert_eq!(report.published, 1);
    catalog(store).await.base.unwrap()
}

/// Runs a pass over a store with this fault, which makes the bucket fail.
async fn fail(store: &Embedded, fault: &str, now: u64) {
    let failing = Faulty::new(store.clone(), fault.parse().unwrap());
    let report = run_pass(&failing, &options(), now, None).await.unwrap();
    assert_eq!((report.failed, report.published), (1, 0));
}

async fn catalog(store: &Embedded) -> Catalog {
    let item = store.buckets(&[bucket()]).await.unwrap().pop().unwrap().unwrap();
    Catalog::decode(&item.catalog).unwrap()
}

async fn segments(store: &Embedded) -> usize {
    let page = store.segments(&bucket(), OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    page.segments.len()
}

/// Returns the size of each of the base's objects, or `None` for one that does not exist.
async fn objects(store: &Embedded, base: &Base) -> Vec<Option<u64>> {
    let mut found = Vec::new();
    for object in base.objects() {
        let content = store.object_range(&object, 0..u64::MAX).await.unwrap();
        found.push(content.map(|content| content.len() as u64));
    }
    found
}

#[tokio::test]
async fn segments_are_there_for_the_grace_period_after_the_floor_above_them_is_stored() {
    let (store, _writer) = store().await;
    let base = publish(&store, NOW).await;

    let mut now = NOW + HORIZON;
    fail(&store, "swap_catalog:1:fail", now).await;
    assert_eq!((catalog(&store).await.floor, segments(&store).await), (OpId::ZERO, 1));

    now += PAUSE;
    run_pass(&store, &options(), now, None).await.unwrap();
    assert_eq!((catalog(&store).await.floor, segments(&store).await), (base.to, 1));
    run_pass(&store, &options(), now + GRACE - 1, None).await.unwrap();
    assert_eq!(segments(&store).await, 1);
    run_pass(&store, &options(), now + GRACE, None).await.unwrap();
    assert_eq!(segments(&store).await, 0);
}

#[tokio::test]
async fn a_replaced_base_exists_until_the_grace_period_is_over() {
    let (store, mut writer) = store().await;
    let former = publish(&store, NOW).await;
    put(&mut writer, &bucket(), ROWS);
    commit(&mut writer).await;

    fail(&store, "swap_catalog:1:fail", NOW).await;
    assert_eq!(catalog(&store).await.base.as_ref(), Some(&former));
    assert!(!objects(&store, &former).await.contains(&None));

    let now = NOW + PAUSE;
    let next = publish(&store, now).await;
    assert_ne!(next.to, former.to);
    run_pass(&store, &options(), now + GRACE - 1, None).await.unwrap();
    assert!(!objects(&store, &former).await.contains(&None));
    run_pass(&store, &options(), now + GRACE, None).await.unwrap();
    assert!(objects(&store, &former).await.iter().all(Option::is_none));
    assert!(!objects(&store, &next).await.contains(&None));
}

#[tokio::test]
async fn a_base_whose_publication_got_no_reply_is_kept() {
    let (store, _writer) = store().await;
    fail(&store, "swap_catalog:1:lose_reply", NOW).await;
    let base = catalog(&store).await.base.unwrap();
    assert!(!objects(&store, &base).await.contains(&None));

    let report = run_pass(&store, &options(), NOW + PAUSE, None).await.unwrap();
    assert_eq!((report.examined, report.published, report.failed), (1, 0, 0));
    assert_eq!(catalog(&store).await.base.as_ref(), Some(&base));
}

#[tokio::test]
async fn a_deletion_that_failed_is_completed_by_a_later_pass() {
    let (store, mut writer) = store().await;
    let former = publish(&store, NOW).await;
    put(&mut writer, &bucket(), ROWS);
    commit(&mut writer).await;
    publish(&store, NOW).await;

    let now = NOW + GRACE;
    fail(&store, "delete_object:2:fail", now).await;
    assert_eq!(catalog(&store).await.retired[0].base, former);
    run_pass(&store, &options(), now + PAUSE, None).await.unwrap();
    assert!(catalog(&store).await.retired.is_empty());
    assert!(objects(&store, &former).await.iter().all(Option::is_none));
}

#[tokio::test]
async fn of_two_concurrent_builders_one_publishes_and_the_other_deletes_only_its_own_objects() {
    let (store, _writer) = store().await;
    let scheduler = Arc::new(CallScheduler::default());
    let late = Faulty::new(store.clone(), "".parse().unwrap()).with_scheduler(scheduler.clone());
    let pass = {
        let late = late.clone();
        tokio::spawn(async move { run_pass(&late, &options(), NOW, None).await })
    };
    // The manifest is stored last: what waits then is the write of the catalog.
    scheduler.wait_until_idle().await;
    while late.calls(PortMethod::PutObject) == 0 {
        scheduler.admit_one();
        scheduler.wait_until_idle().await;
    }
    let base = publish(&store, NOW).await;
    scheduler.admit_all();
    let report = pass.await.unwrap().unwrap();
    assert_eq!((report.examined, report.published, report.failed), (1, 0, 0));
    assert_eq!((late.calls(PortMethod::SwapCatalog), late.calls(PortMethod::Complete)), (1, 0));

    assert_eq!(catalog(&store).await.base.as_ref(), Some(&base));
    let bytes: Option<u64> = objects(&store, &base).await.into_iter().sum();
    assert_eq!(bytes, Some(store.disk_usage().await.unwrap().object_bytes));
    let later = store.due_tasks(NOW + HORIZON, 10).await.unwrap();
    assert_eq!(later.len(), 1, "the log behind the base is still to be deleted one day");
}
