//! The cost of calls: request units that the emulator counts by DynamoDB's rules and the store adds up.

use std::time::Duration;

use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{
    Batch, BucketStore, ChangeName, ChangeRing, ChangedNames, ClosedEpoch, Committed,
    CompactionQueue, CompactionTask, Control, ControlStore, Embedded, GenerationId, Lsn, OpLog,
    RecordKey, RecordStore, Ticket, Truncation, Visible, WriteCheckpointStore,
};
use tidewater_storage_aws::{AwsStore, RequestUnits, Table};

use crate::emulator;
use crate::given::{bucket, first_control, lookup, op, put, record, records, row, segment, write};

/// Returns the request units that a call consumes.
async fn cost_of(store: &AwsStore<Embedded>, call: impl Future<Output = ()>) -> RequestUnits {
    let before = store.consumed().total();
    call.await;
    let after = store.consumed().total();
    RequestUnits { write: after.write - before.write, read: after.read - before.read }
}

fn written(units: f64) -> RequestUnits {
    RequestUnits { write: units, read: 0.0 }
}

fn read(units: f64) -> RequestUnits {
    RequestUnits { write: 0.0, read: units }
}

fn closed(n: u32) -> ClosedEpoch {
    let epoch = Epoch::new(n).unwrap();
    ClosedEpoch { epoch, last_committed: OpId::new(epoch, 9_876_543_210 + u64::from(n) * 7_919) }
}

/// Returns a control record with the maximum number of closed epochs and a full ring of changes.
fn long_record() -> Control {
    let at =
        Committed { op: closed(4_016).last_committed, lsn: Lsn(1 << 42), ticket: Ticket(1 << 30) };
    let truncated = vec![Truncation { table: 12, op: at.op }];
    // More revisions than the ring holds.
    let changes = (1..60_u64).fold(ChangeRing::default(), |ring, revision| {
        let mut names = ChangedNames::default();
        for number in 0..5 {
            names.insert(ChangeName::of_bucket(&bucket(&format!("[{revision},{number}]"))));
        }
        ring.with(revision, &names)
    });
    assert!(!changes.is_empty());
    let generation = GenerationId(Epoch::new(3_000).unwrap());
    Control {
        recent: (4_000..4_016).map(closed).collect(),
        visible: Some(Visible {
            at,
            generation,
            truncated: truncated.clone(),
            current_at: Some(u64::from(u32::MAX) * 400),
        }),
        committed: at,
        truncated,
        changes,
        ..first_control()
    }
}

#[tokio::test]
async fn a_lone_transaction_costs_four_units() {
    let store = emulator::empty_store().await;
    let key = bucket("[\"0190a4e6-7d1e-7a3e-8f43-b1d4c1b0a001\"]");
    store.swap_control(None, &long_record()).await.unwrap();
    let head = RecordKey::Bucket(key.clone());
    let writes = vec![write(&head, None, record(1, 20)), write(&row("[1]"), None, record(1, 200))];
    put(&store, records(writes)).await;

    let transaction = async {
        let batch = Batch {
            segments: vec![segment(&key, 2, 400)],
            records: vec![
                write(&head, Some(1), record(2, 20)),
                write(&row("[1]"), Some(1), record(2, 200)),
            ],
            ..Batch::default()
        };
        put(&store, batch).await;
        store.swap_control(Some(1), &Control { revision: 2, ..long_record() }).await.unwrap();
    };
    assert_eq!(cost_of(&store, transaction).await, written(4.0));

    let consumed = store.consumed();
    assert_eq!(consumed.of(Table::Segments), written(1.0));
    assert_eq!(consumed.of(Table::Control), written(2.0));
    assert_eq!(consumed.of(Table::Buckets), written(2.0));
}

#[tokio::test]
async fn a_write_costs_a_unit_for_each_started_kilobyte() {
    let store = emulator::empty_store().await;
    for (n, bytes, units) in [(1, 10, 1.0), (2, 900, 1.0), (3, 1_024, 2.0), (4, 10_200, 10.0)] {
        let expected = (n > 1).then_some(n - 1);
        let batch = records(vec![write(&row("[1]"), expected, record(n, bytes))]);
        assert_eq!(cost_of(&store, put(&store, batch)).await, written(units), "{bytes} bytes");
    }

    // Replacing a larger record costs as much as the larger one did, and so does a conflict.
    let smaller = write(&row("[1]"), Some(1), record(5, 10));
    let conflict = async { drop(store.write(records(vec![smaller]).into()).await.unwrap()) };
    assert_eq!(cost_of(&store, conflict).await, written(10.0));
    let done = put(&store, records(vec![write(&row("[1]"), Some(4), record(5, 10))]));
    assert_eq!(cost_of(&store, done).await, written(10.0));
}

#[tokio::test]
async fn registry_entries_and_compaction_tasks_cost_a_unit_each() {
    let store = emulator::empty_store().await;
    let buckets: Vec<_> = (0..60).map(|n| bucket(&format!("[{n}]"))).collect();
    let tasks = buckets
        .iter()
        .take(10)
        .map(|bucket| CompactionTask::immediate(bucket.clone(), op(1)))
        .collect();
    let batch = Batch { registry: buckets, compaction_tasks: tasks, ..Batch::default() };
    assert_eq!(cost_of(&store, put(&store, batch)).await, written(70.0));
}

#[tokio::test]
async fn an_acknowledged_upload_costs_two_units() {
    let store = emulator::empty_store().await;
    let client = tidewater_storage::ClientKey { user_id: "u1".into(), client_id: "c1".into() };
    let upload = async {
        let requests = store.write_requests(&client).await.unwrap();
        let ticket = store.take_ticket().await.unwrap();
        let requests = requests.with(1, ticket).unwrap();
        assert!(store.swap_write_requests(&client, &requests).await.unwrap());
    };
    let cost = cost_of(&store, upload).await;
    assert_eq!((cost.write, cost.read), (2.0, 1.0));
}

#[tokio::test]
async fn a_poll_costs_a_unit_for_the_control_record_and_one_for_each_bucket() {
    let store = emulator::empty_store().await;
    store.swap_control(None, &long_record()).await.unwrap();
    let buckets: Vec<_> = (0..150).map(|n| bucket(&format!("[{n}]"))).collect();
    let heads =
        buckets.iter().map(|key| write(&RecordKey::Bucket(key.clone()), None, record(1, 20)));
    put(&store, records(heads.collect())).await;
    let poll = async {
        store.control().await.unwrap();
        assert_eq!(store.buckets(&buckets).await.unwrap().len(), 150);
    };
    assert_eq!(cost_of(&store, poll).await, read(151.0));
}

#[tokio::test]
async fn segments_are_read_at_half_the_price() {
    let store = emulator::empty_store().await;
    let key = bucket("[]");
    let segments = (1..=4).map(|n| segment(&key, n, 4_090)).collect();
    put(&store, Batch { segments, ..Batch::default() }).await;
    let all = async {
        store.segments(&key, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    };
    // The items have a little more than 16 KB, which is five started units of 4 KB.
    assert_eq!(cost_of(&store, all).await, read(2.5));
}

#[tokio::test]
async fn a_lookup_row_costs_a_unit() {
    let store = emulator::empty_store().await;
    let call = put(&store, records(vec![write(&lookup("[\"u1\"]", "[1]"), None, record(1, 40))]));
    assert_eq!(cost_of(&store, call).await, written(1.0));
}

/// An idle worker waits all day, and an idle builder looks at its queue each minute.
#[tokio::test]
async fn what_an_idle_deployment_does_costs_little() {
    let [store, other] = emulator::two_handles_of_an_empty_store().await;
    other.take_ticket().await.unwrap();
    let waiting = cost_of(&store, async {
        let found = store.wait_for_ticket(Ticket(0), Duration::from_secs(20)).await.unwrap();
        assert_eq!(found, Ticket(1), "the counter need not be read again");
    });
    assert_eq!(waiting.await, read(0.5));

    let looking = cost_of(&store, async {
        assert_eq!(store.due_tasks(u64::MAX, 10).await.unwrap(), []);
    });
    // Half a unit for each of the 16 shards.
    assert_eq!(looking.await, read(8.0));
}
