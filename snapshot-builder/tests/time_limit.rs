//! A builder that may run only for so long, as a Lambda function.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use tidewater_ingest_worker::{Hold, LogWriter};
use tidewater_protocol::{Body, Epoch, RowKey};
use tidewater_snapshot_builder::{Options, Report, run_pass};
use tidewater_storage::{
    Control, Embedded, Faulty, Generation, GenerationId, Lsn, Nonce, SourceIdentity, Ticket,
    WorkList,
};
use tokio::time::Instant;

const ROWS: u64 = 20;
const NOW: u64 = 1_000;

fn options() -> Options {
    Options { threshold: ROWS, ..Options::default() }
}

/// A store with two buckets that are due.
async fn store() -> Embedded {
    let store = Embedded::temporary().unwrap();
    let epoch = Epoch::ZERO.next().unwrap();
    let source = SourceIdentity {
        system_id: "1".into(),
        database: "d".into(),
        timeline: 1,
        slot: "s".into(),
        slot_generation: 1,
    };
    let mut control = Control::first(epoch, Nonce("n".into()), source, Lsn(0));
    control.generation = GenerationId(epoch);
    let generation = Generation {
        id: control.generation,
        identity: String::new(),
        sync_config: String::new(),
        definitions: Vec::new(),
        lookups: Vec::new(),
        lookup_tables: Vec::new(),
        retired_at: None,
    };
    let writer =
        LogWriter::take_over(store.clone(), None, control, Vec::new(), Some(&generation)).await;
    let mut writer = writer.unwrap().with_due_every(ROWS);
    for bucket in ["aaaaaa[]", "bbbbbb[]"] {
        for id in 0..ROWS {
            let id = id.to_string();
            let row = RowKey::new("t", &id, "0");
            writer.append(bucket, Body::Put { row, data: "{}".into() });
        }
    }
    writer.commit(Lsn(1), Ticket(0), Hold::default()).await.unwrap();
    assert_eq!(store.due(NOW, 10).await.unwrap().len(), 2);
    store
}

async fn due(store: &Embedded, now: u64) -> usize {
    store.due(now, 10).await.unwrap().len()
}

#[tokio::test]
async fn without_time_nothing_is_begun() {
    let store = store().await;
    let report = run_pass(&store, &options(), NOW, Some(Instant::now())).await.unwrap();
    assert_eq!(report, Report { left: 2, ..Report::default() });
    assert_eq!(due(&store, NOW).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_a_pass_may_does_not_keep_the_others_waiting() {
    let store = store().await;
    let slow = Faulty::new(store.clone(), "put_object_file:1:delay_3600000ms".parse().unwrap());
    let end = Some(Instant::now() + Duration::from_secs(900));
    let report = run_pass(&slow, &options(), NOW, end).await.unwrap();
    assert_eq!(report, Report { left: 2, ..Report::default() });

    let report = run_pass(&slow, &options(), NOW, None).await.unwrap();
    assert_eq!((report.looked_at, report.published), (1, 1), "the slow one has to wait");
    assert_eq!(due(&store, NOW + 3_600).await, 1, "but not for ever");
}

#[tokio::test(start_paused = true)]
async fn what_a_pass_has_no_time_left_for_is_due_at_once() {
    let store = store().await;
    let slow = Faulty::new(store.clone(), "put_object:2:delay_3600000ms".parse().unwrap());
    let end = Some(Instant::now() + Duration::from_secs(900));
    let report = run_pass(&slow, &options(), NOW, end).await.unwrap();
    assert_eq!((report.published, report.left), (1, 1));
    assert_eq!(due(&store, NOW).await, 1);
}
