//! The outputs of the state machine.

use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::{Checkpoint, DataLine, OpId, SnapshotLine, StreamRequest};

use super::event::{LocalBucket, Timer};

/// An output of the state machine, to be carried out by the sync thread. The table in `core.rs`
/// explains each.
#[derive(Debug, PartialEq)]
pub(crate) enum Action<'a> {
    FetchToken,
    LoadBuckets,
    Open {
        connection: u64,
        token: String,
        request: Box<StreamRequest>,
    },
    Close,
    /// Stores these operations and the bucket's new state, in one transaction.
    Stage {
        line: DataLine<'a>,
        bucket: LocalBucket,
    },
    /// Fetches a snapshot's files. Until that has ended, no line of the stream is handled.
    FetchSnapshot {
        connection: u64,
        line: Arc<SnapshotLine>,
    },
    /// Makes a snapshot the bucket's content, in one transaction.
    StageSnapshot {
        line: Arc<SnapshotLine>,
        bucket: LocalBucket,
    },
    /// Discards the downloaded operations of these buckets. Their rows stay visible until the next
    /// published checkpoint.
    ResetBuckets {
        buckets: Vec<String>,
    },
    /// Publishes the stored operations as this checkpoint, unless it lacks a local write.
    Publish(Box<Checkpoint>),
    /// Sends the oldest local transaction.
    UploadNext,
    /// Records the verdict on a local transaction and removes it from the queue.
    FinishUpload {
        transaction_id: i64,
        rejected: Option<Rejection>,
    },
    RequestWriteCheckpoint {
        token: String,
        /// The version of the queue when it was found empty.
        queue_version: i64,
    },
    /// Stores the write checkpoint that covers all local writes, unless a local transaction was
    /// committed after `queue_version` was read.
    StoreWriteCheckpoint {
        queue_version: i64,
        write_checkpoint: OpId,
    },
    SetTimer {
        timer: Timer,
        after: Duration,
    },
}

/// The backend's verdict against a local transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: String,
    pub(crate) body: Option<String>,
}
