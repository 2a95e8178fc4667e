//! A client of `/sync/stream` that reads line by line and may stop after any of them.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use tidewater_protocol::{BucketPosition, StreamRequest, StreamSubscription, Streams};

use crate::local_buckets::{Completed, LineEffect, LocalBuckets};

/// A client with what it holds; connected for as long as a [`Connection`] lives.
#[derive(Debug)]
pub struct SyncReader {
    client_id: String,
    subscriptions: Vec<StreamSubscription>,
    buckets: LocalBuckets,
    http: reqwest::Client,
}

/// An open stream. Dropping it cuts the connection where it is.
pub struct Connection<'a> {
    buckets: &'a mut LocalBuckets,
    /// What was sent.
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
    /// A client that holds nothing, with an id of its own.
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

    /// The same, with an explicit subscription.
    #[must_use]
    pub fn subscribed(mut self, stream: &str, parameters: Map<String, Value>) -> Self {
        self.subscriptions.push(StreamSubscription {
            stream: stream.to_owned(),
            parameters: Some(parameters),
            override_priority: None,
        });
        self
    }

    /// Loses everything it holds.
    pub fn forget(&mut self) {
        self.buckets = LocalBuckets::default();
    }

    /// Opens the stream with the positions it holds.
    ///
    /// # Errors
    /// When there is no answer, or one that is no stream: then with its status and body.
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
        anyhow::ensure!(content_type == "application/x-ndjson", "content type {content_type:?}");
        let stream = response.bytes_stream().boxed();
        Ok(Connection { buckets: &mut self.buckets, positions, stream, received: BytesMut::new() })
    }

    /// Connects and reads to the first complete checkpoint.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn sync_once(&mut self, url: &str, token: &str) -> Result<Completed> {
        self.connect(url, token).await?.completed().await
    }

    /// Asks for a write checkpoint, as an SDK does when its upload queue is empty.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn write_checkpoint(&self, url: &str, token: &str) -> Result<i64> {
        let url = format!("{url}/write-checkpoint2.json?client_id={}", self.client_id);
        let request = self.http.get(url).header("authorization", format!("Token {token}"));
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let number = answer["data"]["write_checkpoint"].as_str().context("no write checkpoint")?;
        Ok(number.parse()?)
    }
}

impl Connection<'_> {
    /// Reads one line and applies it; `None` at the end of the stream.
    ///
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the connection breaks, or a rule of the protocol is broken.
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

    /// Reads to the next complete checkpoint.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn completed(&mut self) -> Result<Completed> {
        loop {
            let effect = self.next().await?;
            let effect = effect.context("the stream ended before a complete checkpoint")?;
            if let LineEffect::Complete(completed) = effect {
                return Ok(completed);
            }
        }
    }

    /// Reads until a complete checkpoint satisfies a condition.
    ///
    /// # Errors
    /// When the stream ends before.
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

/// Marks an error of [`Connection::next`] that no loss of a connection explains.
#[derive(Clone, Copy, Debug)]
struct Violation;

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server broke the protocol")
    }
}

/// Whether an error is the server's fault, rather than a broken connection.
pub(crate) fn is_violation(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Violation>().is_some()
}
