//! The lines of the sync stream, as values.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Body, Checksum, OpId, Operation, RowKey};

/// One line of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncLine<'a> {
    /// All buckets of the connection at a checkpoint. The first line of every connection.
    Checkpoint(Checkpoint),
    /// What changed since the checkpoint last announced on this connection.
    CheckpointDiff(CheckpointDiff),
    /// Operations of one bucket.
    Data(DataLine<'a>),
    /// A bucket's rows as files, in place of `data` lines. Only for clients that asked for it.
    Snapshot(SnapshotLine),
    /// Everything of the checkpoint has been sent.
    CheckpointComplete(CheckpointComplete),
    /// Everything of the buckets up to a priority has been sent.
    PartialCheckpointComplete(PartialCheckpointComplete),
    /// Whole seconds until the token expires; also the keep-alive.
    TokenExpiresIn(i64),
    /// A line of a kind this version does not know: to be ignored.
    Unknown,
}

/// See [`SyncLine::Checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The checkpoint's position, which becomes the client's position in each bucket.
    pub last_op_id: OpId,
    /// The greatest acknowledged write checkpoint of this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_checkpoint: Option<OpId>,
    /// All of them: the client deletes every bucket not named here.
    pub buckets: Vec<BucketDescription>,
    /// The streams that the connection is subscribed to.
    #[serde(default)]
    pub streams: Vec<StreamDescription>,
}

/// See [`SyncLine::CheckpointDiff`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDiff {
    /// As in [`Checkpoint`].
    pub last_op_id: OpId,
    /// Replaces the former one, also when absent: always repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_checkpoint: Option<OpId>,
    /// New buckets, and those whose checksum or count changed.
    pub updated_buckets: Vec<BucketDescription>,
    /// Buckets that the client loses.
    pub removed_buckets: Vec<String>,
}

/// A bucket at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDescription {
    /// Its name, opaque to clients.
    pub bucket: String,
    /// Sum over all of its operations up to the checkpoint.
    pub checksum: Checksum,
    /// How many operations a fresh client is sent; for progress bars only.
    #[serde(default)]
    pub count: u64,
    /// When to send it relative to the others.
    #[serde(default)]
    pub priority: Priority,
    /// Why the client has it.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// 0 (most urgent) to 3 (the default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// A priority, if it is one.
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority <= 3 { Some(Self(priority)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

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
    type Error = String;
    fn try_from(priority: u8) -> Result<Self, String> {
        Self::new(priority).ok_or_else(|| format!("priority {priority} is not one of 0 to 3"))
    }
}

/// Why a client has a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    /// By a stream that subscribes by itself: its index in [`Checkpoint::streams`].
    Default(usize),
    /// By an explicit subscription: its index in the request.
    Sub(usize),
}

/// A stream that the connection is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDescription {
    /// Its name.
    pub name: String,
    /// Whether it subscribes by itself.
    pub is_default: bool,
    /// What could not be evaluated. Always present on the wire: clients insist on it.
    pub errors: Vec<StreamError>,
}

/// Why a subscription yields nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// Which one.
    pub subscription: SubscriptionRef,
    /// For the app's developer.
    pub message: String,
}

/// The default subscription, or an explicit one by its index in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SubscriptionRef {
    /// By index.
    Explicit(usize),
    /// The text `default`.
    Default(DefaultSubscription),
}

/// The text `default` in a [`SubscriptionRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultSubscription {
    /// The only value.
    Default,
}

impl SubscriptionRef {
    /// The default subscription.
    pub const DEFAULT: Self = Self::Default(DefaultSubscription::Default);
}

/// See [`SyncLine::CheckpointComplete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointComplete {
    /// Of the checkpoint last announced.
    pub last_op_id: OpId,
}

/// See [`SyncLine::PartialCheckpointComplete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialCheckpointComplete {
    /// Of the checkpoint last announced.
    pub last_op_id: OpId,
    /// Buckets of this priority and of more urgent ones are complete.
    pub priority: Priority,
}

/// Operations of one bucket, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLine<'a> {
    /// The bucket.
    pub bucket: String,
    /// The operations.
    pub operations: Vec<Operation<'a>>,
}

/// See [`SyncLine::Snapshot`]. What the client holds of the bucket is void; after this line it holds
/// the snapshot's rows, and stands at `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLine {
    /// The bucket.
    pub bucket: String,
    /// Identity of the snapshot within its deployment: an equal one has equal files.
    pub id: String,
    /// The bucket's operations up to this one are in it.
    pub to: OpId,
    /// Sum over all of the bucket's operations up to `to`.
    pub checksum: Checksum,
    /// Rows in all files together.
    pub rows: u64,
    /// How many operations it stands for in the bucket's `count`.
    pub count: u64,
    /// One or more; each row is in one of them.
    pub files: Vec<SnapshotFile>,
}

/// One file of a [`SnapshotLine`]: a SQLite database, compressed as zstd frames one after the
/// other. Each frame can be fetched, checked and unpacked by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Where to GET it (ranges too): absolute, or relative to the request's address. It expires;
    /// then the client asks again by a new stream.
    pub url: String,
    /// Bytes of the database once unpacked.
    pub raw_bytes: u64,
    /// The frames, in order; the first begins at byte 0 of the file.
    pub frames: Vec<SnapshotFrame>,
}

/// A part of a [`SnapshotFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFrame {
    /// Compressed.
    pub bytes: u64,
    /// Unpacked.
    pub raw_bytes: u64,
    /// SHA-256 of the unpacked bytes, in hexadecimal.
    pub sha256: String,
}

/// A line that cannot be read.
#[derive(Debug)]
pub struct LineError(String);

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed sync line: {}", self.0)
    }
}

impl std::error::Error for LineError {}

impl<'a> SyncLine<'a> {
    /// Reads one line of JSON. Operations borrow from it where they can. Kinds that are not known
    /// become [`SyncLine::Unknown`].
    ///
    /// # Errors
    /// When it is not a JSON object, or a known kind lacks what it must have.
    pub fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        let raw: RawLine<'a> =
            serde_json::from_slice(line).map_err(|error| LineError(error.to_string()))?;
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
        let missing =
            |field| LineError(format!("operation {} ({}) lacks {field}", raw.op_id, raw.op));
        let row = match (raw.object_type, raw.object_id) {
            (Some(object_type), Some(object_id)) => {
                let subkey = raw.subkey.unwrap_or_default();
                Some(RowKey { object_type, object_id, subkey })
            }
            _ => None,
        };
        let body = match &*raw.op {
            "PUT" => Body::Put {
                row: row.ok_or_else(|| missing("object_type or object_id"))?,
                data: raw.data.ok_or_else(|| missing("data"))?,
            },
            "REMOVE" => {
                Body::Remove { row: row.ok_or_else(|| missing("object_type or object_id"))? }
            }
            "MOVE" => Body::Move,
            "CLEAR" => Body::Clear,
            other => return Err(LineError(format!("unknown operation '{other}'"))),
        };
        Ok(Self { op_id: raw.op_id, checksum: raw.checksum, body })
    }
}

#[cfg(test)]
mod tests;
