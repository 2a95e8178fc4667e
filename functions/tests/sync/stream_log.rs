//! The log lines of streams: one at the beginning and one at the end of each, on every transport.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Extension;
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tidewater_functions::{ClientStall, Quotas, Settings, StreamDeadline, router};
use tidewater_storage::{Embedded, Fault, FaultPlan, Faulty, PortMethod};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::client::Device;
use crate::coding::Decoder;
use crate::server::{LINE_TIMEOUT, Next, Server, settings, token, token_with, unix_now};
use crate::web_socket::Socket;
use crate::worker::{Worker, put};
use crate::{CONFIG, deployment};

/// The log of the process. Tests that run beside each other use users of their own.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts to collect the log, as the command writes it.
    fn start() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let builder =
                tracing_subscriber::fmt().json().with_env_filter("tidewater_functions=info");
            builder.with_writer(move || writer.clone()).init();
            log
        });
        log.clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Returns the fields of the lines with a message about a user.
    fn lines(&self, message: &str, user: &str) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let fields = lines.map(|line| line["fields"].clone());
        fields.filter(|line| line["message"] == message && line["user"] == user).collect()
    }

    /// Waits until `count` streams of a user have ended. Returns the fields of their lines.
    async fn wait(&self, user: &str, count: usize) -> Vec<Value> {
        let wait = async {
            loop {
                let ended = self.lines("stream ended", user);
                if ended.len() >= count {
                    return ended;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LINE_TIMEOUT, wait).await.expect("the streams end")
    }

    /// Waits until all `count` streams of a user have ended, and checks that each began and ended once.
    async fn ended(&self, user: &str, count: usize) -> Vec<Value> {
        let ended = self.wait(user, count).await;
        assert_eq!(ended.len(), count);

        let numbers = |lines: &[Value]| {
            let mut numbers: Vec<u64> =
                lines.iter().map(|line| line["stream"].as_u64().unwrap()).collect();
            numbers.sort_unstable();
            numbers
        };
        let began = self.lines("stream began", user);
        assert_eq!(numbers(&began), numbers(&ended));
        ended
    }

    /// Waits for the end of the only stream of a user. Returns its reason and its limit.
    async fn reason(&self, user: &str) -> (String, Value) {
        let ended = self.ended(user, 1).await;
        (ended[0]["reason"].as_str().unwrap().to_owned(), ended[0]["limit"].clone())
    }
}

/// The headers of a request, beside those that each has.
type Headers<'a> = &'a [(&'static str, &'a str)];

/// Requests a stream over HTTP with these headers, and reads it until a checkpoint is complete.
async fn completed(server: &Server, user: &str, headers: Headers<'_>) -> usize {
    let response = server.stream_as(&token(user), &Device::default().request(), headers).await;
    let mut decoder = Decoder::of(&response);
    let mut chunks = response.bytes_stream();
    let mut bytes = 0;
    loop {
        let chunk = chunks.next().await.unwrap().unwrap();
        bytes += chunk.len();
        if ends_with_completion(decoder.push(&chunk)) {
            return bytes;
        }
    }
}

/// Returns whether the last line, in JSON or BSON, completes a checkpoint.
fn ends_with_completion(lines: &[u8]) -> bool {
    let name = b"checkpoint_complete";
    let is_whole = lines.ends_with(b"\n") || lines.ends_with(b"\0\0");
    is_whole && lines.windows(name.len()).any(|window| window == name)
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_two_lines_on_each_transport() {
    let log = Log::start();
    let (mut worker, server) = deployment().await;
    let secret = "a value that is nobody's business";
    worker.commit(&[put("everyone", "[]", "n1", secret)]).await;
    worker.commit(&[put("own", r#"["ann"]"#, "o1", secret)]).await;

    let sdk = "powersync-js/1.60.0 powersync-web";
    let bson = "application/vnd.powersync.bson-stream";
    let cases: [(Headers<'_>, &str, Value); 4] = [
        (&[("x-user-agent", sdk)], "ndjson", Value::Null),
        (&[("x-user-agent", sdk), ("accept", bson)], "bson", Value::Null),
        (&[("x-user-agent", sdk), ("accept-encoding", "zstd")], "ndjson", "zstd".into()),
        (
            &[("user-agent", sdk), ("accept", bson), ("accept-encoding", "gzip")],
            "bson",
            "gzip".into(),
        ),
    ];
    for (number, (headers, transport, coding)) in cases.into_iter().enumerate() {
        let bytes = completed(&server, "ann", headers).await;
        let ended = log.ended("ann", number + 1).await.pop().unwrap();
        let began = log.lines("stream began", "ann").pop().unwrap();
        assert_eq!(
            (&began["client"], &began["sdk"], &began["transport"], &began["coding"]),
            (&json!("c1"), &json!(sdk), &json!(transport), &coding)
        );
        assert_eq!(ended["reason"], "client_left");
        assert_eq!((&ended["operations"], &ended["rows"]), (&json!(2), &json!(2)));
        assert_eq!((&ended["buckets"], &ended["bytes"]), (&json!(2), &json!(bytes)));
        assert!(ended["seconds"].as_f64().unwrap() < 20.0);
    }

    let mut socket = Socket::open(&server, &token("bob")).await;
    let request = json!({
        "client_id": "c1",
        "buckets": [{ "name": "x[]", "after": "7" }],
        "streams": { "subscriptions": [{ "stream": "everyone" }, { "stream": "own" }] },
    });
    socket.request(1, 10, &request).await;
    while socket.line().await.get("checkpoint_complete").is_none() {}
    drop(socket);
    let ended = log.ended("bob", 1).await;
    assert_eq!((&ended[0]["reason"], &ended[0]["rows"]), (&json!("client_left"), &json!(1)));
    assert!(ended[0]["bytes"].as_u64().unwrap() > 100);
    let began = log.lines("stream began", "bob").pop().unwrap();
    assert_eq!((&began["transport"], &began["sdk"]), (&json!("websocket"), &json!("test")));
    assert_eq!((&began["positions"], &began["subscriptions"]), (&json!(1), &json!(2)));

    let text = log.text();
    for hidden in [secret, &worker.name("own", r#"["ann"]"#), &token("ann")[..30]] {
        assert!(!text.contains(hidden), "{hidden} is in:\n{text}");
    }
}

#[tokio::test]
async fn a_cancelled_stream_of_a_socket_has_ended_although_the_socket_is_open() {
    let log = Log::start();
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut socket = Socket::open(&server, &token("cancels")).await;
    socket.request(1, 10, &json!({})).await;
    socket.line().await;
    socket.cancel(1).await;
    assert_eq!(log.reason("cancels").await, ("client_left".to_owned(), Value::Null));
    drop(socket);
}

#[tokio::test]
async fn the_texts_of_a_client_are_bounded_and_cannot_look_like_other_lines() {
    let log = Log::start();
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    let client = format!("\n{{\"fields\":1}}\u{9b}2J\u{202e}{}", "x".repeat(200));
    let agent = "a".repeat(4_000);
    let body = json!({ "client_id": client });
    let user = "hostile\r\n\u{1b}[2J";
    drop(server.stream_as(&token(user), &body, &[("x-user-agent", &agent)]).await);

    let shown = "hostile\u{FFFD}\u{FFFD}\u{FFFD}[2J";
    let ended = log.ended(shown, 1).await.pop().unwrap();
    let client = ended["client"].as_str().unwrap();
    assert!(client.starts_with("\u{FFFD}{\"fields\":1}\u{FFFD}2J\u{FFFD}xxx"), "{client}");
    let began = log.lines("stream began", shown).pop().unwrap();
    for (text, characters) in [(client, 128), (began["sdk"].as_str().unwrap(), 128)] {
        assert_eq!(text.chars().count(), characters);
    }
}

#[tokio::test]
async fn the_end_of_a_stream_has_its_reason() {
    let log = Log::start();
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let shutdown = CancellationToken::new();
    let quotas = Quotas { user_streams_max: 1, buckets_max: 2, ..Quotas::default() };
    let short = Settings { quotas, shutdown: shutdown.clone(), ..settings() };
    let server = Server::start(worker.storage.clone(), short).await;

    server.refusal(&token("early"), "{}").await;
    assert_eq!(log.reason("early").await, ("not_ready".to_owned(), Value::Null));
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;

    let subscriptions =
        json!({ "streams": { "subscriptions": vec![json!({ "stream": "x" }); 3_000] } });
    server.refusal(&token("greedy"), subscriptions.to_string()).await;
    assert_eq!(log.reason("greedy").await, ("limit".to_owned(), "request".into()));

    let expired = |user: &str, left: i64| {
        let now = unix_now();
        token_with(&json!({ "sub": user, "iat": now - 600, "exp": now + left, "aud": "app" }))
    };
    // The clock skew lets the first pass.
    for (user, left) in [("expired", -10), ("expires", 1)] {
        let mut lines = server.stream(&expired(user, left), &json!({})).await;
        while let Next::Line(_) = lines.next().await {}
        assert_eq!(log.reason(user).await, ("token_expired".to_owned(), Value::Null), "{user}");
    }

    let mut open = Device::default().connect(&server, &token("stays")).await;
    Device::default().until_complete(&mut open).await;
    server.refusal(&token("stays"), "{}").await;
    let ended = log.wait("stays", 1).await.remove(0);
    assert_eq!((&ended["reason"], &ended["limit"]), (&json!("limit"), &json!("user_streams")));

    let mut of_former_config = Device::default().connect(&server, &token("former")).await;
    Device::default().until_complete(&mut of_former_config).await;
    worker.deploy(&CONFIG.replace("notices", "news")).await;
    worker.publish().await;
    assert_eq!(log.reason("former").await, ("config_changed".to_owned(), Value::Null));

    let mut last = Device::default().connect(&server, &token("last")).await;
    Device::default().until_complete(&mut last).await;
    shutdown.cancel();
    assert_eq!(log.reason("last").await, ("shutdown".to_owned(), Value::Null));
}

#[tokio::test]
async fn an_expired_token_of_an_old_sdk_has_a_stream_of_nobody() {
    let log = Log::start();
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    let now = unix_now();
    let claims = json!({ "sub": "u1", "iat": now - 600, "exp": now - 500, "aud": "app" });
    let agent = "powersync-js/1.45.0 powersync-node";
    drop(server.post_as("/sync/stream", &token_with(&claims), "{}", agent).await);
    assert_eq!(log.reason("").await, ("token_expired".to_owned(), Value::Null));
}

#[tokio::test]
async fn a_store_that_fails_is_an_error() {
    let log = Log::start();
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let plan = FaultPlan::default().with(PortMethod::Segments, 1, Fault::Fail);
    let server = Server::start(Faulty::new(worker.storage.clone(), plan), settings()).await;
    let mut lines = server.stream(&token("cut"), &json!({})).await;
    while let Next::Line(_) = lines.next().await {}
    assert_eq!(log.reason("cut").await, ("error".to_owned(), Value::Null));
}

/// Returns the body of a stream of a router with extensions, as a function or a server adds them.
async fn body<T: Clone + Send + Sync + 'static>(
    worker: &Worker,
    settings: Settings,
    extension: T,
    user: &str,
) -> axum::body::BodyDataStream {
    let router = router(worker.storage.clone(), settings).layer(Extension(extension));
    let request = Request::post("/sync/stream")
        .header("authorization", format!("Bearer {}", token(user)))
        .body(Body::from("{}"))
        .unwrap();
    router.oneshot(request).await.unwrap().into_body().into_data_stream()
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_functions_end_by_a_hand_over_or_up_to_date_or_at_their_limit() {
    let log = Log::start();
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let text = "x".repeat(200_000);
    for id in 0..4 {
        worker.commit(&[put("everyone", "[]", &id.to_string(), &text)]).await;
    }
    let deadline = StreamDeadline(Instant::now() + Duration::from_secs(100));
    let mut chunks = body(&worker, settings(), deadline, "handed-over").await;
    while chunks.next().await.is_some() {}
    drop(chunks);
    assert_eq!(log.reason("handed-over").await, ("hand_over".to_owned(), Value::Null));

    let keep_open = Some(Duration::from_secs(1));
    let buffered = Settings { keep_open, ..settings() };
    let mut chunks = body(&worker, buffered, ClientStall::default(), "buffered").await;
    while chunks.next().await.is_some() {}
    drop(chunks);
    assert_eq!(log.reason("buffered").await, ("up_to_date".to_owned(), Value::Null));

    let small = Settings { answer_bytes_max: Some(100), ..settings() };
    let mut chunks = body(&worker, small, ClientStall::default(), "large").await;
    while chunks.next().await.is_some() {}
    drop(chunks);
    assert_eq!(log.reason("large").await, ("limit".to_owned(), "answer_bytes".into()));

    let stall = ClientStall::default();
    let mut chunks = body(&worker, settings(), stall.clone(), "never-reads").await;
    chunks.next().await.unwrap().unwrap();
    stall.note();
    drop(chunks);
    assert_eq!(log.reason("never-reads").await, ("write_timeout".to_owned(), Value::Null));
}
