//! Invalid positions, uncommitted operations, and reads that miss operations.

use std::sync::Arc;

use serde_json::{Value, json};
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{
    Batch, CallScheduler, ControlStore, Embedded, Fault, FaultPlan, Faulty, OpLog, PortMethod,
    RecordStore,
};

use crate::client::{Device, Held, kinds};
use crate::server::{Next, Server, settings, token};
use crate::worker::{Worker, put};
use crate::{deployment, rows, synced};

fn with(name: &str, last: OpId) -> Device {
    let mut device = Device::default();
    device.buckets.insert(name.to_owned(), Held::foreign(last));
    device
}

fn first_operation(lines: &[Value]) -> Value {
    let data = lines.iter().find(|line| line.get("data").is_some()).unwrap();
    data["data"]["data"][0].clone()
}

#[tokio::test]
async fn an_invalid_position_is_cleared() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    worker.flush(&[put("everyone", "[]", "litter", "never committed")]).await;
    let uncommitted = worker.next_op();
    worker.crash().await;

    let checkpoint = worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    let name = worker.name("everyone", "[]");
    let ahead = OpId::from_i64(checkpoint.get() + 1).unwrap();
    let marker = OpId::from_i64(4_808_963_628_793_332_012).unwrap();

    for invalid in [uncommitted, ahead, marker, OpId::from_i64(1).unwrap()] {
        let mut device = with(&name, invalid);
        let lines = device.sync(&server, &token("u1")).await;

        let clear = json!({ "op_id": "1", "op": "CLEAR", "checksum": 0, "data": null });
        assert_eq!(first_operation(&lines), clear, "{invalid}");
        assert_eq!(device.rows(&name), rows([("n1", "one"), ("n2", "two")]), "{invalid}");
    }
}

#[tokio::test]
async fn an_invalid_position_in_an_empty_bucket_is_cleared_too() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let name = worker.name("own", r#"["u1"]"#);
    let mut device = with(&name, OpId::new(Epoch::new(9).unwrap(), 1));
    let mut lines = device.connect(&server, &token("u1")).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(first_operation(&seen)["op"], json!("CLEAR"));
    assert_eq!(device.rows(&name), rows([]));

    // The bucket goes on from there, on this connection and on the next.
    worker.commit(&[put("own", r#"["u1"]"#, "a1", "mine")]).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(first_operation(&seen)["op"], json!("PUT"));
    assert_eq!(device.rows(&name), rows([("a1", "mine")]));

    let seen = device.sync(&server, &token("u1")).await;
    assert_eq!(kinds(&seen), ["checkpoint", "checkpoint_complete"]);
}

#[tokio::test]
async fn a_client_cut_off_after_a_clear_is_cleared_again() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let name = worker.name("own", r#"["u1"]"#);
    let mut device = with(&name, OpId::new(Epoch::new(9).unwrap(), 1));
    let mut lines = device.connect(&server, &token("u1")).await;
    for _ in 0..2 {
        let Next::Line(line) = lines.next().await else { panic!("the stream ended") };
        device.take(&line);
    }

    drop(lines);
    assert_eq!(device.request()["buckets"][0]["after"], json!("1"));

    let seen = device.sync(&server, &token("u1")).await;
    assert_eq!(first_operation(&seen)["op"], json!("CLEAR"));
}

#[tokio::test]
async fn a_position_in_the_middle_of_a_segment_is_cleared() {
    let (mut worker, server) = deployment().await;
    let changes: Vec<_> = (0..5).map(|n| put("everyone", "[]", &format!("n{n}"), "x")).collect();
    worker.commit(&changes).await;
    let name = worker.name("everyone", "[]");
    let mut device = with(&name, OpId::new(Epoch::new(1).unwrap(), 3));
    let seen = device.sync(&server, &token("u1")).await;
    assert_eq!(first_operation(&seen)["op"], json!("CLEAR"));
    assert_eq!(device.rows(&name).len(), 5);
}

#[tokio::test]
async fn uncommitted_operations_of_a_crashed_run_are_never_served() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let (mut device, token) = synced(&server).await;
    for _ in 0..3 {
        worker.flush(&[put("everyone", "[]", "litter", "never committed")]).await;
        worker.crash().await;
    }

    worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    worker.flush(&[put("everyone", "[]", "litter", "not yet")]).await;
    let name = worker.name("everyone", "[]");
    device.sync(&server, &token).await;
    assert_eq!(device.rows(&name), rows([("n1", "one"), ("n2", "two")]));

    let mut fresh = Device::default();
    fresh.sync(&server, &token).await;
    assert_eq!(fresh.rows(&name), rows([("n1", "one"), ("n2", "two")]));
}

#[tokio::test]
async fn nobody_reads_above_the_visible_checkpoint() {
    let (mut worker, server) = deployment().await;
    let (status, body) = server.refusal(&token("u1"), "{}").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (503, &json!("PSYNC_S2302")));

    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    let name = worker.name("everyone", "[]");

    // Committed, but not visible: the visibility barrier is ahead.
    worker.flush(&[put("everyone", "[]", "n1", "two")]).await;
    worker.commit_invisible().await;
    let mut fresh = Device::default();
    fresh.sync(&server, &token).await;
    assert_eq!(fresh.rows(&name), rows([("n1", "one")]));

    let seen = fresh.sync(&server, &token).await;
    assert_eq!(kinds(&seen), ["checkpoint", "checkpoint_complete"]);

    // The barrier is passed: the open stream sees both changes at once.
    worker.commit(&[put("everyone", "[]", "n2", "three")]).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "data", "checkpoint_complete"]);
    assert_eq!(device.rows(&name), rows([("n1", "two"), ("n2", "three")]));
}

#[tokio::test]
async fn a_log_with_a_hole_is_never_completed() {
    let (mut worker, server) = deployment().await;
    let first = worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    worker.storage.delete_segments(&worker.key("everyone", "[]"), first).await.unwrap();
    let mut lines = server.stream(&token("u1"), &json!({ "raw_data": true })).await;
    let Next::Line(line) = lines.next().await else { panic!("no checkpoint") };
    assert!(line.starts_with(b"{\"checkpoint\""));
    assert!(matches!(lines.next().await, Next::Cut), "the connection is cut, not completed");
}

#[tokio::test]
async fn a_read_that_missed_segments_is_repeated_at_a_newer_checkpoint() {
    let (mut worker, server) = deployment().await;
    let key = worker.key("everyone", "[]");
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;

    // The log is gone and comes back while the stream tries again.
    let segments = worker.storage.segments(&key, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    worker.storage.delete_segments(&key, OpId::MAX).await.unwrap();
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    let batch = Batch { segments: segments.segments, ..Batch::default() };
    assert_eq!(worker.storage.write(batch.into()).await.unwrap(), []);

    worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(*kinds(&seen).last().unwrap(), "checkpoint_complete");

    let control = worker.storage.control().await.unwrap().unwrap();
    if device.completed != Some(control.committed.op) {
        device.until_complete(&mut lines).await;
    }

    let name = worker.name("everyone", "[]");
    assert_eq!(device.rows(&name), rows([("n1", "one"), ("n2", "two")]));
}

/// S3 refuses the read of an object that was deleted, if the role lacks the right to list the S3 bucket.
#[tokio::test]
async fn a_stream_survives_one_refused_read_and_is_cut_by_the_next() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), crate::CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let refused = |nth| FaultPlan::default().with(PortMethod::Segments, nth, Fault::Refuse);

    let once = Faulty::new(worker.storage.clone(), refused(1));
    let server = Server::start(once, settings()).await;
    let mut device = Device::default();
    let seen = device.sync(&server, &token("u1")).await;
    assert_eq!(*kinds(&seen).last().unwrap(), "checkpoint_complete");
    assert_eq!(device.rows(&worker.name("everyone", "[]")), rows([("n1", "one")]));

    let twice = Faulty::new(
        worker.storage.clone(),
        refused(1).with(PortMethod::Segments, 2, Fault::Refuse),
    );
    let server = Server::start(twice, settings()).await;
    let mut lines = server.stream(&token("u1"), &json!({ "raw_data": true })).await;
    let Next::Line(line) = lines.next().await else { panic!("no checkpoint") };
    assert!(line.starts_with(b"{\"checkpoint\""));
    assert!(matches!(lines.next().await, Next::Cut), "the right is missing");
}

#[tokio::test]
async fn a_checkpoint_that_becomes_too_old_while_it_is_read_is_replaced() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), crate::CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "0")]).await;

    let scheduler = Arc::new(CallScheduler::default());
    let store = Faulty::new(worker.storage.clone(), FaultPlan::default());
    let server = Server::start(store.with_scheduler(Arc::clone(&scheduler)), settings()).await;

    let mut device = Device::default();
    let token = token("u1");

    let commits = async {
        // The record, the config and the archive are read; the heads are not.
        (0..3).for_each(|_| scheduler.admit_one());
        scheduler.wait_for_calls(4).await;
        for text in ["1", "2", "3"] {
            worker.commit(&[put("everyone", "[]", "n1", text)]).await;
        }
        scheduler.admit_all();
    };

    let (lines, ()) = tokio::join!(device.sync(&server, &token), commits);
    assert_eq!(kinds(&lines), ["checkpoint", "data", "checkpoint_complete"]);
    assert_eq!(device.rows(&worker.name("everyone", "[]")), rows([("n1", "3")]));
    assert_eq!(device.completed, Some(worker.control.committed.op));
}
