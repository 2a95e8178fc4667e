//! Limits on streams, and their ends.

use std::time::Duration;

use serde_json::json;
use tidewater_functions::Settings;
use tidewater_storage::{Embedded, FaultPlan, Faulty, PortMethod};

use crate::client::{Device, kinds};
use crate::server::{Next, Server, settings, token, token_with, unix_now};
use crate::worker::{Worker, put};
use crate::{CONFIG, deployment};

async fn one_row() -> Worker {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    worker
}

#[tokio::test]
async fn a_stream_over_the_quota_gets_an_empty_429() {
    let worker = one_row().await;
    let mut limited = settings();
    limited.quotas.connections_max = 2;
    let server = Server::start(worker.storage.clone(), limited).await;
    let token = token("u1");
    let mut first = Device::default().connect(&server, &token).await;
    let _second = Device::default().connect(&server, &token).await;
    let reply = server.post("/sync/stream", &token, "{}").await;
    assert_eq!(reply.status().as_u16(), 429);
    assert_eq!(reply.bytes().await.unwrap().len(), 0);

    Device::default().until_complete(&mut first).await;

    // A client that disconnects makes room.
    drop(first);
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let reply = server.post("/sync/stream", &token, "{}").await;
            if reply.status().as_u16() == 200 {
                break;
            }
        }
    });
    again.await.expect("a client that disconnected makes room");
}

#[tokio::test]
async fn an_answer_ends_before_its_limit_and_the_client_gets_the_rest_by_the_next() {
    const LIMIT: usize = 4_600_000;
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let text = "x".repeat(100_000);
    for id in 0..100 {
        worker.commit(&[put("everyone", "[]", &id.to_string(), &text)]).await;
    }
    let limited = Settings { answer_bytes_max: Some(LIMIT), ..settings() };
    let server = Server::start(worker.storage.clone(), limited).await;

    let mut device = Device::default();
    let mut answers = 0;
    while device.completed.is_none() {
        let mut lines = device.connect(&server, &token("u1")).await;
        answers += 1;
        let mut bytes = 0;
        loop {
            match lines.next().await {
                Next::Line(line) => {
                    bytes += line.len() + 1;
                    device.take(&line);
                    if device.completed.is_some() {
                        break;
                    }
                }
                Next::End => break,
                Next::Cut => panic!("an answer ends with a whole line"),
            }
        }
        assert!(bytes <= LIMIT, "{bytes} bytes");
    }
    // 10 MB, in lines of 4 MB.
    assert_eq!(answers, 3);
    assert_eq!(device.rows(&worker.name("everyone", "[]")).len(), 100);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let now = unix_now();
    let short = token_with(&json!({ "sub": "u1", "iat": now, "exp": now + 2, "aud": "app" }));
    let mut device = Device::default();
    let mut lines = device.connect(&server, &short).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint", "data", "checkpoint_complete"]);

    let Next::Line(line) = lines.next().await else { panic!("the stream ended without a line") };
    assert_eq!(line, br#"{"token_expires_in":0}"#);
    assert!(matches!(lines.next().await, Next::End));

    // Within the clock skew the token is accepted, and the stream ends with the same line.
    let mut lines = device.connect(&server, &short).await;
    let Next::Line(line) = lines.next().await else { panic!("the stream ended without a line") };
    assert_eq!(line, br#"{"token_expires_in":0}"#);
    assert!(matches!(lines.next().await, Next::End));
}

#[tokio::test]
async fn an_up_to_date_stream_is_kept_open_for_the_set_time() {
    let mut worker = one_row().await;
    let mut polled = settings();
    polled.keep_open = Some(Duration::ZERO);
    let server = Server::start(worker.storage.clone(), polled).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    assert!(matches!(lines.next().await, Next::End));

    // A client that waits for a write checkpoint is given the time to see it.
    server.get("/write-checkpoint2.json?client_id=c1", Some(&token)).await;
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    worker.cover(tidewater_storage::Ticket(1)).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.write_checkpoint.map(|n| n.get()), Some(1));
    assert!(matches!(lines.next().await, Next::End));
}

#[tokio::test]
async fn a_shutdown_ends_streams_after_a_whole_line_and_refuses_new_ones() {
    let worker = one_row().await;
    let ours = settings();
    let shutdown = ours.shutdown.clone();
    let server = Server::start(worker.storage.clone(), ours).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    shutdown.cancel();
    assert!(matches!(lines.next().await, Next::End));
    let (status, body) = server.refusal(&token, "{}").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (503, &json!("PSYNC_S2003")));
}

#[tokio::test]
async fn nothing_is_prepared_for_a_client_that_does_not_read() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;

    // Each page is one line of about 4 MB.
    let megabyte = "x".repeat(1 << 20);
    for number in 0..100 {
        let id = format!("n{number}");
        worker.commit(&[put("everyone", "[]", &id, &megabyte)]).await;
    }

    let store = Faulty::new(worker.storage.clone(), FaultPlan::default());
    let server = Server::start(store.clone(), settings()).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    let mut taken = 0;
    device.completed = None;
    while device.completed.is_none() {
        let Next::Line(line) = lines.next().await else { panic!("the stream ended") };
        device.take(&line);
        taken += 1;
        // Two or three lines fit into the sockets, and one or two are on their way there.
        let read = store.calls(PortMethod::Segments);
        assert!(read <= taken + 6, "{read} pages were read for a client that took {taken} lines");
    }

    assert_eq!(device.rows(&worker.name("everyone", "[]")).len(), 100);
    assert!(store.calls(PortMethod::Segments) >= 20);
}
