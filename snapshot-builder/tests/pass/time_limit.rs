//! A builder with a time limit, as in a Lambda function.

use std::time::Duration;

use tidewater_snapshot_builder::{Options, Report, run_pass};
use tidewater_storage::{BucketKey, CompactionQueue, Embedded, Faulty};
use tokio::time::Instant;

use crate::NOW;
use crate::worker::{begun, commit, put};

const ROWS: u64 = 20;

fn options() -> Options {
    Options { threshold: ROWS, ..Options::default() }
}

/// Returns a store with two buckets that are due.
async fn store() -> Embedded {
    let store = Embedded::temporary().unwrap();
    let mut writer = begun(&store, Some(&[])).await;
    for bucket in ["aaaaaa[]", "bbbbbb[]"] {
        put(&mut writer, &BucketKey::from_stored(bucket), ROWS);
    }
    commit(&mut writer).await;
    assert_eq!(store.due_tasks(NOW, 10).await.unwrap().len(), 2);
    store
}

async fn due(store: &Embedded, now: u64) -> usize {
    store.due_tasks(now, 10).await.unwrap().len()
}

#[tokio::test]
async fn without_time_no_bucket_is_examined() {
    let store = store().await;
    let report = run_pass(&store, &options(), NOW, Some(Instant::now())).await.unwrap();
    assert_eq!(report, Report { left: 2, ..Report::default() });
    assert_eq!(due(&store, NOW).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_takes_longer_than_a_pass_is_deferred() {
    let store = store().await;
    let slow = Faulty::new(store.clone(), "put_object_file:1:delay_3600000ms".parse().unwrap());
    let end = Some(Instant::now() + Duration::from_secs(900));
    let report = run_pass(&slow, &options(), NOW, end).await.unwrap();
    assert_eq!(report, Report { left: 2, ..Report::default() });

    let report = run_pass(&slow, &options(), NOW, None).await.unwrap();
    assert_eq!((report.examined, report.published), (1, 1), "the slow one has to wait");
    assert_eq!(due(&store, NOW + 3_600).await, 1, "but not for ever");
}

#[tokio::test(start_paused = true)]
async fn buckets_without_time_left_stay_due() {
    let store = store().await;
    let slow = Faulty::new(store.clone(), "put_object:2:delay_3600000ms".parse().unwrap());
    let end = Some(Instant::now() + Duration::from_secs(900));
    let report = run_pass(&slow, &options(), NOW, end).await.unwrap();
    assert_eq!((report.published, report.left), (1, 1));
    assert_eq!(due(&store, NOW).await, 1);
}
