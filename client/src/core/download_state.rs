//! The state of the download machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidewater_protocol::{Checkpoint, SnapshotLine};

use super::backoff::Backoff;
use super::event::LocalBucket;
use crate::status::{Connection, Problem, Progress};

/// The download machine.
#[derive(Debug, Default)]
pub(super) struct Download {
    pub(super) state: DownloadState,
    /// The number of the stream opened last.
    pub(super) connection: u64,
    /// The stored state of each bucket, as of the last action.
    pub(super) buckets: BTreeMap<String, LocalBucket>,
    /// The checkpoint last announced on this stream.
    pub(super) announced: Option<Checkpoint>,
    /// The last complete checkpoint, until it is published or a newer one is announced. Pending
    /// uploads may defer it for a while.
    pub(super) deferred: Option<Checkpoint>,
    pub(super) backoff: Backoff,
    /// A 401 was answered and no stream has opened since.
    pub(super) unauthorized: bool,
    pub(super) problem: Option<Problem>,
    /// The number of buckets whose checksum was wrong, for the status.
    pub(super) mismatches: u64,
    pub(super) fetch: Option<SnapshotFetch>,
}

/// The position of the download machine between two streams and within one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum DownloadState {
    #[default]
    Stopped,
    /// Waits for the timer. `polling` is set after a clean end of an up-to-date stream.
    Waiting {
        polling: bool,
    },
    FetchingToken,
    LoadingBuckets,
    Opening,
    Streaming(StreamState),
}

/// The state of an open stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamState {
    /// The checkpoint last announced has been completed.
    pub(super) is_complete: bool,
    /// Operations were stored.
    pub(super) has_progressed: bool,
    /// A new token was requested. The stream is opened again with it.
    pub(super) is_renewing: bool,
}

impl StreamState {
    /// Returns whether the stream brought anything. After one that did not, opening the next one at
    /// once would be a loop without a pause.
    pub(super) fn is_useful(self) -> bool {
        self.is_complete || self.has_progressed
    }
}

/// A snapshot that is being fetched.
#[derive(Debug)]
pub(super) struct SnapshotFetch {
    pub(super) line: Arc<SnapshotLine>,
    /// The compressed size of all frames.
    pub(super) bytes_total: u64,
    /// The compressed size of the frames on the device.
    pub(super) bytes_done: u64,
    /// Set once a frame has come over the network.
    pub(super) has_progressed: bool,
}

impl SnapshotFetch {
    /// Returns the number of operations that the fetched part stands for; for progress.
    fn operations_done(&self) -> u64 {
        let done = u128::from(self.bytes_done.min(self.bytes_total));
        let count = u128::from(self.line.count) * done / u128::from(self.bytes_total.max(1));

        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl Download {
    pub(super) fn is_fetching(&self) -> bool {
        self.fetch.is_some()
    }

    /// Returns whether the checkpoint in flight names the bucket.
    pub(super) fn is_announced(&self, name: &str) -> bool {
        let announced = self.announced.as_ref();
        announced.is_some_and(|checkpoint| checkpoint.buckets.iter().any(|b| b.bucket == name))
    }

    pub(super) fn connection_status(&self) -> Connection {
        match &self.state {
            DownloadState::Stopped => Connection::Disconnected,
            DownloadState::Waiting { polling: true } | DownloadState::Streaming(_) => {
                Connection::Connected
            }
            DownloadState::Waiting { polling: false } => Connection::Waiting,
            DownloadState::FetchingToken
            | DownloadState::LoadingBuckets
            | DownloadState::Opening => Connection::Connecting,
        }
    }

    /// Returns the progress of the checkpoint in flight.
    pub(super) fn progress(&self) -> Option<Progress> {
        let DownloadState::Streaming(StreamState { is_complete: false, .. }) = &self.state else {
            return None;
        };

        let mut total = 0;
        let mut downloaded = 0;
        for bucket in &self.announced.as_ref()?.buckets {
            let local = self.buckets.get(&bucket.bucket).copied().unwrap_or_default();
            total += bucket.count.saturating_sub(local.count_at_checkpoint);
            downloaded += local.count_since;
        }
        downloaded += self.fetch.as_ref().map_or(0, SnapshotFetch::operations_done);

        Some(Progress { downloaded: downloaded.min(total), total })
    }
}
