//! Metrics of the calls under faults, compared with the faults that happened.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tidewater_storage::{Batch, BucketKey, RecordKey, RecordStore, Tag};
use tidewater_storage_aws::metrics::{
    CALLS_TOTAL, READ_UNITS_TOTAL, RETRIES_TOTAL, THROTTLES_TOTAL, UNPROCESSED_ITEMS_TOTAL,
    WRITE_UNITS_TOTAL,
};

use crate::emulator;
use crate::faults::{Fault, Proxy};
use crate::given::{self, record, write};

/// Rows that a test writes: enough for each kind of fault to occur many times.
const ROWS: u64 = 200;

fn row(n: u64) -> RecordKey {
    given::row(&format!("[{n}]"))
}

/// Returns the sum of a metric's series that have these labels.
fn sum(recorded: &PrometheusHandle, name: &str, labels: &[&str]) -> u64 {
    recorded
        .render()
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn throttles_retries_and_unprocessed_items_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let recorded = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let proxy = Proxy::start(emulator::endpoint(), 150, 7).await;
    let [store, _] = emulator::two_handles(&proxy.endpoint).await;
    let tag = Tag::from_bits(1);
    let batch = Batch {
        records: (1..=ROWS).map(|n| write(&row(n), None, record(n, 9))).collect(),
        registry: (0..ROWS).map(|n| BucketKey::new(&tag, &format!("[{n}]"))).collect(),
        ..Batch::default()
    };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);

    // Each of these faults costs one attempt, and every call has succeeded in the end.
    let throttled = u64::from(proxy.done(Fault::Throttled));
    let failed = u64::from(proxy.done(Fault::Failed));
    let lost = u64::from(proxy.done(Fault::ReplyLost));
    assert!(throttled > 0 && failed > 0 && lost > 0);
    assert_eq!(sum(&recorded, THROTTLES_TOTAL, &[]), throttled);
    assert_eq!(sum(&recorded, RETRIES_TOTAL, &[]), throttled + failed + lost);
    assert_eq!(sum(&recorded, CALLS_TOTAL, &["call=\"UpdateItem\"", "result=\"ok\""]), ROWS);

    assert!(proxy.done(Fault::Unprocessed) > 0);
    assert!(sum(&recorded, UNPROCESSED_ITEMS_TOTAL, &["call=\"BatchWriteItem\""]) > 0);
}

#[tokio::test]
async fn failed_conditions_and_consumed_units_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let recorded = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let store = emulator::empty_store().await;
    given::put(&store, given::records(vec![write(&row(1), None, record(1, 3_000))])).await;
    let rival = given::records(vec![write(&row(1), None, record(2, 9))]);
    assert_eq!(store.write(rival.into()).await.unwrap().len(), 1);
    assert!(store.records(&[row(1)]).await.unwrap()[0].is_some());

    let failed = ["call=\"UpdateItem\"", "result=\"condition_failed\""];
    assert_eq!(sum(&recorded, CALLS_TOTAL, &failed), 1);
    // The item has 3 KB, for which both writes are charged: 4 and 3 or 4 units.
    let table = ["table=\"source-rows\""];
    assert_eq!(sum(&recorded, WRITE_UNITS_TOTAL, &table) as f64, store.consumed().total().write);
    assert_eq!(sum(&recorded, READ_UNITS_TOTAL, &table), 1);
}

#[tokio::test]
async fn a_call_that_stays_throttled_is_counted_as_throttled() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let recorded = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let throttled = r#"{"__type": "x#ProvisionedThroughputExceededException"}"#;
    let endpoint = crate::unreliable::always(400, throttled).await;
    let store = crate::unreliable::store_at(&endpoint);
    assert!(store.records(&[row(1)]).await.is_err());

    let labels = ["call=\"BatchGetItem\"", "result=\"throttled\""];
    assert_eq!(sum(&recorded, CALLS_TOTAL, &labels), 1);
    assert_eq!(sum(&recorded, THROTTLES_TOTAL, &labels[..1]), 8, "the attempts of one call");
    assert_eq!(sum(&recorded, RETRIES_TOTAL, &labels[..1]), 7);
}
