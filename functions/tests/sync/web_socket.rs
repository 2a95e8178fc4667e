//! The sync stream over a WebSocket, as SDKs use RSocket.

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidewater_functions::{Quotas, Settings, router};
use tidewater_protocol::bson_to_json;
use tidewater_storage::Embedded;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;

use crate::client::{Device, kinds};
use crate::server::{LINE_TIMEOUT, Server, settings, token, token_with, unix_now};
use crate::worker::{Worker, put};
use crate::{CONFIG, deployment, rows};

/// The types of frames that the tests send and receive.
mod kind {
    pub(super) const SETUP: u16 = 0x01;
    pub(super) const KEEP_ALIVE: u16 = 0x03;
    pub(super) const REQUEST_STREAM: u16 = 0x06;
    pub(super) const REQUEST_N: u16 = 0x08;
    pub(super) const CANCEL: u16 = 0x09;
    pub(super) const PAYLOAD: u16 = 0x0A;
    pub(super) const ERROR: u16 = 0x0B;
}

/// A frame of the server.
#[derive(Debug, PartialEq)]
enum Received {
    /// A line of a stream.
    Line(u32, Value),
    Complete(u32),
    KeepAlive(Vec<u8>),
    /// Stream, code and text of an error.
    Error(u32, u32, String),
    Closed,
}

/// A client that speaks RSocket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens a connection without a SETUP frame.
    async fn connect(server: &Server) -> Self {
        let address = server.url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/sync/stream");
        Self(tokio_tungstenite::client_async(url, stream).await.unwrap().0)
    }

    /// Opens a connection with a token.
    pub(crate) async fn open(server: &Server, token: &str) -> Self {
        let mut socket = Self::connect(server).await;
        let mut fields = vec![0, 1, 0, 0, 0, 0, 78, 32, 0, 1, 95, 144];
        fields.extend_from_slice(b"\x10application/json\x10application/json");
        let metadata = json!({ "token": format!("Token {token}"), "user_agent": "test" });
        fields.extend_from_slice(&with_length(&metadata));
        socket.send(0, kind::SETUP, 0x100, &fields).await;
        socket
    }

    pub(crate) async fn request(&mut self, stream: u32, credits: u32, body: &Value) {
        let mut fields = credits.to_be_bytes().to_vec();
        fields.extend_from_slice(&with_length(&json!({ "path": "/sync/stream" })));
        fields.extend_from_slice(body.to_string().as_bytes());
        self.send(stream, kind::REQUEST_STREAM, 0x100, &fields).await;
    }

    async fn ask_for(&mut self, stream: u32, credits: u32) {
        self.send(stream, kind::REQUEST_N, 0, &credits.to_be_bytes()).await;
    }

    pub(crate) async fn cancel(&mut self, stream: u32) {
        self.send(stream, kind::CANCEL, 0, &[]).await;
    }

    async fn send(&mut self, stream: u32, kind: u16, flags: u16, fields: &[u8]) {
        let head = [&stream.to_be_bytes()[..], &(kind << 10 | flags).to_be_bytes()].concat();
        let frame = [&head, fields].concat();
        self.0.send(Message::Binary(frame.into())).await.unwrap();
    }

    async fn next(&mut self) -> Received {
        let message = tokio::time::timeout(LINE_TIMEOUT, self.0.next()).await.unwrap();
        let frame = match message {
            Some(Ok(Message::Binary(frame))) => frame,
            None | Some(Ok(Message::Close(_)) | Err(_)) => return Received::Closed,
            Some(Ok(other)) => panic!("{other:?}"),
        };
        received(&frame)
    }

    /// Returns the next line of stream 1.
    pub(crate) async fn line(&mut self) -> Value {
        let received = self.next().await;
        let Received::Line(1, line) = received else { panic!("{received:?}") };
        line
    }

    /// Applies lines until a checkpoint is complete. Asks for one more for each that arrives.
    async fn until_complete(&mut self, device: &mut Device) -> Vec<Value> {
        device.completed = None;
        let mut seen = Vec::new();
        while device.completed.is_none() {
            let line = self.line().await;
            device.take(line.to_string().as_bytes());
            seen.push(line);
            self.ask_for(1, 1).await;
        }
        seen
    }

    /// Sends a keep-alive, and returns the next frame. If it is the answer, nothing else was due.
    async fn probe(&mut self) -> Received {
        self.send(0, kind::KEEP_ALIVE, 0x80, &[&[0; 8][..], b"probe"].concat()).await;
        self.next().await
    }
}

/// Returns metadata with its length.
fn with_length(metadata: &Value) -> Vec<u8> {
    let text = metadata.to_string();
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&length[1..], text.as_bytes()].concat()
}

fn received(frame: &[u8]) -> Received {
    let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let stream = number(0);
    let kind_and_flags = u16::from_be_bytes(frame[4..6].try_into().unwrap());
    match (kind_and_flags >> 10, kind_and_flags & 0x3FF) {
        (kind::PAYLOAD, 0x20) => {
            let line = bson_to_json(&frame[6..]).unwrap();
            Received::Line(stream, serde_json::from_slice(&line).unwrap())
        }
        (kind::PAYLOAD, 0x40) => Received::Complete(stream),
        (kind::KEEP_ALIVE, 0) => Received::KeepAlive(frame[14..].to_vec()),
        (kind::ERROR, 0) => {
            Received::Error(stream, number(6), String::from_utf8(frame[10..].to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_carries_the_same_lines_as_a_response() {
    let (mut worker, server) = deployment().await;
    // One row is larger than what is written at once.
    worker.commit(&[put("everyone", "[]", "n1", &"x".repeat(1 << 20))]).await;
    worker.commit(&[put("own", r#"["u1"]"#, "o1", "mine")]).await;
    let by_http = Device::default().sync(&server, &token("u1")).await;

    let mut device = Device::default();
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 10, &device.request()).await;
    assert_eq!(socket.until_complete(&mut device).await, by_http);

    // A change while the socket is open.
    worker.commit(&[put("everyone", "[]", "n1", "live")]).await;
    let seen = socket.until_complete(&mut device).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "data", "checkpoint_complete"]);
    assert_eq!(device.rows(&worker.name("everyone", "[]")), rows([("n1", "live")]));

    // Another socket resumes where this one ended.
    drop(socket);
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 10, &device.request()).await;
    let seen = socket.until_complete(&mut device).await;
    assert_eq!(kinds(&seen), ["checkpoint", "checkpoint_complete"]);
}

#[tokio::test]
async fn a_line_is_sent_only_when_the_client_asks_for_it() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 1, &Device::default().request()).await;
    let mut seen = vec![socket.line().await];

    for _ in 0..2 {
        assert_eq!(
            socket.probe().await,
            Received::KeepAlive(b"probe".to_vec()),
            "no credit is left"
        );
        socket.ask_for(1, 1).await;
        seen.push(socket.line().await);
    }
    assert_eq!(kinds(&seen), ["checkpoint", "data", "checkpoint_complete"]);
}

#[tokio::test]
async fn a_refused_token_ends_the_connection_with_its_code() {
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    let now = unix_now();
    let expired = json!({ "sub": "u1", "iat": now - 600, "exp": now - 500, "aud": "app" });
    for (token, code) in
        [(token_with(&expired), "[PSYNC_S2103]"), ("x".to_owned(), "[PSYNC_S2101]")]
    {
        let mut socket = Socket::open(&server, &token).await;
        let Received::Error(0, 3, text) = socket.next().await else { panic!("not refused") };
        assert!(text.starts_with(code), "{text}");
        assert_eq!(socket.next().await, Received::Closed);
    }
}

#[tokio::test]
async fn a_refused_request_ends_its_stream_only() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 1, &json!({ "buckets": "x" })).await;
    let Received::Error(1, 0x201, text) = socket.next().await else { panic!("not refused") };
    assert!(text.starts_with("[PSYNC_S2001]") && text.contains("buckets"), "{text}");

    socket.request(3, 1, &Device::default().request()).await;
    assert!(matches!(socket.next().await, Received::Line(3, _)));
}

#[tokio::test]
async fn a_stream_before_the_first_checkpoint_is_refused_with_its_code() {
    let (_worker, server) = deployment().await;
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 1, &json!({})).await;
    let Received::Error(1, _, text) = socket.next().await else { panic!("not refused") };
    assert!(text.starts_with("[PSYNC_S2302]"), "{text}");
}

#[tokio::test]
async fn a_cancelled_stream_frees_its_place() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let quotas = Quotas { connections_max: 1, ..Quotas::default() };
    let settings = Settings { quotas, ..settings() };
    let server = Server::start(worker.storage.clone(), settings).await;

    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 10, &json!({})).await;
    assert!(matches!(socket.next().await, Received::Line(1, _)));
    socket.request(3, 10, &json!({})).await;
    loop {
        let received = socket.next().await;
        if let Received::Error(3, _, text) = received {
            assert!(text.starts_with("[PSYNC_S2304]"), "{text}");
            break;
        }
        assert!(matches!(received, Received::Line(1, _)), "{received:?}");
    }

    socket.cancel(1).await;
    socket.request(5, 10, &json!({})).await;
    loop {
        let received = socket.next().await;
        if matches!(received, Received::Line(5, _)) {
            break;
        }
        assert!(matches!(received, Received::Line(1, _)), "{received:?}");
    }
}

#[tokio::test]
async fn a_token_that_expires_ends_the_stream_with_a_line() {
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    // The clock skew lets it pass.
    let now = unix_now();
    let token = token_with(&json!({ "sub": "u1", "iat": now - 60, "exp": now - 1, "aud": "app" }));
    let mut socket = Socket::open(&server, &token).await;
    socket.request(1, 10, &json!({})).await;
    assert_eq!(socket.line().await, json!({ "token_expires_in": 0 }));
    assert_eq!(socket.next().await, Received::Complete(1));
}

#[tokio::test]
async fn a_shutdown_completes_the_streams_and_closes_the_sockets() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let settings = settings();
    let shutdown = settings.shutdown.clone();
    let server = Server::start(worker.storage.clone(), settings).await;

    let mut idle = Socket::open(&server, &token("u1")).await;
    assert_eq!(idle.probe().await, Received::KeepAlive(b"probe".to_vec()));
    let mut socket = Socket::open(&server, &token("u1")).await;
    socket.request(1, 10, &Device::default().request()).await;
    let mut device = Device::default();
    socket.until_complete(&mut device).await;

    shutdown.cancel();
    assert_eq!(socket.next().await, Received::Complete(1));
    for socket in [&mut socket, &mut idle] {
        let Received::Error(0, 0x102, text) = socket.next().await else { panic!("not closed") };
        assert!(text.starts_with("[PSYNC_S2003]"), "{text}");
        assert_eq!(socket.next().await, Received::Closed);
    }
}

#[tokio::test]
async fn a_connection_that_begins_with_no_setup_is_closed() {
    let (_worker, server) = deployment().await;
    let mut socket = Socket::connect(&server).await;
    socket.request(1, 1, &json!({})).await;
    assert!(matches!(socket.next().await, Received::Error(0, 1, _)));
    assert_eq!(socket.next().await, Received::Closed);
}

#[tokio::test]
async fn a_server_that_cannot_hand_over_connections_refuses_a_socket() {
    let worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    // A function gets requests without their connection.
    let router = router(worker.storage.clone(), settings());
    let request = Request::get("/sync/stream")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 426);
    let body: Bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(body["error"]["description"].as_str().unwrap().contains("HTTP"), "{body}");
}
