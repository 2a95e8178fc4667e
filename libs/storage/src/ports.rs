//! The ports: small traits, each with its guarantees.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::OpId;

use crate::bucket::BucketItem;
use crate::committed_ops::ClosedEpoch;
use crate::control::Control;
use crate::error::StorageError;
use crate::generation::Generation;
use crate::keys::{BucketKey, GenerationId, LookupKey, RecordKey, Tag};
use crate::segment::Segment;
use crate::versioned_record::VersionedRecord;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

/// All ports together. Clones share one store and are cheap.
pub trait Storage:
    ControlStore
    + RecordStore
    + OpLog
    + BucketStore
    + LookupStore
    + Registry
    + WriteCheckpointStore
    + ObjectStore
    + CompactionQueue
    + Sweep
    + AccessProbe
    + Clone
    + 'static
{
}

/// The check that the ingest worker makes before it writes to a store or to its source.
pub trait AccessProbe: Send + Sync {
    /// Uses each part of the store once, with the rights that the ingest worker needs. Nothing that
    /// anyone reads is changed. Probes of several workers at once do not disturb each other.
    ///
    /// # Errors
    /// `Refused` if a part does not exist or a right is missing. Its cause names it.
    fn probe_access(&self) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// The outcome of a conditional write of the control record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The new record is stored.
    Swapped,
    /// Another record than the expected one is stored, namely this one. Nothing was written.
    Conflict(Option<Box<Control>>),
}

/// The control record and the records that it refers to.
///
/// Reads are strongly consistent. A swap is atomic and durable, and is the commit of everything that
/// was stored before it.
pub trait ControlStore: Send + Sync {
    /// Returns the current record, or `None` before the first one is written.
    fn control(&self) -> impl Future<Output = Result<Option<Control>, StorageError>> + Send;

    /// Replaces the record if the stored revision is `expected` (`None`: if no record exists).
    ///
    /// If exactly `new` is already stored, the call returns `Swapped`: an earlier attempt succeeded
    /// and its reply was lost. On return everything that earlier calls of this process have stored
    /// is durable as well.
    ///
    /// # Errors
    /// `Unknown` if the write may have succeeded: repeat the call with the same arguments.
    fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> impl Future<Output = Result<SwapOutcome, StorageError>> + Send;

    /// Waits until the stored revision may differ from `seen`, at most for `timeout`. Spurious
    /// returns are possible.
    fn wait_for_control_change(
        &self,
        seen: u64,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Returns the closed epochs that are no longer part of the control record. They never change.
    fn archived_epochs(
        &self,
    ) -> impl Future<Output = Result<Vec<ClosedEpoch>, StorageError>> + Send;

    /// Adds closed epochs to the archive. The call is idempotent.
    fn archive_epochs(
        &self,
        epochs: &[ClosedEpoch],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Returns a generation by its id.
    fn generation(
        &self,
        id: GenerationId,
    ) -> impl Future<Output = Result<Option<Generation>, StorageError>> + Send;

    /// Stores a generation under its id. The call is idempotent.
    fn put_generation(
        &self,
        generation: &Generation,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// A conditional write of a versioned record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// The key of the record.
    pub key: RecordKey,
    /// The newest op id that the writer expects to be stored, or `None` if it expects no record.
    pub expected_newest: Option<OpId>,
    /// The record to store. It is shared with the writer's cache, not copied.
    pub record: Arc<VersionedRecord>,
}

/// A record write that was rejected, because the stored record is not the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConflict {
    /// The key of the record.
    pub key: RecordKey,
    /// The record that is stored.
    pub stored: Option<VersionedRecord>,
}

/// The content of one flush.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Segments, stored without a condition. Storing one twice is idempotent.
    pub segments: Vec<Segment>,
    /// Conditional record writes, at most one for each key.
    pub records: Vec<RecordWrite>,
    /// Buckets that may be new.
    pub registry: Vec<BucketKey>,
    /// Buckets that need compaction. Each task replaces the queued task of its bucket without a
    /// condition.
    pub compaction_tasks: Vec<CompactionTask>,
}

impl Batch {
    /// Returns whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { segments, records, registry, compaction_tasks } = self;
        segments.is_empty()
            && records.is_empty()
            && registry.is_empty()
            && compaction_tasks.is_empty()
    }
}

/// A page of the names of a table's source rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRowPage {
    /// The names.
    pub names: Vec<Arc<str>>,
    /// The place at which the next page begins; `None` after the last one. Only the store that
    /// returned it can read it.
    pub next: Option<String>,
}

/// Versioned records, for their only writer: the ingest worker.
pub trait RecordStore: Send + Sync {
    /// Returns the stored records in the order of the keys, `None` for those that do not exist. The
    /// read is strongly consistent.
    fn records(
        &self,
        keys: &[RecordKey],
    ) -> impl Future<Output = Result<Vec<Option<VersionedRecord>>, StorageError>> + Send;

    /// Returns the names of a table's stored source rows, about `limit` at a time, from the place where
    /// the former page ended. Each name that is stored during all of the calls is in exactly one page,
    /// in no particular order. The result includes records whose newest version is a deletion, and
    /// records that were written but never committed. The read is strongly consistent.
    fn source_rows(
        &self,
        generation: GenerationId,
        table: u16,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<SourceRowPage, StorageError>> + Send;

    /// Stores a batch, in no particular order and not atomically. Its content stays uncommitted until
    /// a later [`ControlStore::swap_control`] commits it.
    ///
    /// A record is written if its stored newest op id is `expected_newest`, or is already that of the
    /// new record (an earlier attempt succeeded and its reply was lost). The call returns the
    /// conflicts of all other records.
    ///
    /// # Errors
    /// After any error a part of the batch may be stored. Repeat the call with the same batch.
    fn write(
        &self,
        batch: Arc<Batch>,
    ) -> impl Future<Output = Result<Vec<RecordConflict>, StorageError>> + Send;
}

/// A page of a bucket's segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentPage {
    /// Segments in ascending order of their last op id, including uncommitted ones.
    pub segments: Vec<Segment>,
    /// True if more segments follow.
    pub has_more: bool,
}

/// The log of operations of each bucket.
pub trait OpLog: Send + Sync {
    /// Returns segments whose last op id is in `(after, upto]`, lowest first.
    ///
    /// A page contains at least one segment if there is one, and ends once its payloads exceed
    /// `bytes_max`. The read is eventually consistent: recently written segments may be missing. A
    /// [`SegmentChain`](crate::SegmentChain) detects that.
    fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> impl Future<Output = Result<SegmentPage, StorageError>> + Send;

    /// Deletes the segments whose last op id is at most `upto`, including uncommitted ones. An
    /// interrupted deletion is completed by repeating the call.
    fn delete_segments(
        &self,
        bucket: &BucketKey,
        upto: OpId,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// Bucket heads and catalogs, for readers and the snapshot builder.
pub trait BucketStore: Send + Sync {
    /// Returns the stored items in the order of the keys, `None` for those that do not exist. The
    /// read is strongly consistent; head and catalog of a bucket are read atomically.
    fn buckets(
        &self,
        keys: &[BucketKey],
    ) -> impl Future<Output = Result<Vec<Option<BucketItem>>, StorageError>> + Send;

    /// Replaces the catalog of an existing bucket if its revision is `expected`, atomically and
    /// durably. The new revision is `expected + 1`.
    ///
    /// Returns whether the catalog is stored. If exactly this catalog and revision are already
    /// stored, an earlier attempt succeeded and the call returns true.
    fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

/// One answer of a source row to a parameter lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRow {
    /// The name of the answer: see [`answer_name`](crate::answer_name()).
    pub answer_name: Arc<str>,
    /// The versions of its output.
    pub record: VersionedRecord,
}

/// Parameter lookups, for readers.
pub trait LookupStore: Send + Sync {
    /// Returns for each key all stored rows, including those whose newest version is a deletion. The
    /// read is strongly consistent.
    fn lookup_rows(
        &self,
        keys: &[LookupKey],
    ) -> impl Future<Output = Result<Vec<Vec<LookupRow>>, StorageError>> + Send;
}

/// The registry of existing buckets.
pub trait Registry: Send + Sync {
    /// Returns at most `limit` buckets of a tag after the given one, in ascending order. The result
    /// includes buckets that were written but never committed.
    fn registered_buckets(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BucketKey>, StorageError>> + Send;
}

/// Tickets and requests of write checkpoints. Writes are atomic and durable.
pub trait WriteCheckpointStore: Send + Sync {
    /// Returns the last ticket that was taken.
    fn last_ticket(&self) -> impl Future<Output = Result<Ticket, StorageError>> + Send;

    /// Takes the next ticket. Tickets start at 1 and are never issued twice. An unused ticket is
    /// harmless.
    fn take_ticket(&self) -> impl Future<Output = Result<Ticket, StorageError>> + Send;

    /// Waits until the last ticket may differ from `seen`, at most for `timeout`. Returns the newest ticket
    /// that the wait has found: later ones may have been taken. Spurious returns are possible.
    fn wait_for_ticket(
        &self,
        seen: Ticket,
        timeout: Duration,
    ) -> impl Future<Output = Result<Ticket, StorageError>> + Send;

    /// Returns the requests of a client, or the default if there are none. The read is strongly
    /// consistent.
    fn write_requests(
        &self,
        client: &ClientKey,
    ) -> impl Future<Output = Result<WriteRequests, StorageError>> + Send;

    /// Stores the requests of a client if the stored revision is `requests.revision - 1`.
    ///
    /// Returns whether they are stored. If exactly `requests` is already stored, an earlier attempt
    /// succeeded and the call returns true.
    fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

/// Immutable objects, each under a name that is used once.
///
/// A name consists of parts joined by `/`. No part is empty, `.` or `..`; every call rejects such a
/// name with `Refused`.
pub trait ObjectStore: Send + Sync {
    /// Stores an object atomically and durably under a name that was never used before. Repeating the
    /// call with the same content is safe.
    fn put_object(
        &self,
        name: &str,
        content: Bytes,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Stores the content of a file like [`ObjectStore::put_object`].
    ///
    /// # Errors
    /// Also if the file cannot be read.
    fn put_object_file(
        &self,
        name: &str,
        file: &Path,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Returns a URL from which every client can GET the object, including ranges of it, for `lifetime`.
    /// Returns `None` if this store has no HTTP endpoint; then the caller has to serve the object.
    fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Option<String>, StorageError>> + Send;

    /// Returns a range of an object's bytes, cut at its end, or `None` if the object does not exist.
    fn object_range(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;

    /// Deletes an object. The call is idempotent.
    fn delete_object(&self, name: &str) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// A bucket that needs compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionTask {
    /// The bucket.
    pub bucket: BucketKey,
    /// The operation whose write queued the task; it identifies this version of the task.
    pub triggered_by: OpId,
    /// Earliest time of processing in seconds since 1970; 0 is immediately.
    pub not_before: u64,
}

impl CompactionTask {
    /// Creates a task that may be processed immediately.
    #[must_use]
    pub const fn immediate(bucket: BucketKey, triggered_by: OpId) -> Self {
        Self { bucket, triggered_by, not_before: 0 }
    }
}

/// The compaction tasks of the snapshot builder: at most one for each bucket.
pub trait CompactionQueue: Send + Sync {
    /// Returns at most `limit` tasks whose `not_before` is at or before `now` (seconds since 1970),
    /// in any order.
    fn due_tasks(
        &self,
        now: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<CompactionTask>, StorageError>> + Send;

    /// Removes a task if its `triggered_by` is still the given one: otherwise the bucket was
    /// written in between. Returns whether the task was removed.
    fn complete(
        &self,
        task: &CompactionTask,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Delays a task until `not_before` under the condition of [`CompactionQueue::complete`].
    /// Returns whether the task was delayed.
    fn defer(
        &self,
        task: &CompactionTask,
        not_before: u64,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

/// Deletion of generations that are no longer used. Every call is idempotent, and continues where an
/// interrupted one stopped.
pub trait Sweep: Send + Sync {
    /// Returns all stored generations in ascending order.
    fn generations(&self) -> impl Future<Output = Result<Vec<GenerationId>, StorageError>> + Send;

    /// Deletes everything that is stored of a bucket except its objects; its registry entry last.
    fn delete_bucket(
        &self,
        bucket: &BucketKey,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Deletes all answers to a lookup.
    fn delete_lookup(&self, tag: &Tag) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Deletes a generation's source rows and copy progress; its own record last.
    fn delete_generation(
        &self,
        id: GenerationId,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}
