//! A client of `/sync/stream` that needs little CPU: it only splits the stream into lines.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;

const COMPLETE: &[u8] = br#"{"checkpoint_complete""#;

/// An open stream of a client without data that has the default subscriptions.
pub(crate) struct StreamReader {
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    received: BytesMut,
}

impl StreamReader {
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

    /// Reads one line.
    async fn line(&mut self) -> Result<Bytes> {
        let mut searched = 0;
        loop {
            let unsearched = &self.received[searched..];
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(searched + end).freeze();
                self.received.advance(1);
                return Ok(line);
            }
            searched = self.received.len();
            let chunk = self.stream.next().await.context("the stream ended")??;
            self.received.extend_from_slice(&chunk);
        }
    }

    /// Reads up to the next complete checkpoint. Returns the lines before its completion.
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

    /// Reads until a checkpoint is complete whose lines contain a text.
    pub(crate) async fn completed_with(&mut self, text: &str) -> Result<()> {
        let mut is_found = false;
        while !is_found {
            is_found = self.completed().await?.iter().any(|line| occurrences(line, text) > 0);
        }
        Ok(())
    }

    /// Returns all bytes up to the first complete checkpoint.
    pub(crate) async fn first_checkpoint(mut self) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.stream.next().await {
            all.extend_from_slice(&chunk?);
            // The completion is the last line and shorter than this.
            let tail = &all[all.len().saturating_sub(200)..];
            if tail.ends_with(b"\n") && occurrences(tail, r#"{"checkpoint_complete""#) > 0 {
                return Ok(all.freeze());
            }
        }
        bail!("the stream ended before a complete checkpoint")
    }
}

/// Returns how often a text occurs, without overlaps.
pub(crate) fn occurrences(bytes: &[u8], text: &str) -> usize {
    String::from_utf8_lossy(bytes).matches(text).count()
}
