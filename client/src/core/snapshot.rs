//! Snapshots within the download machine: from the line to the bucket's new state.
//!
//! A fetch belongs to the stream that announced it. The stream's further lines wait for its end,
//! and so does the stream's own end: what was fetched is not lost by it. A fetch that fails gives
//! the stream up, and the next one announces the snapshot anew, with fresh addresses; frames that
//! have arrived stay on the device.

use std::sync::Arc;

use tidewater_protocol::SnapshotLine;
use tidewater_snapshot::check_line;

use super::download::{Link, Stream};
use super::{Action, Core};
use crate::net::fetch::FetchFailed;
use crate::status::{Problem, ProblemKind};

/// A snapshot that is being fetched.
#[derive(Debug)]
pub(super) struct Fetching {
    line: Arc<SnapshotLine>,
    /// Compressed bytes.
    bytes_total: u64,
    bytes_done: u64,
    has_progressed: bool,
}

impl Fetching {
    /// Operations that what has arrived stands for; for progress.
    pub(super) fn count(&self) -> u64 {
        let done = u128::from(self.bytes_done.min(self.bytes_total));
        let count = u128::from(self.line.count) * done / u128::from(self.bytes_total.max(1));
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl super::Download {
    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }
}

impl Core {
    pub(super) fn on_snapshot(&mut self, line: SnapshotLine, actions: &mut Vec<Action<'_>>) {
        if !self.is_announced(&line.bucket) {
            let message =
                format!("snapshot of bucket {}, which the checkpoint does not name", line.bucket);
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }
        if let Err(error) = check_line(&line) {
            let message = damaged(&line.bucket, &error.to_string());
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }
        let frames = line.files.iter().flat_map(|file| &file.frames);
        let bytes_total = frames.map(|frame| frame.bytes).fold(0, u64::saturating_add);
        let line = Arc::new(line);
        self.download.fetching = Some(Fetching {
            line: Arc::clone(&line),
            bytes_total,
            bytes_done: 0,
            has_progressed: false,
        });
        let connection = self.download.connection;
        actions.push(Action::FetchSnapshot { connection, line });
    }

    pub(super) fn on_frame_fetched(&mut self, connection: u64, bytes: u64, is_new: bool) {
        if connection != self.download.connection {
            return;
        }
        if let Some(fetching) = &mut self.download.fetching {
            fetching.bytes_done += bytes;
            fetching.has_progressed |= is_new;
        }
    }

    pub(super) fn on_snapshot_fetched(
        &mut self,
        connection: u64,
        outcome: Result<(), FetchFailed>,
        actions: &mut Vec<Action<'_>>,
    ) {
        let Link::Streaming(stream) = self.download.link else { return };
        if connection != self.download.connection {
            return;
        }
        let Some(fetching) = self.download.fetching.take() else { return };
        match outcome {
            Ok(()) => self.take_snapshot(fetching.line, stream, actions),
            Err(failed) => self.on_fetch_failed(&fetching, failed, actions),
        }
    }

    fn take_snapshot(
        &mut self,
        line: Arc<SnapshotLine>,
        stream: Stream,
        actions: &mut Vec<Action<'_>>,
    ) {
        let bucket = self.download.buckets.entry(line.bucket.clone()).or_default();
        bucket.position = line.to;
        bucket.sum = line.checksum;
        bucket.count_since += line.count;
        let bucket = *bucket;
        self.download.link = Link::Streaming(Stream { has_progressed: true, ..stream });
        actions.push(Action::StageSnapshot { line, bucket });
        // A token that came meanwhile was put off.
        if stream.is_renewing && !self.token.is_fetching {
            actions.push(Action::Close);
            self.connect(actions);
        }
    }

    fn on_fetch_failed(
        &mut self,
        fetching: &Fetching,
        failed: FetchFailed,
        actions: &mut Vec<Action<'_>>,
    ) {
        let SnapshotLine { bucket, .. } = &*fetching.line;
        match failed {
            FetchFailed::Request(failed) => {
                if fetching.has_progressed {
                    self.download.backoff.reset();
                    // An address that has expired: the next stream brings a new one.
                    if matches!(failed.status, Some(400..=499)) {
                        actions.push(Action::Close);
                        return self.connect(actions);
                    }
                }
                let message = format!("snapshot of bucket {bucket}: {}", failed.message);
                actions.push(Action::Close);
                // Whatever its server says of an address, a new stream may mend it.
                self.fail(Problem::new(ProblemKind::Network, message), failed.retry_after, actions);
            }
            FetchFailed::Damaged(reason) => {
                let problem = Problem::new(ProblemKind::Checksum, damaged(bucket, &reason));
                self.abandon(problem, actions);
            }
            FetchFailed::Newer(reason) => {
                let message = format!(
                    "bucket {bucket}: {reason}: update this client, or switch its snapshots off"
                );
                self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
            }
            FetchFailed::Storage(message) => {
                self.abandon(Problem::new(ProblemKind::Storage, message), actions);
            }
        }
    }
}

/// What to tell of a snapshot that cannot be used. Nothing of it was taken in.
pub(crate) fn damaged(bucket: &str, reason: &str) -> String {
    format!(
        "the snapshot of bucket {bucket} is damaged ({reason}) and is fetched again; if this stays \
         so, sync without snapshots (--no-snapshots, Options::snapshots) and have the server make \
         it anew"
    )
}
