//! The inputs of the state machine, with the outcomes that the I/O layers report.
//!
//! The outcomes are defined here, below all I/O: `net/` and `sync/` import them, never the reverse.

use std::collections::BTreeMap;
use std::time::Duration;

use tidewater_protocol::{Checksum, LineError, OpId, SyncLine};

use crate::connector::UploadOutcome;
use crate::status::{Problem, ProblemKind};

/// The stored state of a bucket, including what is downloaded and not yet published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalBucket {
    /// Everything up to here is stored.
    pub(crate) position: OpId,
    /// The checksum of everything up to `position`.
    pub(crate) sum: Checksum,
    /// The number of operations that the bucket had at the last checkpoint; for progress.
    pub(crate) count_at_checkpoint: u64,
    /// The number of operations received since; for progress.
    pub(crate) count_since: u64,
}

/// An input of the state machine. The module documentation of `core.rs` explains each.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Start,
    Token(Result<String, Problem>),
    BucketsLoaded(BTreeMap<String, LocalBucket>),
    Opened {
        connection: u64,
    },
    Line {
        connection: u64,
        line: Result<SyncLine<'a>, LineError>,
    },
    Closed {
        connection: u64,
        reason: Closed,
    },
    FrameFetched {
        connection: u64,
        /// The compressed size.
        bytes: u64,
        /// False if the frame was on the device already.
        is_new: bool,
    },
    SnapshotFetched {
        connection: u64,
        outcome: Result<(), FetchFailed>,
    },
    PublishFinished(PublishOutcome),
    StoreFailed(String),
    QueueFailed(String),
    LocalWrite,
    QueueEmpty {
        pending: PendingUploads,
        /// Changes with each local transaction: tells later whether others came.
        queue_version: i64,
    },
    Uploaded {
        transaction_id: i64,
        outcome: UploadOutcome,
    },
    WriteCheckpoint {
        queue_version: i64,
        answer: Result<OpId, RequestFailed>,
    },
    WriteCheckpointStored(bool),
    Timer(Timer),
    NetworkUp,
}

/// The reason why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The server ended it cleanly.
    Ended,
    /// The network broke, or the stream was idle for too long.
    Broken(String),
    /// The server refused the request before the first line.
    Refused(RequestFailed),
}

/// A request that got no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFailed {
    /// The HTTP status; `None` if there was no answer at all.
    pub(crate) status: Option<u16>,
    /// The wait that the server requests.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) message: String,
}

impl RequestFailed {
    /// Returns the failure as the app sees it.
    pub(super) fn problem(&self) -> Problem {
        let kind = match self.status {
            None | Some(408 | 425 | 429 | 500..) => ProblemKind::Network,
            Some(401) => ProblemKind::Credentials,
            Some(_) => ProblemKind::Protocol,
        };

        Problem::new(kind, self.message.clone())
    }
}

/// The reason why a snapshot was not fetched. Frames that have arrived stay on the device, and are
/// not fetched again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchFailed {
    /// The network failed or the request was refused. A new stream brings new addresses.
    Request(RequestFailed),
    /// The content is not what was announced.
    Damaged(String),
    /// A later version of the format wrote it.
    Newer(String),
    /// The device's disk failed.
    Storage(String),
}

/// The result of publishing a complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    /// It is visible now.
    Published(OpId),
    /// It does not contain all local writes. It is stored, and tried again when the write
    /// checkpoint is known.
    Deferred,
    /// The app's tables refuse a row of it.
    Refused(String),
    /// A bucket's snapshot cannot be used.
    SnapshotDamaged { bucket: String, message: String },
}

/// The local writes that the visible checkpoint does not contain. They decide whether a complete
/// checkpoint may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingUploads {
    /// There are none: every complete checkpoint may be published.
    None,
    /// There are some, and their write checkpoint is not known yet: none may be published.
    Unknown,
    /// There are some: a checkpoint may be published from this write checkpoint on.
    Until(OpId),
}

/// A timer of the state machine. There is one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Time to open the stream again.
    Reconnect,
    /// Time to try the upload queue again.
    Upload,
    /// Time by which the awaited write checkpoint should have arrived.
    WriteCheckpoint,
}

/// Returns the message about a snapshot that cannot be used. No row of it became visible.
pub(crate) fn damaged_message(bucket: &str, reason: &str) -> String {
    format!(
        "the snapshot of bucket {bucket} is damaged ({reason}) and is fetched again; if this \
         repeats, sync without snapshots (--no-snapshots, Options::snapshots) and rebuild it on \
         the server"
    )
}
