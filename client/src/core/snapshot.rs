//! Snapshots within the download machine: from the line to the bucket's new state.
//!
//! A fetch belongs to the stream that announced it. The stream's further lines wait until it ends,
//! and so does the stream's own end: an early close does not lose what was fetched. A failed fetch
//! closes the stream. The next stream announces the snapshot again, with fresh addresses. Frames
//! that have arrived stay on the device.

use std::sync::Arc;

use tidewater_protocol::SnapshotLine;
use tidewater_snapshot::check_line;

use super::Core;
use super::action::Action;
use super::download_state::{DownloadState, SnapshotFetch, StreamState};
use super::event::{FetchFailed, damaged_message};
use crate::status::{Problem, ProblemKind};

impl Core {
    pub(super) fn on_snapshot(&mut self, line: SnapshotLine, actions: &mut Vec<Action<'_>>) {
        if !self.download.is_announced(&line.bucket) {
            let message =
                format!("snapshot of bucket {}, which the checkpoint does not name", line.bucket);
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }

        // Sizes beyond the format's bounds are refused before anything is written.
        if let Err(error) = check_line(&line) {
            let message = damaged_message(&line.bucket, &error.to_string());
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }

        let frames = line.files.iter().flat_map(|file| &file.frames);
        let bytes_total = frames.map(|frame| frame.bytes).fold(0, u64::saturating_add);
        let line = Arc::new(line);
        self.download.fetch = Some(SnapshotFetch {
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

        if let Some(fetch) = &mut self.download.fetch {
            fetch.bytes_done += bytes;
            fetch.has_progressed |= is_new;
        }
    }

    pub(super) fn on_snapshot_fetched(
        &mut self,
        connection: u64,
        outcome: Result<(), FetchFailed>,
        actions: &mut Vec<Action<'_>>,
    ) {
        let DownloadState::Streaming(stream) = self.download.state else { return };
        if connection != self.download.connection {
            return;
        }
        let Some(fetch) = self.download.fetch.take() else { return };

        match outcome {
            Ok(()) => self.stage_snapshot(fetch.line, stream, actions),
            Err(failed) => self.on_fetch_failed(&fetch, failed, actions),
        }
    }

    fn stage_snapshot(
        &mut self,
        line: Arc<SnapshotLine>,
        stream: StreamState,
        actions: &mut Vec<Action<'_>>,
    ) {
        let bucket = self.download.buckets.entry(line.bucket.clone()).or_default();
        bucket.position = line.to;
        bucket.sum = line.checksum;
        bucket.count_since += line.count;
        let bucket = *bucket;

        self.download.state =
            DownloadState::Streaming(StreamState { has_progressed: true, ..stream });
        actions.push(Action::StageSnapshot { line, bucket });

        // A token that arrived during the fetch did not replace the stream. It does so now.
        if stream.is_renewing && !self.token.is_fetching {
            actions.push(Action::Close);
            self.connect(actions);
        }
    }

    fn on_fetch_failed(
        &mut self,
        fetch: &SnapshotFetch,
        failed: FetchFailed,
        actions: &mut Vec<Action<'_>>,
    ) {
        let bucket = &fetch.line.bucket;

        match failed {
            FetchFailed::Request(failed) => {
                if fetch.has_progressed {
                    self.download.backoff.reset();

                    // The address expired during the fetch, and the next stream brings a new one.
                    // Without progress this would be a loop without a pause.
                    if matches!(failed.status, Some(400..=499)) {
                        actions.push(Action::Close);
                        return self.connect(actions);
                    }
                }

                // Whatever the file server's status means, a new stream may bring a better address.
                // The failure is therefore never permanent.
                let message = format!("snapshot of bucket {bucket}: {}", failed.message);
                actions.push(Action::Close);
                self.fail(Problem::new(ProblemKind::Network, message), failed.retry_after, actions);
            }
            FetchFailed::Damaged(reason) => {
                let message = damaged_message(bucket, &reason);
                self.abandon(Problem::new(ProblemKind::Checksum, message), actions);
            }
            FetchFailed::Newer(reason) => {
                let message =
                    format!("bucket {bucket}: {reason}: update this client, or turn snapshots off");
                self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
            }
            FetchFailed::Storage(message) => {
                self.abandon(Problem::new(ProblemKind::Storage, message), actions);
            }
        }
    }
}
