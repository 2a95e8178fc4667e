//! Limits: hostile requests are refused with the reason, and others are served meanwhile.

use serde_json::json;
use tidewater_storage::Embedded;

use crate::CONFIG;
use crate::client::Device;
use crate::server::{Server, settings, token};
use crate::worker::{Worker, answer};

/// Streams that read parameters of the client.
const PARAMETERS: &str = "
config:
  edition: 3
streams:
  pairs:
    query: SELECT * FROM notes WHERE a IN subscription.parameter('a') AND b IN subscription.parameter('b')
  found:
    auto_subscribe: true
    query: SELECT * FROM docs WHERE org IN (SELECT org FROM members WHERE usr IN connection.parameter('users'))
";

/// Returns a server whose streams read parameters of the client.
async fn deployment() -> (Worker, Server) {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), PARAMETERS).await;
    worker.publish().await;
    let server = Server::start(worker.storage.clone(), settings()).await;
    (worker, server)
}

async fn description(server: &Server, body: String) -> (u16, String) {
    let (status, reply) = server.refusal(&token("u1"), body).await;
    (status.as_u16(), reply["error"]["description"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_body_of_many_nested_values_is_refused_before_they_are_built() {
    let (_worker, server) = deployment().await;
    let body = format!(r#"{{"parameters":{{"a":[{}[0]]}}}}"#, "[0],".repeat(500_000));
    let (status, text) = description(&server, body).await;
    assert_eq!(status, 400);
    assert!(text.contains(r#""parameters.a["#) && text.contains("20000 values in total"), "{text}");
}

#[tokio::test]
async fn hostile_requests_are_stopped_at_the_limit() {
    let (_worker, server) = deployment().await;
    let numbers = |from: u32, count: u32| (from..from + count).collect::<Vec<_>>();

    let pairs = |n: u32| json!({ "stream": "pairs", "parameters": { "a": numbers(n * 100, 100), "b": numbers(0, 90) } });
    let body = json!({ "streams": { "subscriptions": (0..90).map(pairs).collect::<Vec<_>>() } });
    let (status, text) = description(&server, body.to_string()).await;
    assert_eq!(status, 500);
    assert!(text.contains("more than 1000 buckets. By stream: pairs (1001)"), "{text}");
    assert!(text.contains("streams.subscriptions[0], by subscription.parameter('a')"), "{text}");

    let body = json!({ "parameters": { "users": numbers(0, 10_000) } });
    let (status, text) = description(&server, body.to_string()).await;
    assert_eq!(status, 500);
    assert!(text.contains("more than 2000 parameter lookups"), "{text}");
    assert!(text.contains("stream 'found', by connection.parameter('users')"), "{text}");

    let bare = json!({ "stream": "pairs" });
    let body = json!({ "streams": { "subscriptions": vec![bare; 1_001] } });
    let (status, text) = description(&server, body.to_string()).await;
    assert_eq!(status, 500);
    assert!(text.contains("more than 1000 subscriptions. By stream: pairs (1001)"), "{text}");

    // Other clients are served.
    Device::default().sync(&server, &token("u2")).await;
}

#[tokio::test]
async fn a_large_request_within_the_limits_is_served_and_follows_changes() {
    let (mut worker, server) = deployment().await;
    let users: Vec<String> = (0..1_500).map(|number| format!("u{number}")).collect();
    let request = json!({ "raw_data": true, "parameters": { "users": users } });
    let mut device = Device::default();
    let mut lines = server.stream(&token("u1"), &request).await;
    device.until_complete(&mut lines).await;
    assert!(device.buckets.is_empty());

    // The request was dropped when the stream opened. What the queries read of it was kept.
    worker.commit(&[answer(r#"["u1499"]"#, "m1", Some(r#"["o1"]"#))]).await;
    device.until_complete(&mut lines).await;
    assert!(device.buckets.contains_key(&worker.name("found", r#"["o1"]"#)));
}

#[tokio::test]
async fn a_broken_transfer_is_not_a_body_that_is_too_large() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let server = Server::start(worker.storage.clone(), settings()).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /sync/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\nnonsense\r\n",
        token("u1")
    );
    connection.write_all(head.as_bytes()).await.unwrap();

    let mut reply = vec![0; 1_000];
    let length = connection.read(&mut reply).await.unwrap();
    let reply = String::from_utf8_lossy(&reply[..length]);
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
}
