//! A reader of `/sync/stream` that does next to nothing with what it reads.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;

const COMPLETE: &[u8] = br#"{"checkpoint_complete""#;

/// An open stream of the default subscriptions of a client that holds nothing.
pub(crate) struct Reader {
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    received: BytesMut,
}

impl Reader {
    pub(crate) async fn open(url: &str, token: &str) -> Result<Self> {
        let body = json!({"buckets": [], "include_checksum": true, "raw_data": true,
                          "client_id": "00000000-0000-4000-8000-000000000001"});
        let response = reqwest::Client::new()
            .post(format!("{url}/sync/stream"))
            .header("authorization", format!("Token {token}"))
            .header("accept", "application/x-ndjson")
            .json(&body)
            .send()
            .await?;
        let status = response.status();
        ensure!(status == 200, "{status}: {}", response.text().await?);
        Ok(Self { stream: response.bytes_stream().boxed(), received: BytesMut::new() })
    }

    /// One line.
    async fn line(&mut self) -> Result<Bytes> {
        let mut looked_at = 0;
        loop {
            let unseen = &self.received[looked_at..];
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(looked_at + end).freeze();
                self.received.advance(1);
                return Ok(line);
            }
            looked_at = self.received.len();
            let chunk = self.stream.next().await.context("the stream ended")??;
            self.received.extend_from_slice(&chunk);
        }
    }

    /// Reads to the next complete checkpoint; the lines before it.
    pub(crate) async fn completed(&mut self) -> Result<Vec<Bytes>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.starts_with(COMPLETE) {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    /// Reads until a checkpoint is complete before which, or with which, a text was sent.
    pub(crate) async fn completed_with(&mut self, text: &str) -> Result<()> {
        let mut seen = false;
        while !seen {
            seen = self.completed().await?.iter().any(|line| occurrences(line, text) > 0);
        }
        Ok(())
    }

    /// All bytes to the first complete checkpoint.
    pub(crate) async fn first_checkpoint(mut self) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.stream.next().await {
            all.extend_from_slice(&chunk?);
            // The completion is the last line, and short.
            let tail = &all[all.len().saturating_sub(200)..];
            if tail.ends_with(b"\n") && occurrences(tail, r#"{"checkpoint_complete""#) > 0 {
                return Ok(all.freeze());
            }
        }
        bail!("the stream ended before a complete checkpoint")
    }
}

/// How often a text occurs, overlaps not counted.
pub(crate) fn occurrences(bytes: &[u8], text: &str) -> usize {
    String::from_utf8_lossy(bytes).matches(text).count()
}
