//! Limits: hostile requests are refused with the reason, and others are served meanwhile.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tidewater_functions::{ClientAddress, Quotas, Rate, Settings, router};
use tidewater_storage::Embedded;
use tower::ServiceExt;

use crate::CONFIG;
use crate::client::Device;
use crate::server::{Next, Server, settings, token};
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

/// Returns a server with these quotas over a store with a visible checkpoint.
async fn server_with(quotas: Quotas) -> (Worker, Server) {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.publish().await;
    let server = Server::start(worker.storage.clone(), Settings { quotas, ..settings() }).await;
    (worker, server)
}

#[tokio::test]
async fn a_user_who_sends_too_many_requests_is_told_when_to_come_back() {
    let rate = Rate { per_second: 1, burst: 3 };
    let quotas = Quotas { user_rate: Some(rate), ..Quotas::default() };
    let (_worker, server) = server_with(quotas).await;
    let path = "/sync/checkpoint-request";

    let mut limited = None;
    for _ in 0..20 {
        let body = r#"{"client_id":"c","checkpoint_request_id":1}"#;
        let reply = server.post(path, &token("u1"), body).await;
        if reply.status() == 429 {
            limited = Some(reply);
            break;
        }
        assert_eq!(reply.status(), 200);
    }
    let limited = limited.expect("the requests come faster than one a second");
    assert_eq!(limited.headers()["retry-after"], "1");
    let body: Value = serde_json::from_str(&limited.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "PSYNC_S2304");
    assert_eq!(body["error"]["description"], "This user sends too many requests: try again in 1 s");

    Device::default().sync(&server, &token("u2")).await;
}

#[tokio::test]
async fn an_address_that_sends_too_many_requests_is_refused_before_its_tokens_are_checked() {
    let quotas = Quotas {
        address_rate: Some(Rate { per_second: 1, burst: 3 }),
        trusted_proxies: vec!["203.0.113.0/24".parse().unwrap()],
        ..Quotas::default()
    };
    let worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let router = router(worker.storage.clone(), Settings { quotas, ..settings() });
    let statuses = async |path: &str, peer: &str, forwarded: &str| {
        let mut statuses = Vec::new();
        for _ in 0..8 {
            let mut request = Request::get(path).body(Body::empty()).unwrap();
            request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
            request.extensions_mut().insert(ClientAddress(peer.parse().unwrap()));
            statuses.push(router.clone().oneshot(request).await.unwrap().status().as_u16());
        }
        statuses
    };

    let path = "/write-checkpoint2.json";
    let refused = statuses(path, "198.51.100.1", "192.0.2.1").await;
    assert_eq!((refused[2], refused[7]), (401, 429), "{refused:?}");
    // The proxy vouches for the address behind it, and that one has sent nothing yet.
    assert_eq!(statuses(path, "203.0.113.5", "198.51.100.2").await[2], 401);
    assert_eq!(statuses(path, "203.0.113.5", "198.51.100.1").await[0], 429);

    assert_eq!(statuses("/probes/liveness", "198.51.100.1", "").await, [200; 8]);
    assert_eq!(statuses(path, "10.0.0.1", "").await, [401; 8], "a proxy that is not declared");
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_streams() {
    let quotas = Quotas { user_streams_max: 2, ..Quotas::default() };
    let (_worker, server) = server_with(quotas).await;
    let open =
        async |client: &str| server.stream(&token("u1"), &json!({ "client_id": client })).await;
    let first = open("a").await;
    let _second = open("b").await;
    let (status, body) = server.refusal(&token("u1"), r#"{"client_id":"c"}"#).await;
    assert_eq!(status.as_u16(), 429);
    assert!(body["error"]["description"].as_str().unwrap().contains("too many streams open"));
    Device::default().sync(&server, &token("u2")).await;

    drop(first);
    // The server notices soon that the client has gone.
    while server.post("/sync/stream", &token("u1"), r#"{"client_id":"c"}"#).await.status() == 429 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_oldest_of_many_streams_of_one_client_ends_after_a_whole_line() {
    let (_worker, server) = server_with(Quotas::default()).await;
    let body = json!({ "client_id": "c" });
    let mut oldest = server.stream(&token("u1"), &body).await;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(server.stream(&token("u1"), &body).await);
    }

    let end = loop {
        match oldest.next().await {
            Next::Line(_) => {}
            end @ (Next::End | Next::Cut) => break end,
        }
    };
    assert!(matches!(end, Next::End), "{end:?}");
    let mut device = Device::default();
    device.until_complete(&mut others[0]).await;
}
