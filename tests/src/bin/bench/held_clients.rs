//! Many clients with an open stream each, which need little CPU and memory: they count completions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::deployment::Deployment;

const COMPLETE: &[u8] = br#"{"checkpoint_complete""#;

/// Requests that are in flight at a time while the clients connect: as many as a listener queues.
const CONNECTING_MAX: usize = 500;

/// Time until all clients must have received something: far more than it takes.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval between two looks at the counts of all clients.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Clients with open streams. They are cut when this is dropped.
pub(crate) struct HeldClients {
    counts: Arc<[ClientCount]>,
    tasks: Vec<AbortHandle>,
}

/// The completions that a client has received.
#[derive(Default)]
struct ClientCount {
    completions: AtomicU64,
    received: tokio::sync::Notify,
}

/// Returns the id of the user of client `number`.
pub(crate) fn user(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

impl HeldClients {
    /// Connects clients from number 1 on, and waits until each has completed a checkpoint.
    pub(crate) async fn connect(deployment: &Deployment, url: &str, count: usize) -> Result<Self> {
        let address: SocketAddr = url.trim_start_matches("http://").parse()?;
        let mut requests = Vec::with_capacity(count);
        for number in 1..=count {
            requests.push(request(&deployment.token(&user(number))?, number));
        }

        let counts: Arc<[ClientCount]> = (0..count).map(|_| ClientCount::default()).collect();
        let opened = stream::iter(requests.into_iter().enumerate()).map(|(at, request)| {
            let counts = Arc::clone(&counts);
            async move {
                let mut connection = TcpStream::connect(address).await?;
                connection.set_nodelay(true)?;
                connection.write_all(request.as_bytes()).await?;
                let reading = tokio::spawn(async move { read(connection, &counts[at]).await });
                anyhow::Ok(reading.abort_handle())
            }
        });
        let tasks = opened.buffer_unordered(CONNECTING_MAX).try_collect().await?;

        let clients = Self { counts, tasks };
        clients.all_completed(1).await.context("not all clients have connected")?;
        Ok(clients)
    }

    /// Returns the number of completions that a client has received.
    pub(crate) fn completions(&self, client: usize) -> u64 {
        self.counts[client - 1].completions.load(Ordering::Acquire)
    }

    /// Waits until a client has received this number of completions.
    pub(crate) async fn completed(&self, client: usize, completions: u64) -> Result<()> {
        let count = &self.counts[client - 1];
        let reached = async {
            loop {
                let received = count.received.notified();
                if count.completions.load(Ordering::Acquire) >= completions {
                    return;
                }
                received.await;
            }
        };
        timeout(RECEIVE_TIMEOUT, reached).await.context("a client has received nothing")
    }

    /// Waits until each client has received this number of completions.
    pub(crate) async fn all_completed(&self, completions: u64) -> Result<()> {
        let begun = Instant::now();
        let has_all =
            |count: &ClientCount| count.completions.load(Ordering::Acquire) >= completions;
        while !self.counts.iter().all(has_all) {
            let missing = self.counts.iter().filter(|count| !has_all(count)).count();
            ensure!(begun.elapsed() < RECEIVE_TIMEOUT, "{missing} clients have not received it");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Returns the most completions that a client has received.
    pub(crate) fn most_completions(&self) -> u64 {
        let counts = self.counts.iter().map(|count| count.completions.load(Ordering::Acquire));
        counts.max().unwrap_or(0)
    }
}

impl Drop for HeldClients {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn request(token: &str, number: usize) -> String {
    let body = format!(
        r#"{{"buckets":[],"include_checksum":true,"raw_data":true,"client_id":"held-{number}"}}"#
    );
    format!(
        "POST /sync/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Token {token}\r\n\
         Content-Type: application/json\r\nAccept: application/x-ndjson\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Counts the completions of a stream until it ends. A line is within one chunk of the response, but not
/// always within one read.
async fn read(mut connection: TcpStream, count: &ClientCount) -> Result<()> {
    let mut buffer = Vec::with_capacity(1 << 10);
    loop {
        if connection.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let found = buffer.windows(COMPLETE.len()).filter(|window| *window == COMPLETE).count();
        if found > 0 {
            count.completions.fetch_add(found as u64, Ordering::Release);
            count.received.notify_waiters();
        }

        // What may be the begin of another completion is kept, and what was counted is not.
        let kept = buffer.len().min(COMPLETE.len() - 1);
        buffer.drain(..buffer.len() - kept);
    }
}
