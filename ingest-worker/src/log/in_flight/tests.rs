use tidewater_protocol::Epoch;
use tidewater_storage::conformance::first_control;
use tidewater_storage::{
    BucketKey, ControlStore, Embedded, Faulty, GenerationId, Lsn, Nonce, RecordKey, RecordStore,
    Segment, SegmentWriter, SourceRowPage,
};

use super::*;

fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

fn op(epoch_number: u32, sequence: u64) -> OpId {
    OpId::new(epoch(epoch_number), sequence)
}

fn key(row: &str) -> RecordKey {
    RecordKey::SourceRow(GenerationId(epoch(1)), 0, row.into())
}

fn version(op: OpId) -> Version {
    Version { op, value: Some("value".into()) }
}

/// Retention for a run of epoch 2 that has committed nothing yet; epoch 1 had committed up to 5.
fn retention() -> RetentionContext {
    let mut control = first_control();
    control.epoch = epoch(1);
    control.committed.op = op(1, 5);
    let (next, _) = control.after_takeover(Nonce("n".into())).unwrap();
    RetentionContext {
        committed_ops: Arc::new(next.committed_ops(&[])),
        visible: None,
        recent: Vec::new(),
    }
}

fn record(newest: OpId) -> VersionedRecord {
    VersionedRecord { floor: OpId::ZERO, versions: vec![version(newest)] }
}

fn conflict(stored: Option<OpId>) -> RecordConflict {
    RecordConflict { key: key("a"), stored: stored.map(record) }
}

/// Returns the operations of the record that is built over what is stored, newest first.
fn rebuilt(stored: Option<OpId>, new: OpId) -> Result<Vec<OpId>, WriteError> {
    let write = rebuild(conflict(stored), version(new), &retention())?;
    assert_eq!(write.expected_newest, stored, "the condition of the write");
    Ok(write.record.versions.iter().map(|version| version.op).collect())
}

/// Returns a batch with one write of the record `row`, as of a run that knows nothing of it.
fn batch(row: &str, new: OpId) -> Batch {
    let write = RecordWrite { key: key(row), expected_newest: None, record: Arc::new(record(new)) };
    Batch { records: vec![write], ..Batch::default() }
}

#[test]
fn a_record_that_expired_is_written_as_a_new_one() {
    assert_eq!(rebuilt(None, op(2, 7)).unwrap(), [op(2, 7)]);
}

#[test]
fn an_uncommitted_version_of_an_earlier_run_is_dropped() {
    assert_eq!(rebuilt(Some(op(1, 6)), op(2, 7)).unwrap(), [op(2, 7)]);
}

#[test]
fn a_committed_version_of_an_earlier_run_is_kept_below_the_new_one() {
    assert_eq!(rebuilt(Some(op(1, 5)), op(2, 7)).unwrap(), [op(2, 7), op(1, 5)]);
}

#[test]
fn a_record_that_a_later_run_wrote_fences_this_one() {
    assert!(matches!(rebuilt(Some(op(3, 1)), op(2, 7)), Err(WriteError::Fenced)));
}

#[test]
fn an_unknown_version_of_this_very_run_is_contention() {
    assert!(matches!(rebuilt(Some(op(2, 6)), op(2, 7)), Err(WriteError::Contended)));
    // Its own version is the one that it is writing: a reply was lost.
    assert_eq!(rebuilt(Some(op(2, 7)), op(2, 7)).unwrap(), [op(2, 7)]);
}

#[tokio::test]
async fn a_batch_without_a_swap_is_stored_and_not_committed() {
    let storage = Embedded::temporary().unwrap();
    let result = store_and_commit(&storage, batch("a", op(2, 7)), None, &retention()).await;
    let result = result.unwrap();
    assert!(result.rebuilt.is_empty() && result.committed.is_none());
    assert!(storage.records(&[key("a")]).await.unwrap()[0].is_some());
    assert_eq!(storage.control().await.unwrap(), None);
}

/// Stores a control record, and returns the swap that commits up to `lsn` after it.
async fn committing(storage: &Embedded, lsn: u64) -> ControlSwap {
    let control = first_control();
    let swapped = storage.swap_control(None, &control).await.unwrap();
    assert_eq!(swapped, SwapOutcome::Swapped);
    let mut committed = control.committed;
    committed.lsn = Lsn(lsn);
    let next = control.after_commit(committed, Vec::new(), None);
    ControlSwap { expected_revision: control.revision, next }
}

#[tokio::test]
async fn a_unit_is_committed_after_it_is_stored() {
    let storage = Embedded::temporary().unwrap();
    let swap = committing(&storage, 9).await;
    let result = store_and_commit(&storage, batch("a", op(2, 7)), Some(swap), &retention()).await;
    let committed = result.unwrap().committed.unwrap();
    assert_eq!(committed.committed.lsn, Lsn(9));
    assert_eq!(storage.control().await.unwrap(), Some(committed));
}

#[tokio::test]
async fn nothing_is_committed_when_storing_fails() {
    let storage = Embedded::temporary().unwrap();
    let swap = committing(&storage, 9).await;
    let full = Faulty::new(storage.clone(), "write:1:full".parse().unwrap());
    let result = store_and_commit(&full, batch("a", op(2, 7)), Some(swap), &retention()).await;
    assert!(matches!(result, Err(WriteError::StorageFull(_))), "{result:?}");
    let stored = storage.control().await.unwrap().unwrap();
    assert_eq!(stored.revision, first_control().revision);
}

#[tokio::test]
async fn nothing_is_committed_when_a_record_belongs_to_a_later_run() {
    let storage = Embedded::temporary().unwrap();
    let swap = committing(&storage, 9).await;
    storage.write(Arc::new(batch("a", op(3, 1)))).await.unwrap();
    let result = store_and_commit(&storage, batch("a", op(2, 7)), Some(swap), &retention()).await;
    assert!(matches!(result, Err(WriteError::Fenced)), "{result:?}");
    let stored = storage.control().await.unwrap().unwrap();
    assert_eq!(stored.revision, first_control().revision);
}

#[tokio::test]
async fn a_swap_that_another_worker_came_before_fences_this_run() {
    let storage = Embedded::temporary().unwrap();
    let mut swap = committing(&storage, 9).await;
    swap.expected_revision -= 1;
    let result = store_and_commit(&storage, Batch::default(), Some(swap), &retention()).await;
    assert!(matches!(result, Err(WriteError::Fenced)), "{result:?}");
}

#[tokio::test]
async fn a_record_is_written_again_over_what_an_earlier_run_left() {
    let storage = Embedded::temporary().unwrap();
    storage.write(Arc::new(batch("a", op(1, 6)))).await.unwrap();
    let result = store_and_commit(&storage, batch("a", op(2, 7)), None, &retention()).await;
    let rebuilt = result.unwrap().rebuilt;
    assert_eq!(rebuilt.len(), 1);
    let stored = storage.records(&[key("a")]).await.unwrap().remove(0);
    assert_eq!(stored.as_ref(), Some(&*rebuilt[0].record));
    assert_eq!(stored.unwrap().newest_op(), op(2, 7));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_any_call_is_found_to_be_done() {
    for fault in ["write:1:lose_reply", "swap_control:1:lose_reply"] {
        let storage = Embedded::temporary().unwrap();
        let swap = committing(&storage, 9).await;
        let faulty = Faulty::new(storage.clone(), fault.parse().unwrap());
        let retention = retention();
        let result = store_and_commit(&faulty, batch("a", op(2, 7)), Some(swap), &retention).await;
        assert!(result.unwrap().committed.is_some(), "{fault}");
    }
}

#[tokio::test]
async fn waiting_may_be_cancelled_and_repeated() {
    let storage = Embedded::temporary().unwrap();
    let swap = committing(&storage, 9).await;
    let mut write = InFlightWrite::start(storage, batch("a", op(2, 7)), Some(swap), retention());
    assert_eq!(write.next_control().unwrap().committed.lsn, Lsn(9));
    {
        let waiting = std::pin::pin!(write.wait());
        assert!(futures::FutureExt::now_or_never(waiting).is_none());
    }
    write.wait().await;
    write.wait().await;
    assert!(write.into_result().unwrap().committed.is_some());
}

#[tokio::test]
async fn segments_are_stored_with_their_batch() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = SegmentWriter::default();
    let body = tidewater_protocol::Body::Put {
        row: tidewater_protocol::RowKey::new("t", "1", "0"),
        data: "{}".into(),
    };
    let checksum = body.checksum().unwrap();
    writer.push(&tidewater_protocol::Operation { op_id: op(2, 7), checksum, body });
    let bucket = BucketKey::from_stored("aaaaaa[]");
    let segment: Segment = writer.finish(bucket.clone(), OpId::ZERO, Default::default());

    let batch = Batch { segments: vec![segment.clone()], ..Batch::default() };
    store_and_commit(&storage, batch, None, &retention()).await.unwrap();

    let page =
        tidewater_storage::OpLog::segments(&storage, &bucket, OpId::ZERO, OpId::MAX, usize::MAX);
    assert_eq!(page.await.unwrap().segments, [segment]);
}

/// A store in which a run of an earlier epoch, which does not know that it was overtaken, still
/// writes the same record just before each of the first writes.
struct Contested {
    storage: Embedded,
    /// Writes of the other run that are still to come.
    remaining: std::sync::atomic::AtomicU64,
}

impl Contested {
    fn new(rival_writes: u64) -> Self {
        Self { storage: Embedded::temporary().unwrap(), remaining: rival_writes.into() }
    }
}

impl RecordStore for Contested {
    async fn records(
        &self,
        keys: &[RecordKey],
    ) -> Result<Vec<Option<VersionedRecord>>, StorageError> {
        self.storage.records(keys).await
    }

    async fn source_rows(
        &self,
        generation: GenerationId,
        table: u16,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SourceRowPage, StorageError> {
        self.storage.source_rows(generation, table, after, limit).await
    }

    async fn write(&self, batch: Arc<Batch>) -> Result<Vec<RecordConflict>, StorageError> {
        use std::sync::atomic::Ordering;

        let remaining = self.remaining.load(Ordering::Relaxed);
        if remaining > 0 {
            self.remaining.store(remaining - 1, Ordering::Relaxed);
            let stored = self.records(&[key("a")]).await?.remove(0);
            let mut rival = self::batch("a", op(1, 100 - remaining));
            rival.records[0].expected_newest = stored.as_ref().map(VersionedRecord::newest_op);
            assert!(self.storage.write(Arc::new(rival)).await?.is_empty());
        }
        self.storage.write(batch).await
    }
}

/// Stores a record while another run writes it so many times.
async fn store_contested(rival_writes: u64) -> (Contested, Result<Vec<RecordWrite>, WriteError>) {
    let contested = Contested::new(rival_writes);
    let batch = Arc::new(batch("a", op(2, 7)));
    let conflicts = store(&contested, &batch).await.unwrap();
    let result = resolve_conflicts(&contested, &batch.records, conflicts, &retention()).await;
    (contested, result)
}

#[tokio::test]
async fn a_record_is_written_three_times_before_it_counts_as_contended() {
    for (rival_writes, rebuilt) in [(0, 0), (1, 1), (2, 1)] {
        let (contested, result) = store_contested(rival_writes).await;
        assert_eq!(result.unwrap().len(), rebuilt, "the last write of each record, {rival_writes}");
        let stored = contested.records(&[key("a")]).await.unwrap().remove(0).unwrap();
        assert_eq!(stored.newest_op(), op(2, 7));
    }
    for rival_writes in [3, 4] {
        let (contested, result) = store_contested(rival_writes).await;
        assert!(matches!(result, Err(WriteError::Contended)), "{rival_writes}: {result:?}");
        let stored = contested.records(&[key("a")]).await.unwrap().remove(0).unwrap();
        assert_eq!(
            stored.newest_op().epoch(),
            Some(epoch(1)),
            "nothing of the other run is overwritten"
        );
    }
}

#[tokio::test]
async fn only_the_records_that_were_refused_are_written_again() {
    let storage = Embedded::temporary().unwrap();
    storage.write(Arc::new(batch("a", op(1, 5)))).await.unwrap();
    let mut both = batch("a", op(2, 7));
    both.records.extend(batch("b", op(2, 8)).records);

    let result = store_and_commit(&storage, both, None, &retention()).await.unwrap();
    let rebuilt: Vec<_> = result.rebuilt.iter().map(|write| write.key.clone()).collect();
    assert_eq!(rebuilt, [key("a")]);
    let stored = storage.records(&[key("a"), key("b")]).await.unwrap();
    let versions: Vec<Vec<_>> = stored
        .into_iter()
        .map(|record| record.unwrap().versions.iter().map(|version| version.op).collect())
        .collect();
    assert_eq!(versions, [vec![op(2, 7), op(1, 5)], vec![op(2, 8)]]);
}

#[test]
fn only_records_that_readers_read_keep_versions_for_their_checkpoints() {
    let retention =
        RetentionContext { visible: Some(op(1, 4)), recent: vec![op(1, 3)], ..retention() };
    let versions = [5, 4, 3, 2].map(|sequence| version(op(1, sequence))).to_vec();
    let stored = VersionedRecord { floor: OpId::ZERO, versions };
    let kept = |key: &RecordKey| -> Vec<OpId> {
        let record = retention.with_version(key, Some(&stored), version(op(2, 7)));
        record.versions.iter().map(|version| version.op).collect()
    };

    let head = RecordKey::Bucket(BucketKey::from_stored("k7m2qa[]"));
    assert_eq!(kept(&head), [op(2, 7), op(1, 5), op(1, 4), op(1, 3)]);
    assert_eq!(
        kept(&key("a")),
        [op(2, 7), op(1, 5)],
        "a killed run must not lose the committed one"
    );
}
