use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use hyper_util::rt::TokioIo;
use tidewater_functions::ClientStall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// Time in which the server must react. It does so within milliseconds; the margin is for busy
/// machines.
const SOON: Duration = Duration::from_secs(20);

/// Time after which the tests' servers lose patience.
const SHORT: Duration = Duration::from_millis(200);

/// Limits that no test reaches by accident.
fn patient() -> ConnectionLimits {
    ConnectionLimits {
        first_head: SOON * 10,
        reserved_head: SOON * 10,
        idle: SOON * 10,
        write: SOON * 10,
        ..ConnectionLimits::default()
    }
}

/// A server of `/hello`, of `/probes/liveness`, of `/endless`, whose body has no end, and of `/upgrade`.
struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    /// Gets a message when an endless body is dropped: whether its client was said not to read.
    dropped: mpsc::UnboundedReceiver<bool>,
}

/// Sends a message when it is dropped.
struct OnDrop(mpsc::UnboundedSender<bool>, ClientStall);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(self.1.is_noted());
    }
}

impl Server {
    async fn start(limits: ConnectionLimits) -> Self {
        let (sender, dropped) = mpsc::unbounded_channel();
        let endless = move |Extension(stall): Extension<ClientStall>| {
            let on_drop = Arc::new(OnDrop(sender.clone(), stall));
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let chunks = stream::repeat_with(move || {
                let _ = &on_drop;
                Ok::<_, Infallible>(chunk.clone())
            });
            std::future::ready(Body::from_stream(chunks))
        };
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/probes/liveness", get(|| async { "alive" }))
            .route("/endless", get(endless))
            .route("/upgrade", get(upgrade));

        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = shutdown.clone();
        let task = tokio::spawn(async move { serve(listener, router, &limits, &serving).await });
        Self { address, shutdown, task, dropped }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_and_send(&self, text: &str) -> TcpStream {
        let mut connection = self.connect().await;
        connection.write_all(text.as_bytes()).await.unwrap();
        connection
    }

    /// Returns the reply to a GET on a connection of its own.
    async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        rest(&mut self.connect_and_send(&request).await).await
    }
}

/// Hands the connection over to a task, which sends "begun", and "ended" after a byte of the client.
async fn upgrade(request: Request) -> Response {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        io.write_all(b"begun").await.unwrap();
        io.read_u8().await.unwrap();
        io.write_all(b"ended").await.unwrap();
    });
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "test")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Reads until the server ends the connection.
async fn rest(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, connection.read_to_end(&mut bytes)).await;
    // A connection that is dropped with unread input ends with a reset.
    let _ = read.expect("the server ends the connection in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one reply to `GET /hello`.
async fn hello(connection: &mut TcpStream) {
    let mut reply = Vec::new();
    while !reply.ends_with(b"hello") {
        let mut bytes = [0; 1_000];
        let length = tokio::time::timeout(SOON, connection.read(&mut bytes)).await;
        let length = length.expect("a reply in time").unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&bytes[..length]);
    }
}

#[tokio::test]
async fn a_connection_that_sends_no_request_is_closed() {
    let server = Server::start(ConnectionLimits { first_head: SHORT, ..patient() }).await;
    assert_eq!(rest(&mut server.connect().await).await, "");

    let mut unfinished = server.connect_and_send("GET /hello HTTP/1.1\r\nhost: x\r\nx-a: ").await;
    assert_eq!(rest(&mut unfinished).await, "");
    assert!(server.get("/hello").await.ends_with("hello"));
}

#[tokio::test]
async fn a_connection_that_is_idle_after_a_reply_is_closed() {
    let server = Server::start(ConnectionLimits { idle: SHORT, ..patient() }).await;
    let mut connection = server.connect_and_send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    hello(&mut connection).await;
    assert_eq!(rest(&mut connection).await, "");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = Server::start(ConnectionLimits { first_head: SHORT, ..patient() }).await;
    let mut connection = server.connect().await;
    for _ in 0..3 {
        connection.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        hello(&mut connection).await;
        // The time for the first request does not apply to the following ones.
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let mut server = Server::start(ConnectionLimits { write: SHORT, ..patient() }).await;
    let silent = server.connect_and_send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let dropped = tokio::time::timeout(SOON, server.dropped.recv()).await;
    assert_eq!(dropped.expect("its stream ends in time"), Some(true), "the reason is known");
    drop(silent);

    // A client that closes its connection does not count as one that does not read.
    let leaving = server.connect_and_send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    drop(leaving);
    let dropped = tokio::time::timeout(SOON, server.dropped.recv()).await;
    assert_eq!(dropped.expect("its stream ends in time"), Some(false));
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_is_served() {
    let mut server = Server::start(ConnectionLimits { write: SHORT * 5, ..patient() }).await;
    let mut slow = server.connect_and_send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut buffer = vec![0; 4 * timed_io::PROGRESS_BYTES];
    for _ in 0..30 {
        tokio::time::timeout(SOON, slow.read_exact(&mut buffer)).await.unwrap().unwrap();
        tokio::time::sleep(SHORT / 2).await;
    }
    assert!(server.dropped.try_recv().is_err(), "three times the timeout have passed");
}

#[tokio::test]
async fn probes_are_answered_while_silent_connections_take_all_places() {
    let limits = ConnectionLimits { connections_max: 3, reserved: 2, ..patient() };
    let server = Server::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(server.connect().await);
    }

    let reply = server.get("/probes/liveness").await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("alive"), "{reply}");
    let reply = server.get("/hello").await;
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("retry-after: 5"), "{reply}");

    // The oldest of those that are beyond the places had to go, and the places are kept.
    assert_eq!(rest(&mut silent[3]).await, "");
    silent[0].write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    hello(&mut silent[0]).await;

    drop(silent);
    let served = async {
        while !server.get("/hello").await.ends_with("hello") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, served).await.expect("places become free again");
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let server = Server::start(patient()).await;
    let head = format!("GET /hello HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(80_000));
    let reply = rest(&mut server.connect_and_send(&head).await).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431 "), "{reply}");

    let head = format!(
        "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let reply = rest(&mut server.connect_and_send(&head).await).await;
    assert!(reply.ends_with("hello"), "{reply}");
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let server = Server::start(patient()).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let reply = rest(&mut server.connect_and_send(preface).await).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 "), "{reply:?}");
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_at_once_and_others_after_their_reply() {
    let server = Server::start(patient()).await;
    let mut idle = server.connect_and_send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    hello(&mut idle).await;
    let mut unused = server.connect().await;

    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut unused).await, "");
    tokio::time::timeout(SOON, server.task).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let mut server = Server::start(ConnectionLimits { shutdown: SHORT, ..patient() }).await;
    let silent = server.connect_and_send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let accepted = server.get("/hello").await;
    assert!(accepted.ends_with("hello"), "{accepted}");

    server.shutdown.cancel();
    tokio::time::timeout(SOON, server.task).await.expect("it ends").unwrap();
    assert!(server.dropped.recv().await.is_some());
    drop(silent);
}

#[tokio::test]
async fn without_reserved_places_a_connection_beyond_the_last_is_closed() {
    let limits = ConnectionLimits { connections_max: 1, reserved: 0, ..patient() };
    let server = Server::start(limits).await;
    let mut first = server.connect_and_send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    hello(&mut first).await;
    assert_eq!(rest(&mut server.connect().await).await, "");
}

#[tokio::test]
async fn a_shutdown_waits_for_connections_that_carry_another_protocol() {
    let server = Server::start(patient()).await;
    let request =
        "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
    let mut connection = server.connect_and_send(request).await;
    let mut received = Vec::new();
    while !received.ends_with(b"begun") {
        received.push(connection.read_u8().await.unwrap());
    }

    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());

    connection.write_all(b"x").await.unwrap();
    assert_eq!(rest(&mut connection).await, "ended");
    tokio::time::timeout(SOON, server.task).await.expect("it ends").unwrap();
}
