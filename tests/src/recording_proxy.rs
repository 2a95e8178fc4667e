//! A TCP proxy in front of the API: one address that stays while the server comes and goes, a
//! record of what was asked and answered, and a way to cut connections anywhere.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tidewater_protocol::StreamRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http_answers::HttpAnswers;

/// The proxy; it ends when this is dropped.
pub struct RecordingProxy {
    url: String,
    shared: Arc<Shared>,
    cut: watch::Sender<u64>,
}

struct Shared {
    target: Mutex<String>,
    /// What clients sent, by connection.
    received: Mutex<Vec<Vec<u8>>>,
    /// What they were sent of sync streams, by connection.
    streamed: Mutex<Vec<Vec<u8>>>,
    hold: Mutex<Option<Hold>>,
}

/// Where a connection's stream stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// So many whole lines pass.
    pub lines: usize,
    /// And so many bytes of the next one.
    pub bytes: usize,
}

impl RecordingProxy {
    /// Forwards to `http://address`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(url: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            received: Mutex::default(),
            streamed: Mutex::default(),
            hold: Mutex::default(),
        });
        let (cut, cuts) = watch::channel(0);
        let proxy = Self { url: format!("http://{address}"), shared: shared.clone(), cut };
        proxy.forward_to(url);
        tokio::spawn(accept(listener, shared, cuts));
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends further connections to `http://address`.
    pub fn forward_to(&self, url: &str) {
        let address = url.trim_start_matches("http://").to_owned();
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Cuts every open connection.
    pub fn cut_connections(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Makes the stream of each further connection stop there, until it is cut: so a client can be
    /// cut off when it has taken in all that it was sent. `None` ends that.
    pub fn hold_streams(&self, hold: Option<Hold>) {
        *self.shared.hold.lock().unwrap_or_else(PoisonError::into_inner) = hold;
    }

    /// What has passed of the sync streams, one text for each connection that had any. The last
    /// line of each may be a part of one.
    #[must_use]
    pub fn streams(&self) -> Vec<String> {
        let streamed = self.shared.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        let some = streamed.iter().filter(|bytes| !bytes.is_empty());
        some.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The bodies of all requests for the sync stream, in the order of their connections.
    ///
    /// # Errors
    /// When one is no JSON.
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

/// Ends when the proxy is dropped, and all connections with it.
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
            let (shared, mut cuts) = (shared.clone(), cuts.clone());
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = connect(client, &shared) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }
}

async fn connect(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let server = TcpStream::connect(target).await?;
    let number = {
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(Vec::new());
        shared.streamed.lock().unwrap_or_else(PoisonError::into_inner).push(Vec::new());
        received.len() - 1
    };
    let hold = *shared.hold.lock().unwrap_or_else(PoisonError::into_inner);
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = copy(client_read, server_write, |bytes| {
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received[number].extend_from_slice(bytes);
        bytes.len()
    });
    let (mut answers, mut lines, mut bytes_of_line) = (HttpAnswers::default(), 0, 0);
    let down = copy(server_read, client_write, |bytes| {
        let mut streamed = shared.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, byte) in bytes.iter().enumerate() {
            if hold.is_some_and(|hold| (lines, bytes_of_line) >= (hold.lines, hold.bytes)) {
                return index;
            }
            if answers.push(*byte) {
                streamed[number].push(*byte);
                bytes_of_line += 1;
                if *byte == b'\n' {
                    (lines, bytes_of_line) = (lines + 1, 0);
                }
            }
        }
        bytes.len()
    });
    // An end in one direction is the end: neither side uses half-open connections.
    tokio::select! { up = up => up, down = down => down }
}

/// `pass` says how many bytes go on; when it is not all of them, these were the last.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut pass: impl FnMut(&[u8]) -> usize,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let passed = pass(&buffer[..length]);
        to.write_all(&buffer[..passed]).await?;
        if passed < length {
            return std::future::pending().await;
        }
    }
}
