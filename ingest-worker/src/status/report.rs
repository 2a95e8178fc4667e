//! The state as it is printed: its JSON form is described in `docs/status.md`.

use serde::Serialize;

/// The state of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// True if there is no problem.
    pub healthy: bool,
    /// The reasons why it is not healthy.
    pub problems: Vec<String>,
    /// Conditions that may become problems.
    pub warnings: Vec<String>,
    /// The worker; `None` if none has ever started on the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerStatus>,
    /// The answer of the source; `None` if no database was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceAnswer>,
    /// The replication slot; `None` if the source was not read or does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotStatus>,
    /// The sync configs that the worker maintains: the one in use first.
    pub configs: Vec<ConfigStatus>,
    /// The tables that are copied and followed.
    pub tables: Vec<TableStatus>,
    /// The bucket definitions of the config in use.
    pub definitions: Vec<DefinitionStatus>,
    /// The largest of the buckets that were examined, largest first.
    pub largest_buckets: Vec<BucketStatus>,
    /// The extent of the scan that the definitions and buckets come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_scan: Option<BucketScan>,
    /// The compaction queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<CompactionStatus>,
    /// The size of the store, where it is in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSize>,
    /// The streams that are open in the process that was asked, if it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

/// The ingest worker, as the store and its process know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// The number of its run.
    pub epoch: u32,
    /// The position of the source up to which everything is committed.
    pub committed_lsn: String,
    /// True once devices get a checkpoint.
    pub has_checkpoint: bool,
    /// True while a copy holds the checkpoint back.
    pub held_back: bool,
    /// The last time as of which the checkpoint had everything of the source, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_at_ms: Option<u64>,
    /// The milliseconds since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The reason why it does not replicate, if the process that was asked runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer of the source database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceAnswer {
    /// True if it could be read.
    pub reachable: bool,
    /// The reason why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The replication slot, as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotStatus {
    /// The name of the slot.
    pub name: String,
    /// True while a worker streams from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_status: Option<String>,
    /// The bytes from the confirmed position to the end of the WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// The bytes that the server keeps for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained_bytes: Option<u64>,
    /// The bytes that may be written before it is in danger; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_bytes: Option<u64>,
    /// The bytes that it may retain before the worker warns.
    pub budget_bytes: u64,
}

/// A sync config that the worker maintains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigStatus {
    /// The stage of the config.
    pub state: ConfigState,
    /// The number of its generation.
    pub generation: u32,
    /// The SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// The number of its bucket definitions.
    pub definitions: usize,
    /// The time until which it can come back at once, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<u64>,
    /// The text of the config.
    #[serde(skip)]
    pub text: String,
}

/// The place of a config in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigState {
    /// Devices have it.
    InUse,
    /// Devices get it once its rows are copied.
    OnItsWay,
    /// It was replaced, and is kept for a while.
    Kept,
}

/// A table of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// `schema.table`; `None` if only a pattern matches it and the source was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id in `pg_class`.
    pub oid: u32,
    /// The stage of its copy.
    pub copy: CopyStage,
    /// The rows of the table by the planner's estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_rows: Option<u64>,
    /// The progress of a copy, if the process that was asked runs the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<CopyProgress>,
    /// The number of its rows that are listed as not synced; `None` if the list cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsynced_rows: Option<u64>,
}

/// The stage of a table's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyStage {
    /// It has not begun.
    Waiting,
    /// Rows are being copied.
    Copying,
    /// Stored rows that the source no longer has are being removed.
    Removing,
    /// It is complete, and the table follows the stream.
    Done,
}

/// The rows that a run has copied of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopyProgress {
    /// Rows copied by this run.
    pub rows: u64,
    /// Seconds until the estimated number is reached, at the rate so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// A bucket definition. Its numbers are those of the buckets that were examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DefinitionStatus {
    /// The name, as bucket names have it.
    pub name: String,
    /// The number of buckets that were examined.
    pub buckets: u64,
    /// True if that is all of them.
    pub is_complete: bool,
    /// The operations that were ever written to these buckets.
    pub operations: u64,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketStatus {
    /// The name, as devices have it.
    pub name: String,
    /// The operations that were ever written to it.
    pub operations: u64,
    /// The snapshot, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
}

/// The snapshot of a bucket, which new devices get instead of its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotStatus {
    /// The rows that it has.
    pub rows: u64,
    /// The operations that were written since.
    pub operations_since: u64,
    /// The seconds since it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// The size of its files, compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The extent of a scan of the buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BucketScan {
    /// The number of buckets that were examined.
    pub examined: u64,
    /// True if that is all of them.
    pub is_complete: bool,
}

/// The compaction queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CompactionStatus {
    /// The number of buckets that are due.
    pub due: u64,
    /// True if that is all of them; otherwise there are more.
    pub is_complete: bool,
}

/// The size of a store in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StoreSize {
    /// Bytes of the SQLite file.
    pub database_bytes: u64,
    /// Bytes of its WAL.
    pub log_bytes: u64,
    /// Bytes of the snapshots.
    pub object_bytes: u64,
}
