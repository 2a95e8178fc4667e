//! A TCP proxy in front of the sync API.
//!
//! [`RecordingProxy`] keeps its address while the server restarts elsewhere. It records the requests
//! and the sync streams, stops a stream at any byte, and cuts connections.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tidewater_protocol::StreamRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http_requests::PlainRequests;
use crate::http_responses::HttpResponses;

/// A running proxy, which stops when this is dropped.
pub struct RecordingProxy {
    url: String,
    shared: Arc<Shared>,
    cut: watch::Sender<u64>,
}

struct Shared {
    target: Mutex<String>,
    /// The bytes of the requests, by connection.
    received: Mutex<Vec<Vec<u8>>>,
    /// The bodies of the sync streams, by connection.
    streamed: Mutex<Vec<Vec<u8>>>,
    limit: Mutex<Option<StreamLimit>>,
    /// Streams are requested as lines of JSON, without compression.
    is_plain: AtomicBool,
    /// Number of bytes that clients have received.
    forwarded: AtomicUsize,
}

/// The point at which the proxy stops to forward a connection's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimit {
    /// Number of forwarded whole lines.
    pub lines: usize,
    /// Number of forwarded bytes of the next line.
    pub bytes: usize,
}

impl RecordingProxy {
    /// Starts a proxy that forwards to `url`, which is `http://HOST:PORT`.
    ///
    /// # Errors
    /// Fails when no port is free.
    pub async fn start(url: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            received: Mutex::default(),
            streamed: Mutex::default(),
            limit: Mutex::default(),
            is_plain: AtomicBool::default(),
            forwarded: AtomicUsize::default(),
        });

        let (cut, cuts) = watch::channel(0);
        let proxy = Self { url: format!("http://{address}"), shared: shared.clone(), cut };
        proxy.forward_to(url);
        tokio::spawn(accept(listener, shared, cuts));
        Ok(proxy)
    }

    /// Returns the URL of the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Forwards new connections to `url`, which is `http://HOST:PORT`.
    pub fn forward_to(&self, url: &str) {
        let address = url.trim_start_matches("http://").to_owned();
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Cuts every open connection.
    pub fn cut_connections(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Makes the streams of new connections lines of JSON without compression, whatever clients accept.
    /// [`RecordingProxy::limit_streams`] and [`RecordingProxy::streams`] read these lines.
    pub fn request_plain_streams(&self) {
        self.shared.is_plain.store(true, Ordering::Relaxed);
    }

    /// Stops the stream of each new connection at `limit`. `None` removes the limit.
    ///
    /// The connection stays open, so a test can wait until the client has stored everything that was
    /// forwarded, and cut the connection then.
    pub fn limit_streams(&self, limit: Option<StreamLimit>) {
        *self.shared.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    /// Returns the forwarded bytes of the sync streams, one text for each connection with a stream.
    ///
    /// The last line of a text may be incomplete.
    #[must_use]
    pub fn streams(&self) -> Vec<String> {
        let streamed = self.shared.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = streamed.iter().filter(|bytes| !bytes.is_empty());
        streams.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// Returns the number of bytes that clients have received, with the heads of responses.
    #[must_use]
    pub fn forwarded_bytes(&self) -> usize {
        self.shared.forwarded.load(Ordering::Relaxed)
    }

    /// Returns the paths of all requests, in the order of their connections.
    #[must_use]
    pub fn request_paths(&self) -> Vec<String> {
        let received = self.shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paths = Vec::new();
        for bytes in received.iter() {
            let text = String::from_utf8_lossy(bytes);
            for line in text.lines().filter(|line| line.ends_with(" HTTP/1.1")) {
                // The request line of a later request follows the body of the former one.
                let method = ["GET /", "POST /", "OPTIONS /"]
                    .into_iter()
                    .find_map(|method| line.rfind(method).map(|at| at + method.len() - 1));
                let path = method.and_then(|at| line[at..].split(' ').next());
                paths.extend(path.map(str::to_owned));
            }
        }
        paths
    }

    /// Returns whether a client has sent this text. Frames of a WebSocket are masked, so it is never
    /// found in them.
    #[must_use]
    pub fn has_received(&self, text: &str) -> bool {
        let received = self.shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().any(|bytes| String::from_utf8_lossy(bytes).contains(text))
    }

    /// Returns the bodies of all requests for the sync stream, in the order of their connections.
    ///
    /// # Errors
    /// Fails when a body is no JSON.
    pub fn stream_requests(&self) -> Result<Vec<StreamRequest>> {
        let received = self.shared.received.lock().unwrap_or_else(PoisonError::into_inner);

        let mut requests = Vec::new();
        for bytes in received.iter() {
            let mut rest = String::from_utf8_lossy(bytes).into_owned();
            while let Some(at) = rest.find("POST /sync/stream") {
                rest = rest.split_off(at);
                let Some((head, body)) = rest.split_once("\r\n\r\n") else { break };
                let length = content_length(head).context("a request without content length")?;
                let Some(body) = body.as_bytes().get(..length) else { break };
                requests.push(serde_json::from_slice(body)?);
                rest = rest.split_off(head.len());
            }
        }
        Ok(requests)
    }
}

fn content_length(head: &str) -> Option<usize> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// Accepts connections. When the proxy is dropped, `cuts` closes: this and all connections end.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut cuts: watch::Receiver<u64>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = cuts.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        };

        if let Ok((client, _)) = accepted {
            let shared = shared.clone();
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = forward(client, &shared) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }
}

/// Forwards both directions of a connection and records them.
async fn forward(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let server = TcpStream::connect(target).await?;

    let number = {
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(Vec::new());
        shared.streamed.lock().unwrap_or_else(PoisonError::into_inner).push(Vec::new());
        received.len() - 1
    };
    let limit = *shared.limit.lock().unwrap_or_else(PoisonError::into_inner);

    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let is_plain = shared.is_plain.load(Ordering::Relaxed);
    let mut requests = PlainRequests::default();
    let up = copy(client_read, server_write, |bytes| {
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received[number].extend_from_slice(bytes);
        let bytes = if is_plain { requests.push(bytes) } else { bytes.to_vec() };
        Passed { bytes, is_last: false }
    });

    let mut responses = HttpResponses::default();
    let mut lines = 0;
    let mut bytes_of_line = 0;
    let down = copy(server_read, client_write, |bytes| {
        shared.forwarded.fetch_add(bytes.len(), Ordering::Relaxed);
        let mut streamed = shared.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, byte) in bytes.iter().enumerate() {
            if limit.is_some_and(|limit| (lines, bytes_of_line) >= (limit.lines, limit.bytes)) {
                return Passed { bytes: bytes[..index].to_vec(), is_last: true };
            }
            if responses.push(*byte) {
                streamed[number].push(*byte);
                bytes_of_line += 1;
                if *byte == b'\n' {
                    lines += 1;
                    bytes_of_line = 0;
                }
            }
        }
        Passed { bytes: bytes.to_vec(), is_last: false }
    });
    // Neither side uses half-open connections, so the end of one direction ends the connection.
    tokio::select! { up = up => up, down = down => down }
}

/// The bytes to forward in place of those that arrived.
struct Passed {
    bytes: Vec<u8>,
    /// Nothing follows, although the connection stays open.
    is_last: bool,
}

/// Forwards bytes in one direction, as `pass` says.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut pass: impl FnMut(&[u8]) -> Passed,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }

        let passed = pass(&buffer[..length]);
        to.write_all(&passed.bytes).await?;
        if passed.is_last {
            return std::future::pending().await;
        }
    }
}
