//! A client of `/sync/stream` that reads and verifies line by line.
//!
//! A [`SyncReader`] keeps its [`LocalBuckets`] over connections. A [`Connection`] may be dropped after
//! any line.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use tidewater_protocol::{BucketPosition, StreamRequest, StreamSubscription, Streams};

use crate::local_buckets::{Completed, LineEffect, LocalBuckets};

/// A client and its buckets. It is connected as long as a [`Connection`] exists.
#[derive(Debug)]
pub struct SyncReader {
    client_id: String,
    subscriptions: Vec<StreamSubscription>,
    buckets: LocalBuckets,
    http: reqwest::Client,
}

/// An open stream. Dropping it cuts the connection.
pub struct Connection<'a> {
    buckets: &'a mut LocalBuckets,
    /// The bucket positions of the request.
    pub positions: Vec<BucketPosition>,
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    received: BytesMut,
}

impl Default for SyncReader {
    fn default() -> Self {
        Self::new()
    }
}

impl SyncReader {
    /// Creates a client without data, with a unique client id.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            client_id: format!("00000000-0000-4000-8000-{number:012}"),
            subscriptions: Vec::new(),
            buckets: LocalBuckets::default(),
            http: reqwest::Client::new(),
        }
    }

    /// Adds an explicit subscription.
    #[must_use]
    pub fn subscribed(mut self, stream: &str, parameters: Map<String, Value>) -> Self {
        self.subscriptions.push(StreamSubscription {
            stream: stream.to_owned(),
            parameters: Some(parameters),
            override_priority: None,
        });
        self
    }

    /// Deletes all data.
    pub fn clear(&mut self) {
        self.buckets = LocalBuckets::default();
    }

    /// Opens a stream from the positions of the stored buckets.
    ///
    /// # Errors
    /// Fails when the server does not respond, and with status and body when it sends no stream.
    pub async fn connect(&mut self, url: &str, token: &str) -> Result<Connection<'_>> {
        let positions = self.buckets.connect();
        let request = StreamRequest {
            buckets: positions.clone(),
            include_checksum: true,
            raw_data: true,
            client_id: Some(self.client_id.clone()),
            streams: Some(Streams {
                include_defaults: true,
                subscriptions: self.subscriptions.clone(),
            }),
            ..StreamRequest::default()
        };
        let response = self
            .http
            .post(format!("{url}/sync/stream"))
            .header("authorization", format!("Token {token}"))
            .header("accept", "application/x-ndjson")
            .json(&request)
            .send()
            .await?;

        let status = response.status();
        if status != 200 {
            bail!("{status}: {}", response.text().await?);
        }
        let content_type = response.headers().get("content-type").context("no content type")?;
        ensure!(content_type == "application/x-ndjson", "content type {content_type:?}");
        let stream = response.bytes_stream().boxed();
        Ok(Connection { buckets: &mut self.buckets, positions, stream, received: BytesMut::new() })
    }

    /// Connects and reads up to the first complete checkpoint.
    ///
    /// # Errors
    /// Fails when the stream ends before that.
    pub async fn sync_once(&mut self, url: &str, token: &str) -> Result<Completed> {
        self.connect(url, token).await?.completed().await
    }

    /// Requests a write checkpoint, as an SDK does when its upload queue is empty.
    ///
    /// # Errors
    /// Fails when the server refuses the request.
    pub async fn write_checkpoint(&self, url: &str, token: &str) -> Result<i64> {
        let url = format!("{url}/write-checkpoint2.json?client_id={}", self.client_id);
        let request = self.http.get(url).header("authorization", format!("Token {token}"));
        let reply: Value = request.send().await?.error_for_status()?.json().await?;
        let number = reply["data"]["write_checkpoint"].as_str().context("no write checkpoint")?;
        Ok(number.parse()?)
    }
}

impl Connection<'_> {
    /// Reads one line and applies it. Returns `None` at the end of the stream.
    ///
    /// The call is cancel-safe: received bytes are kept for the next call.
    ///
    /// # Errors
    /// Fails when the connection breaks, or when the line violates the protocol.
    pub async fn next(&mut self) -> Result<Option<LineEffect>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(end).freeze();
                self.received.advance(1);
                let effect = self.buckets.apply(&line);
                return effect.map(Some).map_err(|error| error.context(Violation));
            }
            match self.stream.next().await {
                Some(chunk) => self.received.extend_from_slice(&chunk?),
                None if self.received.is_empty() => return Ok(None),
                None => bail!("the stream ended within a line"),
            }
        }
    }

    /// Reads up to the next complete checkpoint.
    ///
    /// # Errors
    /// Fails when the stream ends before that.
    pub async fn completed(&mut self) -> Result<Completed> {
        loop {
            let effect = self.next().await?;
            let effect = effect.context("the stream ended before a complete checkpoint")?;
            if let LineEffect::Complete(completed) = effect {
                return Ok(completed);
            }
        }
    }

    /// Reads up to a complete checkpoint that satisfies a condition.
    ///
    /// # Errors
    /// Fails when the stream ends before that.
    pub async fn completed_with(
        &mut self,
        condition: impl Fn(&Completed) -> bool,
    ) -> Result<Completed> {
        loop {
            let completed = self.completed().await?;
            if condition(&completed) {
                return Ok(completed);
            }
        }
    }
}

/// The context of an error of [`Connection::next`] that a lost connection cannot cause.
#[derive(Clone, Copy, Debug)]
struct Violation;

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server violated the protocol")
    }
}

/// Returns whether an error is a violation of the protocol, and not a broken connection.
pub(crate) fn is_violation(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Violation>().is_some()
}
