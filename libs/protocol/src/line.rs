//! The lines of the sync stream as values, and how they are read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::op_id::OpId;
use crate::operation::{Body, Operation, RowKey};

/// One line of the sync stream.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncLine<'a> {
    /// All buckets of the connection at a checkpoint. It is the first line of every connection.
    Checkpoint(Checkpoint),
    /// Difference to the checkpoint that was last announced on this connection.
    CheckpointDiff(CheckpointDiff),
    /// Operations of one bucket.
    Data(DataLine<'a>),
    /// A bucket's rows as files, in place of `data` lines. It is sent only to clients that requested
    /// it.
    Snapshot(SnapshotLine),
    /// End of the checkpoint: everything of it has been sent.
    CheckpointComplete(CheckpointComplete),
    /// End of a part of the checkpoint: all buckets up to a priority have been sent.
    PartialCheckpointComplete(PartialCheckpointComplete),
    /// Whole seconds until the token expires. It is also the keep-alive line.
    TokenExpiresIn(i64),
    /// A line of a kind that this version does not know. Clients ignore it.
    Unknown,
}

/// The content of a [`SyncLine::Checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Position of the checkpoint. When it is complete, it is the client's position in each bucket.
    pub last_op_id: OpId,
    /// Greatest acknowledged write checkpoint of this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_checkpoint: Option<OpId>,
    /// All buckets of the client. It deletes every bucket that is not listed.
    pub buckets: Vec<BucketDescription>,
    /// Streams that the connection is subscribed to.
    #[serde(default)]
    pub streams: Vec<StreamDescription>,
}

/// The content of a [`SyncLine::CheckpointDiff`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDiff {
    /// Position of the checkpoint, as in [`Checkpoint`].
    pub last_op_id: OpId,
    /// Write checkpoint that replaces the previous one, even if it is absent. Servers repeat it in
    /// every line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_checkpoint: Option<OpId>,
    /// Buckets that are new, or whose checksum or count changed.
    pub updated_buckets: Vec<BucketDescription>,
    /// Names of the buckets that the client must delete.
    pub removed_buckets: Vec<String>,
}

/// A bucket at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDescription {
    /// Name of the bucket. Clients treat it as opaque.
    pub bucket: String,
    /// Sum over all of the bucket's operations up to the checkpoint.
    pub checksum: Checksum,
    /// Number of operations that a new client is sent. It serves progress bars only.
    #[serde(default)]
    pub count: u64,
    /// Place of the bucket in the order of sending.
    #[serde(default)]
    pub priority: Priority,
    /// Subscriptions that grant the bucket to the client.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// A priority from 0 (most urgent) to 3 (the default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// Returns the priority with this number, or `None` if the number exceeds 3.
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority <= 3 { Some(Self(priority)) } else { None }
    }

    /// Returns the priority's number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// The error of a number that is not a priority. It holds the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is not one of 0 to 3")]
pub struct InvalidPriority(pub u8);

impl Default for Priority {
    fn default() -> Self {
        Self(3)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = InvalidPriority;

    fn try_from(priority: u8) -> Result<Self, InvalidPriority> {
        Self::new(priority).ok_or(InvalidPriority(priority))
    }
}

/// The subscription by which a client has a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    /// Default subscription, by the index of its stream in [`Checkpoint::streams`].
    Default(usize),
    /// Explicit subscription, by its index in the request.
    Sub(usize),
}

/// A stream that the connection is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDescription {
    /// Name of the stream.
    pub name: String,
    /// Flag of a stream with `auto_subscribe`.
    pub is_default: bool,
    /// Subscriptions that could not be evaluated. The list is always present on the wire, since
    /// clients require it.
    pub errors: Vec<StreamError>,
}

/// The reason why a subscription grants no bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// Subscription that failed.
    pub subscription: SubscriptionRef,
    /// Reason, written for the app's developer.
    pub message: String,
}

/// A reference to the default subscription, or to an explicit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SubscriptionRef {
    /// Explicit subscription, by its index in the request.
    Explicit(usize),
    /// Default subscription of the stream, written as the text `default`.
    Default(DefaultSubscription),
}

/// The text `default` in a [`SubscriptionRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultSubscription {
    /// The text itself.
    Default,
}

impl SubscriptionRef {
    /// Reference to the default subscription.
    pub const DEFAULT: Self = Self::Default(DefaultSubscription::Default);
}

/// The content of a [`SyncLine::CheckpointComplete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointComplete {
    /// Position of the checkpoint that was last announced.
    pub last_op_id: OpId,
}

/// The content of a [`SyncLine::PartialCheckpointComplete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialCheckpointComplete {
    /// Position of the checkpoint that was last announced.
    pub last_op_id: OpId,
    /// Priority up to which buckets are complete: those of this number and of smaller ones.
    pub priority: Priority,
}

/// Operations of one bucket, in ascending order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLine<'a> {
    /// Name of the bucket.
    pub bucket: String,
    /// Operations that the line carries.
    pub operations: Vec<Operation<'a>>,
}

/// The content of a [`SyncLine::Snapshot`].
///
/// The client drops the rows that it holds of the bucket and takes those of the snapshot. After that
/// its position in the bucket is `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLine {
    /// Name of the bucket.
    pub bucket: String,
    /// Identity of the snapshot within its deployment. Snapshots with equal ids have equal files.
    pub id: String,
    /// Last operation of the bucket that the snapshot contains.
    pub to: OpId,
    /// Sum over all of the bucket's operations up to `to`.
    pub checksum: Checksum,
    /// Number of rows in all files together.
    pub rows: u64,
    /// Share of the snapshot in the bucket's `count`.
    pub count: u64,
    /// Files of the snapshot, at least one. Each row is in one of them.
    pub files: Vec<SnapshotFile>,
}

/// One file of a [`SnapshotLine`]: a SQLite database, compressed as consecutive zstd frames.
///
/// Each frame can be fetched, checked and unpacked separately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// URL of the file, absolute or relative to the URL of the request. It supports GET with ranges.
    /// It expires; a client then opens a new stream to get another one.
    pub url: String,
    /// Size of the unpacked database in bytes.
    pub raw_bytes: u64,
    /// Frames in the order of the file. The first begins at byte 0.
    pub frames: Vec<SnapshotFrame>,
}

/// One zstd frame of a [`SnapshotFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFrame {
    /// Size of the frame in bytes, compressed.
    pub bytes: u64,
    /// Size of the frame in bytes, unpacked.
    pub raw_bytes: u64,
    /// SHA-256 of the unpacked bytes, in hexadecimal.
    pub sha256: String,
}

/// The reason why a line cannot be read. The stream cannot be continued after it.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line is not JSON, or a member is missing or has another type.
    #[error("malformed sync line")]
    Malformed(#[source] serde_json::Error),
    /// An operation lacks a member that its kind requires.
    #[error("operation {op_id} ({kind}) lacks {missing}")]
    Incomplete {
        /// Id of the operation.
        op_id: OpId,
        /// Kind of the operation, as in `op`.
        kind: String,
        /// Name of what is missing.
        missing: &'static str,
    },
    /// An operation has a kind that this version does not know.
    #[error("operation {op_id} has the unknown kind '{kind}'")]
    UnknownKind {
        /// Id of the operation.
        op_id: OpId,
        /// Kind of the operation, as in `op`.
        kind: String,
    },
}

impl<'a> SyncLine<'a> {
    /// Reads one line of JSON. Operations borrow from it where no character is escaped. A line of an
    /// unknown kind becomes [`SyncLine::Unknown`].
    ///
    /// # Errors
    /// Fails if the line is not a JSON object, if a line of a known kind lacks a member, or if it
    /// carries an operation of an unknown kind.
    pub fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        let raw: RawLine<'a> = serde_json::from_slice(line).map_err(LineError::Malformed)?;

        if let Some(data) = raw.data {
            return data.try_into().map(Self::Data);
        }

        let simple = raw
            .checkpoint
            .map(Self::Checkpoint)
            .or(raw.checkpoint_diff.map(Self::CheckpointDiff))
            .or(raw.snapshot.map(Self::Snapshot))
            .or(raw.checkpoint_complete.map(Self::CheckpointComplete))
            .or(raw.partial_checkpoint_complete.map(Self::PartialCheckpointComplete))
            .or(raw.token_expires_in.map(Self::TokenExpiresIn));
        Ok(simple.unwrap_or(Self::Unknown))
    }
}

/// A line as JSON has it: at most one of the members is present.
#[derive(Deserialize)]
struct RawLine<'a> {
    checkpoint: Option<Checkpoint>,
    checkpoint_diff: Option<CheckpointDiff>,
    #[serde(borrow)]
    data: Option<RawData<'a>>,
    snapshot: Option<SnapshotLine>,
    checkpoint_complete: Option<CheckpointComplete>,
    partial_checkpoint_complete: Option<PartialCheckpointComplete>,
    token_expires_in: Option<i64>,
}

#[derive(Deserialize)]
struct RawData<'a> {
    bucket: String,
    #[serde(borrow)]
    data: Vec<RawOperation<'a>>,
}

#[derive(Deserialize)]
struct RawOperation<'a> {
    op_id: OpId,
    #[serde(borrow)]
    op: Cow<'a, str>,
    checksum: Checksum,
    #[serde(borrow, default)]
    object_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    object_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subkey: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
}

impl<'a> TryFrom<RawData<'a>> for DataLine<'a> {
    type Error = LineError;

    fn try_from(raw: RawData<'a>) -> Result<Self, LineError> {
        let operations = raw.data.into_iter().map(Operation::try_from).collect::<Result<_, _>>()?;
        Ok(Self { bucket: raw.bucket, operations })
    }
}

impl<'a> TryFrom<RawOperation<'a>> for Operation<'a> {
    type Error = LineError;

    fn try_from(raw: RawOperation<'a>) -> Result<Self, LineError> {
        let row = match (raw.object_type, raw.object_id) {
            (Some(object_type), Some(object_id)) => {
                let subkey = raw.subkey.unwrap_or_default();
                Some(RowKey { object_type, object_id, subkey })
            }
            _ => None,
        };

        let body = match &*raw.op {
            "PUT" => Body::Put {
                row: row.ok_or_else(|| incomplete(raw.op_id, "PUT", "object_type or object_id"))?,
                data: raw.data.ok_or_else(|| incomplete(raw.op_id, "PUT", "data"))?,
            },
            "REMOVE" => Body::Remove {
                row: row
                    .ok_or_else(|| incomplete(raw.op_id, "REMOVE", "object_type or object_id"))?,
            },
            "MOVE" => Body::Move,
            "CLEAR" => Body::Clear,
            other => {
                return Err(LineError::UnknownKind { op_id: raw.op_id, kind: other.to_owned() });
            }
        };

        Ok(Self { op_id: raw.op_id, checksum: raw.checksum, body })
    }
}

fn incomplete(op_id: OpId, kind: &str, missing: &'static str) -> LineError {
    LineError::Incomplete { op_id, kind: kind.to_owned(), missing }
}

#[cfg(test)]
mod tests;
