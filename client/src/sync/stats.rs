//! The totals of a session: transferred data and durations.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tidewater_protocol::OpId;
use tokio::time::Instant;

/// The way in which a bucket's rows were transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferMethod {
    /// Operations in lines of the stream. Also if the bucket was up to date already.
    Lines,
    /// A snapshot's files, whose rows were copied into the app's tables.
    SnapshotMerged,
}

impl fmt::Display for TransferMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "lines",
            Self::SnapshotMerged => "snapshot merged",
        })
    }
}

/// The running totals of a session.
#[derive(Clone, Debug)]
pub(crate) struct SyncStats {
    started: Instant,
    /// The time from the start to the server's first answer.
    pub(crate) connect: Option<Duration>,
    /// The time spent in publishing.
    pub(crate) publish: Duration,
    /// Bytes of the stream, uncompressed, and of snapshots, compressed.
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    /// Rows that were examined by publications.
    pub(crate) rows: u64,
    /// The buckets of the last published checkpoint.
    pub(crate) buckets: BTreeMap<String, TransferMethod>,
    pub(crate) checkpoint: OpId,
}

impl SyncStats {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            connect: None,
            publish: Duration::ZERO,
            bytes: 0,
            operations: 0,
            rows: 0,
            buckets: BTreeMap::new(),
            checkpoint: OpId::ZERO,
        }
    }

    /// Returns the time since the session began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
