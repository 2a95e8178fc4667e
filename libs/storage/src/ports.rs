//! The ports: small traits, each with what it guarantees.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::OpId;

use crate::bucket::BucketItem;
use crate::committed_ops::ClosedEpoch;
use crate::control::{Control, Generation, GenerationId};
use crate::error::StorageError;
use crate::keys::{BucketKey, LookupKey, RecordKey, Tag};
use crate::segment::Segment;
use crate::versioned_record::VersionedRecord;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

/// Everything that is stored. Cheap to clone; clones are the same store.
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
    + Clone
    + 'static
{
}

/// How a conditional write of the control record ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The record is now the new one.
    Swapped,
    /// It was another than expected, and still is: this one.
    Conflict(Option<Box<Control>>),
}

/// The control record and what it refers to.
pub trait ControlStore: Send + Sync {
    /// The record as last written; `None` before the first. Read strongly.
    fn control(&self) -> impl Future<Output = Result<Option<Control>, StorageError>> + Send;

    /// Writes the record durably if the stored one has the revision `expected` (`None`: if there
    /// is none). Finding exactly `new` stored counts as done: a reply was lost.
    ///
    /// Everything that earlier calls of the same process stored is durable too when it returns.
    fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> impl Future<Output = Result<SwapOutcome, StorageError>> + Send;

    /// Returns once the record may have another revision than `seen`, or after `timeout`.
    fn wait_for_control_change(
        &self,
        seen: u64,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// The closed epochs that the record no longer names itself. They never change.
    fn archived_epochs(
        &self,
    ) -> impl Future<Output = Result<Vec<ClosedEpoch>, StorageError>> + Send;

    /// Adds closed epochs to the archive; adding one twice is adding it once.
    fn archive_epochs(
        &self,
        epochs: &[ClosedEpoch],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// A generation by its name.
    fn generation(
        &self,
        id: GenerationId,
    ) -> impl Future<Output = Result<Option<Generation>, StorageError>> + Send;

    /// Stores a generation under its name.
    fn put_generation(
        &self,
        generation: &Generation,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// A conditional write of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// Which cell.
    pub key: RecordKey,
    /// Top of the cell as the writer knows it; `None` is "not there".
    pub expected_newest: Option<OpId>,
    /// The cell as it is to be.
    pub record: VersionedRecord,
}

/// A cell write that did not happen, since the stored cell is another than the writer knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConflict {
    /// Which cell.
    pub key: RecordKey,
    /// The cell as it is stored.
    pub stored: Option<VersionedRecord>,
}

/// What one flush stores.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Whole segments; storing one twice is storing it once.
    pub segments: Vec<Segment>,
    /// Cells, each on its condition; at most one write for a cell.
    pub records: Vec<RecordWrite>,
    /// Buckets that may be new.
    pub registry: Vec<BucketKey>,
    /// Buckets that need compaction. Each task replaces the queued task of its bucket without a
    /// condition.
    pub compaction_tasks: Vec<CompactionTask>,
}

impl Batch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { segments, records, registry, compaction_tasks } = self;
        segments.is_empty()
            && records.is_empty()
            && registry.is_empty()
            && compaction_tasks.is_empty()
    }
}

/// What changes in place, for its one writer: the worker.
pub trait RecordStore: Send + Sync {
    /// The stored cells, in the order of the keys; `None` where there is none. Read strongly.
    fn records(
        &self,
        keys: &[RecordKey],
    ) -> impl Future<Output = Result<Vec<Option<VersionedRecord>>, StorageError>> + Send;

    /// Stores a batch, in no order and not as a whole: nothing in it counts before a later
    /// [`ControlStore::swap_control`] passes it. Repeating a batch after an error is safe.
    ///
    /// A cell is written if its stored top is `expected_newest`, or already the new cell's own top (a
    /// reply was lost); the others are returned.
    ///
    /// # Errors
    /// Any error: some of it may be stored.
    fn write(
        &self,
        batch: &Batch,
    ) -> impl Future<Output = Result<Vec<RecordConflict>, StorageError>> + Send;
}

/// Some of a bucket's segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentPage {
    /// Ascending by last op id; dead ones included.
    pub segments: Vec<Segment>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// Runs of operations, by bucket.
pub trait OpLog: Send + Sync {
    /// Segments whose last op id lies in `(after, upto]`, from the lowest on: at least one if
    /// there is one, and no more once their payloads exceed `bytes_max`. May miss what was written
    /// a moment ago: the chain of `prev` and sums tells.
    fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> impl Future<Output = Result<SegmentPage, StorageError>> + Send;

    /// Deletes the segments whose last op id is at most `upto`, dead ones included.
    fn delete_segments(
        &self,
        bucket: &BucketKey,
        upto: OpId,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// Heads and catalogs, for readers and the builder.
pub trait BucketStore: Send + Sync {
    /// The stored items, in the order of the keys; `None` where there is none. Read strongly.
    fn buckets(
        &self,
        keys: &[BucketKey],
    ) -> impl Future<Output = Result<Vec<Option<BucketItem>>, StorageError>> + Send;

    /// Replaces the catalog of a bucket that exists, if its revision is still `expected`; the new
    /// revision is `expected + 1`. Returns whether it did; finding exactly that stored counts.
    fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

/// One source row's answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRow {
    /// Identity of the source row.
    pub source: Arc<str>,
    /// Versions of its outputs.
    pub record: VersionedRecord,
}

/// Parameter lookups, for readers.
pub trait LookupStore: Send + Sync {
    /// For each key all rows that ever answered it and are still stored. Read strongly.
    fn lookup_rows(
        &self,
        keys: &[LookupKey],
    ) -> impl Future<Output = Result<Vec<Vec<LookupRow>>, StorageError>> + Send;
}

/// Which buckets exist.
pub trait Registry: Send + Sync {
    /// Buckets of a tag after a given one, ascending, at most `limit`. Includes buckets that were
    /// written but never committed.
    fn registered_buckets(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BucketKey>, StorageError>> + Send;
}

/// Tickets and requests of write checkpoints.
pub trait WriteCheckpointStore: Send + Sync {
    /// The last ticket taken.
    fn last_ticket(&self) -> impl Future<Output = Result<Ticket, StorageError>> + Send;

    /// Takes the next ticket, durably; tickets start at 1, and none is ever given twice. A ticket
    /// taken in vain does no harm.
    fn take_ticket(&self) -> impl Future<Output = Result<Ticket, StorageError>> + Send;

    /// Returns once the last ticket may be another than `seen`, or after `timeout`.
    fn wait_for_ticket(
        &self,
        seen: Ticket,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// A client's requests; the default where there are none. Read strongly.
    fn write_requests(
        &self,
        client: &ClientKey,
    ) -> impl Future<Output = Result<WriteRequests, StorageError>> + Send;

    /// Stores a client's requests if the stored revision is `requests.revision - 1`. Returns
    /// whether it did; finding exactly `requests` stored counts.
    fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

/// Whole files under names that are used once. A name is parts joined by `/`, none of them empty,
/// `.` or `..`; any other is an error.
pub trait ObjectStore: Send + Sync {
    /// Stores an object under a name never used before, whole or not at all, durably. Repeating it
    /// with the same content is safe.
    fn put_object(
        &self,
        name: &str,
        content: Bytes,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Stores the content of a file, as [`ObjectStore::put_object`] does.
    ///
    /// # Errors
    /// Besides those of storage: when the file cannot be read.
    fn put_object_file(
        &self,
        name: &str,
        file: &Path,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// An address under which anybody can GET the object, ranges too, until `lifetime` has passed.
    /// `None` if this store has no address of its own: then whoever serves it must.
    fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Option<String>, StorageError>> + Send;

    /// A range of an object's bytes, as far as the object goes; `None` if there is no such object.
    fn object_range(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;

    /// Deletes an object; one that is not there is deleted.
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

/// Removal of what belongs to generations that nobody needs any more. Every call may be repeated,
/// and goes on where an earlier one was cut off.
pub trait Sweep: Send + Sync {
    /// All generations that are stored, ascending.
    fn generations(&self) -> impl Future<Output = Result<Vec<GenerationId>, StorageError>> + Send;

    /// Deletes all that is stored of a bucket but its objects; its registration at last.
    fn delete_bucket(
        &self,
        bucket: &BucketKey,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Deletes all answers to a lookup.
    fn delete_lookup(&self, tag: &Tag) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Deletes a generation's source rows and its copy's progress; its record at last.
    fn delete_generation(
        &self,
        id: GenerationId,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}
