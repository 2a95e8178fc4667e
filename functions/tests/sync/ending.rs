//! Streams with a deadline, as in a function with a time limit.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Extension;
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tidewater_functions::{StreamDeadline, router};
use tidewater_storage::Embedded;
use tokio::time::{Instant, advance};
use tower::ServiceExt;

use crate::CONFIG;
use crate::client::{Device, kinds};
use crate::server::{settings, token};
use crate::worker::{Worker, put};

/// Returns a worker with so many rows that they are sent as several lines.
async fn much_to_send() -> Worker {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let megabyte = "x".repeat(1 << 20);
    for number in 0..6 {
        worker.commit(&[put("everyone", "[]", &format!("n{number}"), &megabyte)]).await;
    }
    worker
}

/// Opens a stream of a router whose streams end after a time.
async fn stream(worker: &Worker, device: &Device, ends_after: Duration) -> BodyDataStream {
    let deadline = StreamDeadline(Instant::now() + ends_after);
    let router = router(worker.storage.clone(), settings()).layer(Extension(deadline));
    let request = Request::post("/sync/stream")
        .header("authorization", format!("Bearer {}", token("u1")))
        .header("content-type", "application/json")
        .body(Body::from(device.request().to_string()))
        .unwrap();
    router.oneshot(request).await.unwrap().into_body().into_data_stream()
}

/// Returns the lines of the next chunk, which has whole lines only. Empty at the end.
async fn next_lines(chunks: &mut BodyDataStream, device: &mut Device) -> Vec<Value> {
    let Some(chunk) = chunks.next().await else { return Vec::new() };
    let chunk = chunk.unwrap();
    let lines = chunk.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n');
    lines
        .map(|line| {
            device.take(line);
            serde_json::from_slice(line).unwrap()
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_behind_is_handed_over_and_still_served() {
    let worker = much_to_send().await;
    let mut device = Device::default();
    let mut chunks = stream(&worker, &device, Duration::from_secs(100)).await;
    let lines = next_lines(&mut chunks, &mut device).await;
    assert_eq!(kinds(&lines), ["checkpoint", "data"]);

    advance(Duration::from_secs(80)).await;
    let lines = next_lines(&mut chunks, &mut device).await;
    assert_eq!(lines[0], json!({ "token_expires_in": 20 }));
    assert_eq!(kinds(&lines[1..]), ["data"]);

    while device.completed.is_none() {
        let lines = next_lines(&mut chunks, &mut device).await;
        assert!(matches!(kinds(&lines)[..], ["data"] | ["checkpoint_complete"]), "{lines:?}");
    }

    // Up to date by now: there is nothing to wait for.
    assert!(next_lines(&mut chunks, &mut device).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_past_its_deadline_ends_after_a_whole_line_and_can_be_resumed() {
    let worker = much_to_send().await;
    let mut device = Device::default();
    let mut chunks = stream(&worker, &device, Duration::from_secs(100)).await;
    next_lines(&mut chunks, &mut device).await;
    advance(Duration::from_secs(100)).await;
    // The time of the hand-over has passed while the client read the line before.
    let lines = next_lines(&mut chunks, &mut device).await;
    assert_eq!(lines, [json!({ "token_expires_in": 20 })]);
    assert!(next_lines(&mut chunks, &mut device).await.is_empty());
    assert!(device.completed.is_none());

    let mut chunks = stream(&worker, &device, Duration::from_secs(100)).await;
    let lines = next_lines(&mut chunks, &mut device).await;
    assert_eq!(kinds(&lines), ["checkpoint", "data"], "the first line is not sent again");
    while !next_lines(&mut chunks, &mut device).await.is_empty() {}
    assert!(device.completed.is_some());
    assert_eq!(device.rows(&worker.name("everyone", "[]")).len(), 6);
}
